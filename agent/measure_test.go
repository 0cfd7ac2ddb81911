package agent_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"dstack/protocol/jobapi"
)

// TestMeasures sees what a job uses: of its processes, since the test's own
// control group is not the job's, and of its GPU by the vendor's tool.
func TestMeasures(t *testing.T) {
	c := config(t)
	c.Measure = 20 * time.Millisecond
	for _, dir := range []string{"dev", "bin"} {
		if err := os.Mkdir(filepath.Join(c.Root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/proc", filepath.Join(c.Root, "proc")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Root, "dev", "nvidiactl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tool := "#!/bin/sh\nsleep 0.01\necho \"5, $(echo \"$*\" | grep -c -- --id=GPU-a)\"\n"
	if err := os.WriteFile(filepath.Join(c.Root, "bin", "nvidia-smi"), []byte(tool), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(c.Root, "bin")+":"+os.Getenv("PATH"))
	spec := script(t, "while :; do :; done")
	spec.GPUsPerNode, spec.Env = 1, map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-a"}
	r := start(t, c, spec)
	var first jobapi.Usage
	r.events(func(e jobapi.Event) bool {
		u := e.Usage
		if u == nil || len(u.GPUs) == 0 {
			return false
		}
		if first.CPUMicro == 0 {
			first = *u
		}
		if u.MemoryBytes == 0 || u.WorkingSetBytes == 0 || u.GPUs[0] != (jobapi.GPUUsage{MemoryBytes: 5 << 20, UtilPercent: 1}) {
			t.Errorf("measured %+v", *u)
		}
		return u.CPUMicro >= first.CPUMicro+100_000
	})
	r.stop(jobapi.StopRequest{Kill: true})
	if s := r.end(); s.State != jobapi.Terminated {
		t.Errorf("ended as %+v", s)
	}
}
