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

func TestHappyPath(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	inst, run, job := b.running()
	b.event(inst.ID, 2, hostapi.Task{ID: job.ID, State: hostapi.TaskTerminated, Reason: "done_by_runner", ExitStatus: ptr(0)})
	b.event(inst.ID, 2, hostapi.Task{ID: job.ID, State: hostapi.TaskTerminated, Reason: "done_by_runner", ExitStatus: ptr(0)})
	expect(t, "run", b.run(run.ID).Status, api.RunDone)
	expect(t, "removed", b.effects(), []EffectKind{DoRemove})
	expect(t, "clean", len(b.instance(inst.ID).Orphans), 0)
	want := []string{
		"Fleet created. Status: ACTIVE",
		"Instance created on fleet submission. Status: PENDING",
		"Instance status changed PENDING -> IDLE",
		"Run submitted. Status: SUBMITTED",
		"Job created on run submission. Status: SUBMITTED",
		"Job assigned to instance. Instance blocks: 1/1 busy",
		"Instance status changed IDLE -> BUSY",
		"Job status changed SUBMITTED -> PROVISIONING",
		"Run status changed SUBMITTED -> PROVISIONING",
		"Job status changed PROVISIONING -> PULLING",
		"Job status changed PULLING -> RUNNING",
		"Run status changed PROVISIONING -> RUNNING",
		"Job status changed RUNNING -> TERMINATING. Termination reason: DONE_BY_RUNNER",
		"Job unassigned from instance. Instance blocks: 0/1 busy",
		"Instance status changed BUSY -> IDLE",
		"Job status changed TERMINATING -> DONE",
		"Run status changed RUNNING -> TERMINATING. Termination reason: ALL_JOBS_DONE",
		"Run status changed TERMINATING -> DONE",
	}
	got := b.messages()
	for _, m := range want {
		n := 0
		for _, g := range got {
			if g == m {
				n++
			}
		}
		if n != 1 {
			t.Errorf("event %q came %d times", m, n)
		}
	}
	expect(t, "number of events", len(got), len(want))
}

// TestAMachineIsInOneFleetOnly: else each would remove the jobs of the other.
func TestAMachineIsInOneFleetOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, _, job := b.running()
	name := "twin"
	f, err := b.e.CreateFleet(t.Context(), NewFleet{
		ProjectID: "p", ActorID: ptr("u"), Spec: api.FleetSpec{Configuration: config.Fleet{Type: "fleet", Name: &name}},
		Hosts: []NewHost{{Hostname: "alias-of-h0", Access: store.Access{Host: "alias-of-h0", Port: 22}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.settle()
	var list []store.Instance
	read(t, b.st, func(tx *store.Tx) (err error) {
		list, err = tx.InstancesOfFleet(f.ID)
		return err
	})
	h := simHost{name: "h0"}
	hello := h.hello()
	hello.Info.HostID, hello.Tasks = "home-1", []hostapi.Task{{ID: job.ID, State: hostapi.TaskRunning}}
	var problem *hostapi.Problem
	if err := b.e.HostUp(t.Context(), list[0].ID, hello); !errors.As(err, &problem) || !problem.Permanent {
		t.Fatalf("HostUp of a machine of another fleet = %v", err)
	}
	if err := b.e.HostDown(t.Context(), list[0].ID, problem); err != nil {
		t.Fatal(err)
	}
	b.settle()
	twin := b.instance(list[0].ID)
	expect(t, "the second", []any{twin.Status, twin.Orphans}, []any{api.InstanceTerminated, []string(nil)})
	expect(t, "nothing is done to the machine", b.effects(), []EffectKind(nil))
	hello.Info.BootID = "another machine"
	if err := b.e.HostUp(t.Context(), list[0].ID, hello); err != nil {
		t.Errorf("HostUp of the copy of a disk = %v", err)
	}
}

func TestHostRefusesJob(t *testing.T) {
	t.Parallel()
	for code, reason := range map[string]api.JobReason{
		hostapi.CodeBadRequest: api.ReasonCreatingContainer,
		hostapi.CodeGone:       api.ReasonExecutorError,
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.fleet()
			run := b.submit()
			b.hosts.err = &hostapi.Error{Code: code, Message: "no GPU here"}
			b.effects()
			job := b.job(run.ID)
			expect(t, "job", []any{job.Status, *job.Reason, *job.ReasonMessage}, []any{api.JobFailed, reason, "The host refused the job: no GPU here"})
		})
	}
}

func TestLostAnswerIsAskedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.fleet()
	run := b.submit()
	b.hosts.err = errors.New("connection reset")
	expect(t, "tried", b.effects(), []EffectKind{DoStart})
	expect(t, "not at once", len(b.todo), 0)
	b.time = b.time.Add(time.Second)
	due, _, _ := b.e.timers.due(b.time)
	b.e.queue.push(due...)
	b.settle()
	b.hosts.err, b.hosts.task = nil, hostapi.Task{State: hostapi.TaskTerminated}
	expect(t, "tried again", b.effects(), []EffectKind{DoStart})
	job := b.job(run.ID)
	expect(t, "an end is only believed with its event", []any{job.Status, job.Task.State}, []any{api.JobPulling, hostapi.TaskPreparing})
}

func TestHostIsLostAndComesBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	inst, run, job := b.running()
	down := &hostapi.Problem{Code: "unreachable", Message: "No answer from h0", Remedy: "Check its network"}
	if err := b.e.HostDown(t.Context(), inst.ID, down); err != nil {
		t.Fatal(err)
	}
	b.settle()
	i := b.instance(inst.ID)
	expect(t, "instance", []any{i.Unreachable, *i.ReasonMessage}, []any{true, "No answer from h0. Check its network"})
	b.time = b.time.Add(time.Minute)
	b.up(inst.ID, "home-1", hostapi.Task{ID: job.ID, State: hostapi.TaskRunning})
	i = b.instance(inst.ID)
	expect(t, "reachable", []any{i.Unreachable, i.ReasonMessage, b.job(run.ID).Status}, []any{false, (*string)(nil), api.JobRunning})

	if err := b.e.HostDown(t.Context(), inst.ID, down); err != nil {
		t.Fatal(err)
	}
	b.settle()
	b.time = b.time.Add(2 * time.Minute)
	due, _, _ := b.e.timers.due(b.time)
	b.e.queue.push(due...)
	b.settle()
	j := b.job(run.ID)
	expect(t, "lost", []any{j.Status, *j.Reason}, []any{api.JobFailed, api.ReasonInstanceUnreachable})
	b.up(inst.ID, "home-1", hostapi.Task{ID: job.ID, State: hostapi.TaskRunning})
	expect(t, "what still runs there goes", b.effects(), []EffectKind{DoRemove})
}

func TestShimReinstalledOrTaskGone(t *testing.T) {
	t.Parallel()
	for name, hostID := range map[string]string{"was installed anew": "home-2", "is gone from lab-0": "home-1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			inst, run, _ := b.running()
			b.up(inst.ID, hostID)
			j := b.job(run.ID)
			expect(t, "job", []any{j.Status, *j.Reason}, []any{api.JobFailed, api.ReasonExecutorError})
			if !strings.Contains(*j.ReasonMessage, name) {
				t.Errorf("message %q lacks %q", *j.ReasonMessage, name)
			}
		})
	}
}

// TestOldDecisionStartsNothing: a job that was decided to be started, and then
// seen to be lost with the installation of its shim, is not started again.
func TestOldDecisionStartsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	inst := b.fleet()
	run := b.submit()
	b.hosts.err = errors.New("connection reset")
	expect(t, "the answer is lost", b.effects(), []EffectKind{DoStart})
	b.time = b.time.Add(time.Second) // it is to be asked again
	key := store.Key{Kind: store.KindJob, ID: b.job(run.ID).ID}
	decided, err := b.e.plan(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	h := simHost{name: "h0"}
	hello := h.hello()
	hello.Info.HostID = "home-2"
	if err := b.e.HostUp(t.Context(), inst.ID, hello); err != nil {
		t.Fatal(err)
	}
	if err := b.e.commit(t.Context(), decided); err != nil && !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
	expect(t, "started", len(b.todo), 0)
}

func TestStrangersAreRemoved(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	inst := b.fleet()
	b.up(inst.ID, "home-1", hostapi.Task{ID: "stranger", State: hostapi.TaskRunning})
	run := b.submit()
	expect(t, "first clean, then start", b.effects(), []EffectKind{DoRemove})
	expect(t, "started", b.effects(), []EffectKind{DoStart})
	expect(t, "job", b.job(run.ID).Status, api.JobPulling)
}

func TestQuietHostsCostNoWrites(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	inst := b.fleet()
	before := b.instance(inst.ID).Version
	b.up(inst.ID, "home-1")
	expect(t, "version", b.instance(inst.ID).Version, before)
}

func TestPermanentProblem(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	f, err := b.e.CreateFleet(t.Context(), NewFleet{ProjectID: "p", Hosts: []NewHost{{Hostname: "h0"}}})
	if err != nil {
		t.Fatal(err)
	}
	b.settle()
	var list []store.Instance
	read(t, b.st, func(tx *store.Tx) (err error) {
		list, err = tx.InstancesOfFleet(f.ID)
		return err
	})
	problem := &hostapi.Problem{Code: "wrong_arch", Message: "h0 is an i686", Remedy: "Use a 64-bit host", Permanent: true}
	if err := b.e.HostDown(t.Context(), list[0].ID, problem); err != nil {
		t.Fatal(err)
	}
	b.settle()
	i := b.instance(list[0].ID)
	expect(t, "instance", []any{i.Status, *i.Reason, *i.ReasonMessage, i.Deleted},
		[]any{api.InstanceTerminated, api.ReasonInstanceError, "h0 is an i686. Use a 64-bit host", false})
	if err := b.e.DeleteFleets(t.Context(), "u", "p", []string{f.Name}); err != nil {
		t.Fatal(err)
	}
	b.settle()
	read(t, b.st, func(tx *store.Tx) error {
		f, err := tx.Fleet(f.ID)
		expect(t, "fleet", []any{f.Status, f.Deleted}, []any{api.FleetTerminated, true})
		return err
	})
}
