package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// now is the time of all decisions under test.
func now() time.Time { return time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC) }

func ago(d time.Duration) *time.Time { t := now().Add(-d); return &t }

func ptr[T any](v T) *T { return &v }

func testRun(st api.RunStatus, change ...func(*store.Run)) *store.Run {
	name := "train"
	r := &store.Run{
		ID: "r1", ProjectID: "p1", UserID: "u1", Name: name, Status: st, SubmittedAt: *ago(time.Minute),
		Spec: api.RunSpec{RunName: &name, Configuration: config.Run{Task: &config.Task{Type: "task", Commands: []string{"true"}}}},
	}
	for _, c := range change {
		c(r)
	}
	return r
}

func testJob(st api.JobStatus, change ...func(*store.Job)) store.Job {
	j := store.Job{
		ID: "j1", RunID: "r1", ProjectID: "p1", RunName: "train", Status: st, SubmittedAt: *ago(time.Minute),
		LastProcessedAt: *ago(time.Second),
		Spec:            api.JobSpec{JobName: "train-0-0", JobsPerReplica: 1, ReplicaGroup: "0", StopDuration: ptr(300)},
	}
	for _, c := range change {
		c(&j)
	}
	return j
}

// on puts a job on the test's instance.
func on(task *hostapi.Task) func(*store.Job) {
	return func(j *store.Job) {
		j.InstanceID, j.UsedInstanceID, j.Blocks = ptr("i1"), ptr("i1"), 1
		j.Provisioning = &api.JobProvisioningData{Dockerized: true}
		j.Runtime = &api.JobRuntimeData{NetworkMode: "host", Offer: &api.Offer{Blocks: 1, TotalBlocks: 1}}
		j.Task = task
		if j.Status == api.JobRunning {
			j.RunningAt = ago(30 * time.Second)
		}
	}
}

func failed(reason api.JobReason) func(*store.Job) {
	return func(j *store.Job) { j.Reason, j.FinishedAt = &reason, ago(time.Second) }
}

// numbered makes another job of the run, j2.
func numbered(job, submission int) func(*store.Job) {
	return func(j *store.Job) {
		j.ID, j.JobNum, j.SubmissionNum = "j2", job, submission
		j.Spec.JobNum, j.Spec.JobName = job, fmt.Sprintf("train-%d-0", job)
	}
}

func retries(events ...string) func(*store.Job) {
	return func(j *store.Job) { j.Spec.Retry = &api.Retry{OnEvents: events, Duration: 3600} }
}

func testInstance(st api.InstanceStatus, change ...func(*store.Instance)) store.Instance {
	i := store.Instance{
		ID: "i1", ProjectID: "p1", FleetID: "f1", Name: "lab-0", Backend: "remote", Region: "remote", Status: st,
		CreatedAt: *ago(time.Minute), Hostname: "10.0.0.5", HostID: "h", TotalBlocks: 1,
		Type:   &api.InstanceType{Name: "instance", Resources: api.Resources{CPUs: 4, MemoryMiB: 16384, CPUArch: ptr("x86"), Disk: api.Disk{SizeMiB: 204800}}},
		Info:   &hostapi.Info{HostID: "h", Runtime: hostapi.Docker},
		Access: store.Access{Host: "10.0.0.5", Port: 22, User: "ubuntu"},
	}
	if st == api.InstanceBusy {
		i.BusyBlocks = 1
	}
	for _, c := range change {
		c(&i)
	}
	return i
}

func testFleet() store.Fleet {
	return store.Fleet{ID: "f1", ProjectID: "p1", Name: "lab", Status: api.FleetActive}
}

// told are the messages of a decision's events.
func told(d *decision) []string {
	var out []string
	for _, e := range d.events {
		out = append(out, e.Message)
	}
	return out
}

func doing(d *decision) []string {
	var out []string
	for _, f := range d.effects {
		s := string(f.Kind)
		if f.Kind == DoStop {
			s += fmt.Sprintf(" %d", f.Stop.Grace)
		}
		out = append(out, s)
	}
	return out
}

func woken(d *decision) []string {
	var out []string
	for _, k := range d.wakes {
		out = append(out, string(k.Kind)+" "+k.ID)
	}
	return out
}

func expect[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// changes says whether there is anything to write.
func (d *decision) changes() bool {
	return len(d.runs)+len(d.jobs)+len(d.instances)+len(d.fleets)+len(d.newJobs)+len(d.oldJobs)+len(d.events)+len(d.wakes) > 0
}
