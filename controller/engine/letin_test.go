package engine

import (
	"slices"
	"testing"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

// TestLetIn opens the way to the server for a job with `dstack: true` as soon
// as its host has it, and for no other.
func TestLetIn(t *testing.T) {
	t.Parallel()
	task := func(state hostapi.TaskState) *hostapi.Task { return &hostapi.Task{ID: "j1", State: state} }
	for name, tt := range map[string]struct {
		wants  bool
		status api.JobStatus
		task   *hostapi.Task
		want   bool
	}{
		"being prepared":     {true, api.JobPulling, task(hostapi.TaskPreparing), true},
		"running":            {true, api.JobRunning, task(hostapi.TaskRunning), true},
		"over":               {true, api.JobRunning, task(hostapi.TaskTerminated), false},
		"not accepted yet":   {true, api.JobProvisioning, nil, false},
		"does not want that": {false, api.JobRunning, task(hostapi.TaskRunning), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inst := testInstance(api.InstanceBusy)
			run := testRun(api.RunRunning, func(r *store.Run) { r.Spec.Configuration.Task.Dstack = tt.wants })
			d := decideJob(jobViewOf(run, testJob(tt.status, on(tt.task)), &inst))
			got := slices.ContainsFunc(d.effects, func(f Effect) bool { return f.Kind == DoServe && f.InstanceID == "i1" && f.TaskID == "j1" })
			expect(t, "let in", got, tt.want)
		})
	}
}
