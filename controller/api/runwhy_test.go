package api

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

// TestWhy judges every candidate, and says what the run waits for.
func TestWhy(t *testing.T) {
	t.Parallel()
	r := gpuRig(t)
	applyRun(t, r, runSpec("train", `"resources":{"gpu":"H100:4"},"fleets":["lab"],"spot_policy":"auto",`), nil)
	why := post[api.RunWhy](r, runs+"why", `{"run_name":"train"}`)
	if why.Code != "server" || !strings.HasPrefix(why.State, "The run train (submitted): the server is about to") || why.Next == "" {
		t.Errorf("state: %+v", why)
	}
	var got []string
	for _, c := range why.Candidates {
		name := c.Fleet
		if c.Instance != nil {
			name += "/" + *c.Instance
		}
		got = append(got, name+" "+c.Verdict+" "+c.Code+": "+c.Reason)
		if c.Verdict == api.CandidateRejected && c.Next == "" {
			t.Errorf("%s: no next step", name)
		}
	}
	want := []string{
		"lab/lab-0 rejected gpu_count: needs exactly 4 GPUs, has 2",
		"lab/lab-1 rejected instance_busy: 2 of its 8 blocks are free, needs 4",
		"lab/lab-2 rejected gpu_none: needs a GPU, has none",
		"lab/lab-3 rejected gpu_count: needs exactly 4 GPUs, has 1",
		"two rejected fleet_not_asked: the run asks for other fleets",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
	if _, code := refused(r, runs+"why", `{"run_name":"none"}`); code != "resource_not_exists" {
		t.Errorf("unknown run: code %s", code)
	}
}

// TestWhyStates is a sentence for each state of a run and of its job.
func TestWhyStates(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	later, message := now.Add(time.Hour), "It broke."
	pulling, creating := &hostapi.Task{State: hostapi.TaskPulling}, &hostapi.Task{State: hostapi.TaskCreating}
	for name, c := range map[string]struct {
		run        store.Run
		job        store.Job
		code, job2 string
	}{
		"submitted":   {store.Run{Status: api.RunSubmitted}, store.Job{Status: api.JobSubmitted}, "room", "room"},
		"worker":      {store.Run{Status: api.RunSubmitted}, store.Job{Status: api.JobSubmitted, JobNum: 1}, "nodes", "nodes"},
		"volume":      {store.Run{Status: api.RunSubmitted}, store.Job{Status: api.JobSubmitted}, "volume", "volume"},
		"provisioned": {store.Run{Status: api.RunProvisioning}, store.Job{Status: api.JobProvisioning}, "host", "host"},
		"held back":   {store.Run{Status: api.RunProvisioning}, store.Job{Status: api.JobProvisioning}, "nodes", "nodes"},
		"pulling":     {store.Run{Status: api.RunProvisioning}, store.Job{Status: api.JobPulling, Task: pulling}, "pull", "pull"},
		"creating":    {store.Run{Status: api.RunProvisioning}, store.Job{Status: api.JobPulling, Task: creating}, "start", "start"},
		"running":     {store.Run{Status: api.RunRunning}, store.Job{Status: api.JobRunning}, "runs", "runs"},
		"stopping":    {store.Run{Status: api.RunTerminating, Reason: new(api.ReasonStoppedByUser)}, store.Job{Status: api.JobTerminating}, "stop", "stop"},
		"retrying":    {store.Run{Status: api.RunPending, Resubmissions: 2}, store.Job{Status: api.JobFailed, Reason: new(api.ReasonNoCapacity)}, "retry", "failed_to_start_due_to_no_capacity"},
		"scheduled":   {store.Run{Status: api.RunPending, NextTriggerAt: &later}, store.Job{Status: api.JobDone, Reason: new(api.ReasonDoneByRunner)}, "schedule", "done_by_runner"},
		"failed":      {store.Run{Status: api.RunFailed, Reason: new(api.ReasonJobFailed)}, store.Job{Status: api.JobFailed, Reason: new(api.ReasonExecutorError), ReasonMessage: &message}, "job_failed", "executor_error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.run.Name, c.job.Spec.JobName = "train", "train-0-0"
			taken := ""
			if name == "volume" {
				taken = "its volume data is attached to other-0"
			}
			job := jobWhy(&c.job, true, name == "held back", taken)
			code, state, next := runState(&c.run, []store.Job{c.job}, []api.JobWhy{job}, now)
			if code != c.code || job.Code != c.job2 {
				t.Errorf("codes %s, %s, want %s, %s", code, job.Code, c.code, c.job2)
			}
			for _, text := range []string{state, next, job.State, job.Next} {
				if !strings.HasSuffix(text, ".") {
					t.Errorf("%q is no sentence", text)
				}
			}
		})
	}
}
