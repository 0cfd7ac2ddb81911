//go:build e2e

// Package gpu runs jobs on the NVIDIA accelerators of this machine, with the
// binaries of `make build` and nothing of ours replaced: `make gpu`. It is for
// people, since the project's own machines have none.
package gpu

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

//go:embed work.py
var work string

var errNotReady = errors.New("not ready")

// smi asks nvidia-smi for fields of the first GPU.
func smi(t *testing.T, fields string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "nvidia-smi", "--query-gpu="+fields, "--format=csv,noheader,nounits").Output()
	if err != nil {
		t.Fatalf("this machine has no working NVIDIA GPU: %v", err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.Split(first, ", ")
}

// bench is a server with this machine as its only host.
type bench struct {
	*testing.T
	server  *lab.Server
	runtime string
	fleet   string
}

// newBench offers this machine by --local, or, with GPU_SSH=1, as a fleet
// behind an sshd of the test's own, which installs the shim on this machine.
// GPU_RUNTIME is process (the default) or docker.
func newBench(t *testing.T) bench {
	t.Helper()
	b := bench{T: t, runtime: os.Getenv("GPU_RUNTIME"), fleet: "local"}
	if b.runtime == "" {
		b.runtime = "process"
	}
	env := []string{"DSTACK_SHIM_RUNTIME=" + b.runtime}
	if os.Getenv("GPU_SSH") == "" {
		b.server = lab.ServerFor(t, env, "--local")
		t.Cleanup(b.leave)
		return b
	}
	b.server, b.fleet = lab.ServerFor(t, nil), "gpus"
	port, key := sshd(t)
	text := fmt.Sprintf("type: fleet\nname: %s\nenv: [%s]\nssh_config:\n  user: root\n  hosts: [{hostname: 127.0.0.1, port: %d, identity_file: %s}]\n", b.fleet, env[0], port, key)
	file := filepath.Join(t.TempDir(), "fleet.dstack.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.leave)
	b.cli("apply", "-f", file, "-y")
	return b
}

// leave takes everything of ours from this machine.
func (b bench) leave() {
	ctx := context.WithoutCancel(b.Context())
	if b.Failed() {
		runs, err := b.server.CLI(ctx, b.server.Dir, "ps", "-a", "-v")
		b.Logf("%s%s%v\n%s", runs.Stdout, runs.Stderr, err, b.server.Log())
	}
	for _, name := range []string{"first", "third"} {
		if _, err := b.server.CLI(ctx, b.server.Dir, "stop", "-y", "-x", name); err != nil {
			b.Error(err)
		}
	}
	err := lab.Wait(ctx, time.Minute, "end of the fleet", func(ctx context.Context) error {
		result, err := b.server.CLI(ctx, b.server.Dir, "fleet", "delete", "-y", b.fleet)
		if err == nil && result.Exit != 0 {
			err = fmt.Errorf("%+v: %w", result, errNotReady)
		}
		return err
	})
	if err != nil {
		b.Error(err)
	}
}

func (b bench) cli(args ...string) string {
	b.Helper()
	result, err := b.server.CLI(b.Context(), b.TempDir(), args...)
	if err != nil || result.Exit != 0 {
		b.Fatalf("dstack %s: %+v, %v", strings.Join(args, " "), result, err)
	}
	return result.Stdout
}

// submit runs work.py on one GPU.
func (b bench) submit(name string, args string) {
	b.Helper()
	python := os.Getenv("GPU_PYTHON")
	if python == "" {
		python = "python3"
	}
	task := map[string]any{
		"commands":  []string{"cat >work.py <<'END'\n" + work + "END\n" + python + " work.py " + args},
		"resources": map[string]any{"cpu": "1..", "memory": "0.1..", "disk": "1GB..", "gpu": map[string]any{"count": 1}},
	}
	if b.runtime == "docker" {
		// An image with Python and PyTorch, and folders of this machine that it wants.
		task["image"] = os.Getenv("GPU_IMAGE")
		if v := os.Getenv("GPU_VOLUMES"); v != "" {
			task["volumes"] = strings.Split(v, ",")
		}
	}
	if _, err := b.server.Submit(b.Context(), name, task); err != nil {
		b.Fatal(err)
	}
}

// says waits until a run's log has all lines with these first words.
func (b bench) says(name string, words ...string) map[string]string {
	b.Helper()
	found := map[string]string{}
	var run api.Run
	var log []byte
	var missing string
	err := lab.Wait(b.Context(), 90*time.Second, "log of "+name, func(ctx context.Context) (err error) {
		if run, err = b.server.Run(ctx, name); err != nil {
			return err
		}
		if log, err = b.server.Logs(ctx, run); err != nil {
			return err
		}
		missing = ""
		for line := range strings.Lines(string(log)) {
			if word, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				found[word] = rest
			}
		}
		for _, w := range words {
			if found[w] == "" {
				missing = w
			}
		}
		if missing != "" && !run.Status.Finished() {
			return fmt.Errorf("%s: %w", missing, errNotReady)
		}
		return nil
	})
	if err != nil || missing != "" {
		b.Fatalf("%v; run is %s, log has no %s: %q", err, run.Status, missing, log)
	}
	return found
}

// end wants a run to end in a state.
func (b bench) end(name string, want api.RunStatus) api.Run {
	b.Helper()
	run, err := b.server.Finish(b.Context(), name, 2*time.Minute)
	if err != nil || run.Status != want {
		log, logErr := b.server.Logs(b.Context(), run)
		b.Fatalf("%s is %s, %v; log %q, %v", name, run.Status, err, log, logErr)
	}
	return run
}

// get asks the server for a path.
func (b bench) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.server.URL+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+lab.Token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

// TestGPU: the host is offered as what it is; a job has the GPU and is
// measured at work on it; meanwhile nobody else gets it; the next one does.
func TestGPU(t *testing.T) {
	has := smi(t, "name,memory.total,uuid,compute_cap,driver_version,count")
	t.Logf("this machine has %q", has)
	b := newBench(t)
	b.host(has)

	b.submit("first", "600")
	seen := b.says("first", "visible", "number", "count", "device", "uuid", "capability", "product", "working")
	t.Logf("the job says %q", seen)
	want := map[string]string{
		"number": "1", "count": "1", "device": has[0], "uuid": has[2], "capability": has[3], "product": "right",
	}
	if b.runtime == "process" { // a container has no other GPUs to hide
		want["visible"] = has[2]
	}
	for word, value := range want {
		if seen[word] != value {
			t.Errorf("the job says %s %q, want %q", word, seen[word], value)
		}
	}
	held, err := strconv.ParseFloat(seen["working"], 64)
	if err != nil {
		t.Fatal(err)
	}
	b.measured("first", held)
	if has[5] == "1" {
		b.submit("second", "")
		if run := b.end("second", api.RunFailed); *run.LatestJobSubmission.TerminationReason != string(api.ReasonNoCapacity) {
			t.Errorf("second ends with %s", *run.LatestJobSubmission.TerminationReason)
		}
	}
	t.Logf("%s", b.cli("stop", "-y", "-x", "first"))
	b.end("first", api.RunTerminated)
	err = lab.Wait(t.Context(), 10*time.Second, "free memory of the GPU", func(context.Context) error {
		if used, err := strconv.ParseFloat(smi(t, "memory.used")[0], 64); err != nil || used*(1<<20) >= held {
			return fmt.Errorf("%v MiB are used: %w, %w", used, err, errNotReady)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	b.submit("third", "")
	b.end("third", api.RunDone)
	if seen := b.says("third", "uuid", "product"); seen["product"] != "right" {
		t.Errorf("the next job says %q", seen)
	}
}

// host wants the machine to be offered with what nvidia-smi says it has.
func (b bench) host(has []string) {
	b.Helper()
	var i api.Instance
	err := lab.Wait(b.Context(), 2*time.Minute, "host", func(ctx context.Context) error {
		var fleet api.Fleet
		if err := b.server.Call(ctx, "project/main/fleets/get", map[string]any{"name": b.fleet}, &fleet); err != nil {
			return err
		}
		i = fleet.Instances[0]
		if i.InstanceType == nil || i.HealthStatus == "" || i.Status != "idle" {
			return fmt.Errorf("instance is %+v: %w", i, errNotReady)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("\n%s\n%s", b.cli("fleet", "-v"), b.cli("offer", "--gpu", "1..", "--fleet", b.fleet))
	gpus := i.InstanceType.Resources.GPUs
	if fmt.Sprint(len(gpus)) != has[5] || *gpus[0].Vendor != "nvidia" || !strings.Contains(strings.ReplaceAll(has[0], " ", ""), gpus[0].Name) {
		b.Errorf("the host has %+v", gpus)
	}
	// Data sheets count other gigabytes than the driver, and some keep a part.
	mib, err := strconv.ParseFloat(has[1], 64)
	if known := float64(gpus[0].MemoryMiB); err != nil || known < 0.93*mib || known > 1.07*mib {
		b.Errorf("the host's GPU has %v MiB, nvidia-smi says %v, %v", known, mib, err)
	}
	if i.HealthStatus != "healthy" {
		b.Errorf("health is %q", i.HealthStatus)
	}
}

// measured wants to see the GPU at work, in the API and by the CLI.
func (b bench) measured(name string, held float64) {
	b.Helper()
	err := lab.Wait(b.Context(), time.Minute, "use of the GPU", func(ctx context.Context) error {
		body, err := b.get(ctx, "/api/project/main/metrics/job/"+name)
		if err != nil {
			return err
		}
		var m api.JobMetrics
		if err := json.Unmarshal(body, &m); err != nil {
			return err
		}
		seen := map[string]float64{}
		for _, s := range m.Metrics {
			seen[s.Name] = s.Values[0]
		}
		if seen["gpus_detected_num"] != 1 || seen["gpu_util_percent_gpu0"] < 50 || seen["gpu_memory_usage_bytes_gpu0"] < held {
			return fmt.Errorf("metrics are %v: %w", seen, errNotReady)
		}
		b.Logf("measured: %v; nvidia-smi: %q", seen, smi(b.T, "utilization.gpu,memory.used"))
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("\n%s", b.cli("metrics", name))
}
