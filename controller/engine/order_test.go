package engine

import (
	"testing"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// TestHeldBack says why a node with a place does not start.
func TestHeldBack(t *testing.T) {
	t.Parallel()
	node := func(num int, st api.JobStatus) store.Job { return testJob(st, numbered(num, 0)) }
	ran := func(j store.Job) store.Job {
		j.RunningAt = ago(0)
		return j
	}
	waits, runs, done := api.JobProvisioning, api.JobRunning, testJob(api.JobDone, numbered(1, 0), failed(api.ReasonDoneByRunner))
	for name, c := range map[string]struct {
		order *string
		jobs  []store.Job // the first one is asked about
		want  bool
	}{
		"any order":               {nil, []store.Job{node(0, waits), node(1, waits)}, false},
		"any":                     {ptr(config.StartupAny), []store.Job{node(0, waits), node(1, waits)}, false},
		"a worker, master first":  {ptr(config.StartupMasterFirst), []store.Job{node(1, waits), node(0, waits)}, true},
		"the master itself":       {ptr(config.StartupMasterFirst), []store.Job{node(0, waits), node(1, waits)}, false},
		"the master runs":         {ptr(config.StartupMasterFirst), []store.Job{node(1, waits), ran(node(0, runs))}, false},
		"the master, one is late": {ptr(config.StartupWorkersFirst), []store.Job{node(0, waits), ran(node(1, runs)), node(2, waits)}, true},
		"the master, all run":     {ptr(config.StartupWorkersFirst), []store.Job{node(0, waits), ran(node(1, runs)), ran(node(2, runs))}, false},
		"the worker is over":      {ptr(config.StartupWorkersFirst), []store.Job{node(0, waits), done}, false},
		"a worker, workers first": {ptr(config.StartupWorkersFirst), []store.Job{node(1, waits), node(0, waits), node(2, waits)}, false},
		"it runs already":         {ptr(config.StartupWorkersFirst), []store.Job{node(0, runs), node(1, waits)}, false},
	} {
		run := testRun(api.RunProvisioning, func(r *store.Run) { r.Spec.Configuration.Task.StartupOrder = c.order })
		expect(t, name, HeldBack(run, &c.jobs[0], c.jobs), c.want)
	}
}
