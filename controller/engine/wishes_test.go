package engine

import (
	"errors"
	"strings"
	"testing"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

func TestStopAndDelete(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	inst, run, job := b.running()
	b.refusedWith(b.e.DeleteRuns(t.Context(), "u", "p", []string{"train", "unknown"}), "Cannot delete active runs: ['train']")
	b.refusedWith(b.e.DeleteFleets(t.Context(), "u", "p", []string{"lab"}), "Failed to delete fleet lab. Fleet is in use.")
	b.refusedWith(b.e.DeleteInstances(t.Context(), "u", "p", "lab", []int{0}), "Fleet instances [0] are in use.")
	_, err := b.e.SubmitRun(t.Context(), Submission{ProjectID: "p", UserID: "u", Spec: run.Spec})
	b.refusedWith(err, "Cannot override active run. Stop the run first.")

	if err := b.e.StopRuns(t.Context(), "u", "p", []string{"train"}, false); err != nil {
		t.Fatal(err)
	}
	expect(t, "run", b.run(run.ID).Status, api.RunTerminating)
	b.settle()
	expect(t, "stop", []any{b.todo[0].Kind, b.todo[0].Stop}, []any{DoStop, hostapi.StopTask{Grace: 300, Reason: "terminated_by_user"}})
	b.effects()
	expect(t, "asked once", len(b.todo), 0)
	if err := b.e.StopRuns(t.Context(), "u", "p", []string{"train"}, true); err != nil {
		t.Fatal(err)
	}
	b.settle()
	expect(t, "abort", []any{b.todo[0].Kind, b.todo[0].Stop.Grace}, []any{DoStop, 0})
	b.effects()
	b.event(inst.ID, 2, hostapi.Task{ID: job.ID, State: hostapi.TaskTerminated, Reason: "terminated_by_user", ExitStatus: ptr(137)})
	r, j := b.run(run.ID), b.job(run.ID)
	expect(t, "ended", []any{r.Status, *r.Reason, j.Status, *j.ExitStatus}, []any{api.RunTerminated, api.ReasonAbortedByUser, api.JobAborted, 137})

	if err := b.e.DeleteRuns(t.Context(), "u", "p", []string{"train"}); err != nil {
		t.Fatal(err)
	}
	expect(t, "deleted", b.run(run.ID).Deleted, true)
	b.effects()
	if err := b.e.DeleteFleets(t.Context(), "u", "p", []string{"lab"}); err != nil {
		t.Fatal(err)
	}
	b.settle()
	expect(t, "uninstalled", b.effects(), []EffectKind{DoUninstall})
	i := b.instance(inst.ID)
	expect(t, "instance", []any{i.Status, i.Deleted, i.Uninstalled}, []any{api.InstanceTerminated, true, true})
	read(t, b.st, func(tx *store.Tx) error {
		keys, err := tx.AllWork()
		expect(t, "work that is left", keys, []store.Key{})
		return err
	})
}

func TestFleetUpdate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	inst := b.fleet()
	var fleet store.Fleet
	read(t, b.st, func(tx *store.Tx) (err error) {
		fleet, err = tx.Fleet(inst.FleetID)
		return err
	})
	_, err := b.e.CreateFleet(t.Context(), NewFleet{ProjectID: "p", Hosts: []NewHost{{Hostname: "h0", Access: store.Access{Port: 22}}}})
	b.refusedWith(err, "Instances [h0] are already assigned to a fleet.")
	_, err = b.e.CreateFleet(t.Context(), NewFleet{ProjectID: "p", Spec: fleet.Spec})
	b.refusedWith(err, "exists already")
	u := FleetUpdate{ActorID: "u", FleetID: fleet.ID, Version: fleet.Version, Spec: fleet.Spec, Remove: []int{0, 9}, Add: []NewHost{{Hostname: "h1"}}}
	if _, err := b.e.UpdateFleet(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	read(t, b.st, func(tx *store.Tx) error {
		list, err := tx.InstancesOfFleet(fleet.ID)
		expect(t, "instances", []any{list[0].Status, list[1].Name, list[1].Status}, []any{api.InstanceTerminating, "lab-1", api.InstancePending})
		return err
	})
	if _, err := b.e.UpdateFleet(t.Context(), u); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a stale update: %v", err)
	}
}

func TestCapacityIsHandedOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	inst, _, job := b.running()
	name, image := "later", "alpine"
	spec := api.RunSpec{RunName: &name, Configuration: config.Run{Task: &config.Task{
		Type: "task", Commands: []string{"true"}, RunBase: config.RunBase{Image: &image},
		ProfileParams: config.ProfileParams{Retry: &config.RetryPolicy{Bool: ptr(true)}},
	}}}
	run, err := b.e.SubmitRun(t.Context(), Submission{ProjectID: "p", UserID: "u", Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	b.settle()
	expect(t, "waits", []any{b.run(run.ID).Status, b.job(run.ID).Status}, []any{api.RunPending, api.JobFailed})
	b.event(inst.ID, 2, hostapi.Task{ID: job.ID, State: hostapi.TaskTerminated, Reason: "done_by_runner", ExitStatus: ptr(0)})
	j := b.job(run.ID)
	expect(t, "placed without waiting for the delay", []any{j.Status, j.SubmissionNum}, []any{api.JobProvisioning, 1})
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.fleet()
	name, image := "nightly", "alpine"
	spec := api.RunSpec{RunName: &name, Configuration: config.Run{Task: &config.Task{
		Type: "task", Commands: []string{"true"}, RunBase: config.RunBase{Image: &image},
		ProfileParams: config.ProfileParams{Schedule: &config.Schedule{Cron: []string{"30 10 * * *"}}},
	}}}
	run, err := b.e.SubmitRun(t.Context(), Submission{ProjectID: "p", UserID: "u", Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	b.settle()
	expect(t, "waits", []any{run.Status, *run.NextTriggerAt}, []any{api.RunPending, now().Add(30 * time.Minute)})
	b.time = b.time.Add(30 * time.Minute)
	due, _, _ := b.e.timers.due(b.time)
	b.e.queue.push(due...)
	b.settle()
	expect(t, "started", []any{b.run(run.ID).Status, b.job(run.ID).Status}, []any{api.RunProvisioning, api.JobProvisioning})
	spec.Configuration.Task.Schedule.Cron = []string{"0 0 30 2 *"}
	spec.RunName = nil
	_, err = b.e.SubmitRun(t.Context(), Submission{ProjectID: "p", UserID: "u", Spec: spec})
	b.refusedWith(err, "never comes")
}

func TestNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, seed := range []string{"a", "a", "b"} {
		name, err := freshName(seed, func(prefix string) ([]string, error) {
			var out []string
			for n := range seen {
				if strings.HasPrefix(n, prefix) {
					out = append(out, n)
				}
			}
			return out, nil
		})
		if err != nil || seen[name] {
			t.Errorf("name %q, error %v", name, err)
		}
		seen[name] = true
	}
}
