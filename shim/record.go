package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"dstack/durable"
	"dstack/protocol/hostapi"
	"dstack/shim/wipe"
	"dstack/shim/workload"
)

const (
	recordName    = "task.json"
	recordVersion = 1
)

// record is what the shim keeps of a task, written before each step.
type record struct {
	Version int              `json:"version"`
	Spec    hostapi.TaskSpec `json:"spec"`
	// Task is what the controller is told.
	Task hostapi.Task `json:"task"`

	RunDir    string   `json:"run_dir,omitempty"`
	Owner     int      `json:"owner,omitempty"`
	GPUs      []string `json:"gpus,omitempty"`
	GPUVendor string   `json:"gpu_vendor,omitempty"`
	// Boot is the boot of the host at which it was launched.
	Boot string `json:"boot,omitempty"`
	// Launched is when; the log cannot be older.
	Launched time.Time `json:"launched,omitzero"`

	// Stop is the first request to stop; its Grace is the lowest of all.
	Stop   *hostapi.StopTask `json:"stop,omitempty"`
	StopAt time.Time         `json:"stop_at,omitzero"`
	// Warned says that the machine goes, if the job still ran when that came.
	Warned string `json:"warned,omitempty"`
	// Removing says that the task is to go with all that it left.
	Removing bool `json:"removing,omitempty"`
	// Published says that the journal has, or had, its final state.
	Published bool `json:"published,omitempty"`
}

// taskID is what may name a task: it becomes a file name.
var taskID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func (r record) ended() bool { return r.Task.State == hostapi.TaskTerminated }

// maxLog is how long the log can be at most. The agent keeps the quota, but
// root in its container can write what it likes into the file, a hole of any
// size too, which would have to be sent before the job could end.
func (r record) maxLog(now time.Time) int64 {
	quota := r.Spec.Job.LogQuotaHour
	if quota <= 0 {
		return mostLog
	}
	// The quota is for hours of the clock, of which the first and the last count.
	hours := max(int64(now.Sub(r.Launched)/time.Hour), 0) + 2
	if quota > mostLog/hours {
		return mostLog
	}
	return quota * hours
}

// mostLog is how long a log can be without a quota, in bytes: the default
// quota would let a job write for two months.
const mostLog = 64 << 30

// dropSecrets is the record without what is needed only until the launch.
func (r record) dropSecrets() record {
	r.Spec.RegistryUsername, r.Spec.RegistryPassword = "", ""
	r.Spec.Job.Env = nil
	r.Spec.Job.Commands = nil
	r.Spec.Job.Repo, r.Spec.Job.Files, r.Spec.Job.ClusterKey = nil, nil, ""
	return r
}

func (r record) workload(dir string) workload.Task {
	return workload.Task{
		ID: r.Task.ID, Spec: r.Spec, RunDir: r.RunDir, PrivateDir: dir,
		GPUs: r.GPUs, GPUVendor: r.GPUVendor, Owner: r.Owner,
	}
}

func saveRecord(dir string, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode task: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, recordName), data, 0o600); err != nil {
		return fmt.Errorf("keep task: %w", err)
	}
	return nil
}

func parseRecord(data []byte, id string) (record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("decode task: %w", err)
	}
	switch {
	case r.Version != recordVersion:
		return r, fmt.Errorf("task is of version %d, this shim knows %d", r.Version, recordVersion)
	case r.Task.ID != id:
		return r, fmt.Errorf("task in folder %s is %q", id, r.Task.ID)
	}
	switch r.Task.State {
	case hostapi.TaskPreparing, hostapi.TaskPulling, hostapi.TaskCreating, hostapi.TaskRunning, hostapi.TaskTerminated:
		return r, nil
	default:
		return r, fmt.Errorf("task is in unknown state %q", r.Task.State)
	}
}

// loadRecords reads all tasks below dir. A folder without a record is of a
// task that was never accepted, and is removed; one with a damaged record is
// reported as a failed task, so that nothing is run for it again.
func loadRecords(dir string) (map[string]record, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	records := map[string]record{}
	for _, e := range entries {
		folder := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(filepath.Join(folder, recordName))
		if errors.Is(err, fs.ErrNotExist) {
			if err := wipe.All(folder); err != nil {
				return nil, fmt.Errorf("remove folder without task: %w", err)
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read task: %w", err)
		}
		r, err := parseRecord(data, e.Name())
		if err != nil {
			r = record{Version: recordVersion, Task: hostapi.Task{
				ID: e.Name(), State: hostapi.TaskTerminated, Reason: reasonExecutor,
				Message: "The host lost its record of the job: " + err.Error(), PlainSize: new(int64),
			}}
		}
		records[e.Name()] = r
	}
	return records, nil
}
