package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/engine/jobspec"
	"dstack/controller/hosts"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// bench is an engine whose passes and effects the test runs by hand.
type bench struct {
	*testing.T
	e     *Engine
	st    *store.Store
	hosts *scriptedHosts
	time  time.Time
	todo  []Effect
}

// scriptedHosts answers StartTask as the test says.
type scriptedHosts struct {
	fakeHosts
	task hostapi.Task
	err  error
}

func newBench(t *testing.T) *bench {
	t.Helper()
	st, _ := openStore(t, "")
	b := &bench{T: t, st: st, time: now(), hosts: &scriptedHosts{}}
	newID := ids()
	b.e = New(Config{Store: st, Hosts: noHosts{b.hosts}, Now: func() time.Time { return b.time }, NewID: newID, Log: zerolog.Nop()})
	b.e.start = func(f Effect) { b.todo = append(b.todo, f) }
	write(t, st, func(tx *store.Tx) error {
		if err := tx.InsertUser(&store.User{ID: "u", Name: "admin", GlobalRole: "admin", Active: true}); err != nil {
			return err
		}
		return tx.InsertProject(&store.Project{ID: "p", Name: "main", OwnerID: "u"})
	})
	return b
}

// settle works on every key until nothing is left to decide.
func (b *bench) settle() {
	b.Helper()
	for {
		k, ok := b.e.queue.take(0)
		if !ok {
			return
		}
		if err := b.e.Step(b.Context(), k); err != nil {
			b.Fatal(err)
		}
		b.e.queue.done(k)
	}
}

// effects performs what was started, and settles.
func (b *bench) effects() []EffectKind {
	b.Helper()
	var kinds []EffectKind
	todo := b.todo
	b.todo = nil
	for _, f := range todo {
		kinds = append(kinds, f.Kind)
		b.e.Finish(b.Context(), f, b.e.Perform(b.Context(), f))
	}
	b.settle()
	return kinds
}

func (b *bench) fleet() store.Instance {
	b.Helper()
	name := "lab"
	f, err := b.e.CreateFleet(b.Context(), NewFleet{
		ProjectID: "p", ActorID: ptr("u"), Spec: api.FleetSpec{Configuration: config.Fleet{Type: "fleet", Name: &name}},
		Hosts: []NewHost{{Hostname: "h0", Access: store.Access{Host: "h0", Port: 22}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.settle()
	var list []store.Instance
	read(b.T, b.st, func(tx *store.Tx) (err error) {
		list, err = tx.InstancesOfFleet(f.ID)
		return err
	})
	b.up(list[0].ID, "home-1")
	return list[0]
}

func (b *bench) up(instanceID, hostID string, tasks ...hostapi.Task) {
	b.Helper()
	h := simHost{name: "h0"}
	hello := h.hello()
	hello.Info.HostID, hello.Tasks = hostID, tasks
	if err := b.e.HostUp(b.Context(), instanceID, hello); err != nil {
		b.Fatal(err)
	}
	b.settle()
}

func (b *bench) submit(name string) store.Run {
	b.Helper()
	image := "alpine"
	spec := api.RunSpec{RunName: &name, Configuration: config.Run{Task: &config.Task{
		Type: "task", Commands: []string{"true"}, RunBase: config.RunBase{Image: &image},
	}}}
	jobs, err := jobspec.Build(spec, nil, jobspec.Options{})
	if err != nil {
		b.Fatal(err)
	}
	run, err := b.e.SubmitRun(b.Context(), Submission{ProjectID: "p", UserID: "u", Spec: spec, Jobs: jobs})
	if err != nil {
		b.Fatal(err)
	}
	b.settle()
	return run
}

// job is the newest submission of a run.
func (b *bench) job(runID string) store.Job {
	b.Helper()
	var jobs []store.Job
	read(b.T, b.st, func(tx *store.Tx) (err error) {
		jobs, err = tx.LatestJobsByRun(runID)
		return err
	})
	return jobs[0]
}

func (b *bench) run(id string) store.Run {
	b.Helper()
	var r store.Run
	read(b.T, b.st, func(tx *store.Tx) (err error) {
		r, err = tx.Run(id)
		return err
	})
	return r
}

func (b *bench) instance(id string) store.Instance {
	b.Helper()
	var i store.Instance
	read(b.T, b.st, func(tx *store.Tx) (err error) {
		i, err = tx.Instance(id)
		return err
	})
	return i
}

// messages are all events, in their order.
func (b *bench) messages() []string {
	b.Helper()
	var out []string
	read(b.T, b.st, func(tx *store.Tx) error {
		events, err := tx.Events(store.EventFilter{Page: store.Page{Ascending: true}})
		for _, e := range events {
			out = append(out, e.Message)
		}
		return err
	})
	return out
}

func (b *bench) refusedWith(err error, text string) {
	b.Helper()
	refused, ok := errors.AsType[*Refused](err)
	if !ok || !strings.Contains(refused.Message, text) {
		b.Errorf("got error %v, want it refused with %q", err, text)
	}
}

// running brings a run to its running job.
func (b *bench) running() (store.Instance, store.Run, store.Job) {
	b.Helper()
	inst := b.fleet()
	run := b.submit("train")
	b.hosts.task = hostapi.Task{State: hostapi.TaskPreparing}
	b.effects()
	job := b.job(run.ID)
	b.event(inst.ID, 1, hostapi.Task{ID: job.ID, State: hostapi.TaskRunning, Ports: map[int]int{10022: 40000}})
	expect(b.T, "job", b.job(run.ID).Status, api.JobRunning)
	expect(b.T, "run", b.run(run.ID).Status, api.RunRunning)
	return inst, run, job
}

func (b *bench) event(instanceID string, seq uint64, t hostapi.Task) {
	b.Helper()
	if err := b.e.TaskChanged(b.Context(), instanceID, seq, t); err != nil {
		b.Fatal(err)
	}
	b.settle()
}

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
			run := b.submit("train")
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
	run := b.submit("train")
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

func TestStrangersAreRemoved(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	inst := b.fleet()
	b.up(inst.ID, "home-1", hostapi.Task{ID: "stranger", State: hostapi.TaskRunning})
	run := b.submit("train")
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
	b.refusedWith(err, "Instances ['h0'] are already assigned to a fleet.")
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
	jobs, err := jobspec.Build(spec, nil, jobspec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	run, err := b.e.SubmitRun(t.Context(), Submission{ProjectID: "p", UserID: "u", Spec: spec, Jobs: jobs})
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

// noHosts takes StartTask from a script and accepts everything else.
type noHosts struct{ *scriptedHosts }

func (noHosts) Ensure(hosts.Target) {}

func (s noHosts) StartTask(context.Context, string, string, hostapi.TaskSpec) (hostapi.Task, error) {
	return s.task, s.err
}
