package api

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/jobapi"
)

// TestUsage tells of the running jobs only, with their newest values.
func TestUsage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	start := func(name string) {
		run, _ := r.measured(name, true, measurement{0, 0, nil}, measurement{10, 15, []jobapi.GPUUsage{{MemoryBytes: 7, UtilPercent: 99}, {MemoryBytes: 8, UtilPercent: -1}}})
		r.write(func(tx *store.Tx) error {
			job, err := tx.Job(run.LatestJobSubmission.ID)
			if err != nil {
				return err
			}
			job.Status, job.RunningAt = api.JobRunning, &first
			return tx.UpdateJob(&job)
		})
	}
	start("zeta")
	start("alpha")
	r.measured("waits", false)
	got := post[api.ProjectUsage](r, "/api/project/main/metrics/usage", `{}`)
	if len(got.Jobs) != 2 || got.Jobs[0].RunName != "alpha" || got.Jobs[1].RunName != "zeta" {
		t.Fatalf("jobs: %+v", got.Jobs)
	}
	gpu := func(memory int64, util *int) api.JobGPUUsage {
		return api.JobGPUUsage{Name: "H100", UtilPercent: util, MemoryBytes: memory, MemoryTotalBytes: 81920 << 20}
	}
	want := api.JobUsage{
		RunName: "alpha", JobName: "alpha-0-0", User: "admin",
		RunningSince: new(api.At(first)), MeasuredAt: new(api.At(first.Add(10 * time.Second))),
		CPUPercent: new(150.0), CPUs: 4, MemoryBytes: 91, MemoryTotalBytes: 1000 << 20,
		GPUs: []api.JobGPUUsage{gpu(7, new(99)), gpu(8, nil)},
	}
	if diff := cmp.Diff(want, got.Jobs[0]); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	named := post[api.ProjectUsage](r, "/api/project/main/metrics/usage", `{"run_names":["zeta","waits"]}`)
	if len(named.Jobs) != 1 || named.Jobs[0].RunName != "zeta" {
		t.Errorf("of named runs: %+v", named.Jobs)
	}
	if _, code := refused(r, "/api/project/main/metrics/usage", `{"run_names":["zeta","none"]}`); code != "resource_not_exists" {
		t.Errorf("unknown run: code %s", code)
	}
}

// TestUnmeasuredUsage has no values, rather than zeros that nobody measured.
func TestUnmeasuredUsage(t *testing.T) {
	t.Parallel()
	got := jobUsage(&store.Job{RunName: "new"}, nil)
	if got.MeasuredAt != nil || got.CPUPercent != nil || got.RunningSince != nil || got.GPUs == nil {
		t.Errorf("usage: %+v", got)
	}
}
