package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

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
	st := openBase(t, "").Store
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

func (b *bench) submit() store.Run {
	b.Helper()
	name, image := "train", "alpine"
	spec := api.RunSpec{RunName: &name, Configuration: config.Run{Task: &config.Task{
		Type: "task", Commands: []string{"true"}, RunBase: config.RunBase{Image: &image},
	}}}
	run, err := b.e.SubmitRun(b.Context(), Submission{ProjectID: "p", UserID: "u", Spec: spec})
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
	run := b.submit()
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

// noHosts takes StartTask from a script and accepts everything else.
type noHosts struct{ *scriptedHosts }

func (noHosts) Ensure(hosts.Target) {}

func (noHosts) ServeJob(string, string) {}

func (s noHosts) StartTask(context.Context, string, string, hostapi.TaskSpec) (hostapi.Task, error) {
	return s.task, s.err
}
