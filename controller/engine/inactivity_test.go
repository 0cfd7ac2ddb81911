package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// devRun is a development environment that may be left alone for limit seconds.
func devRun(limit *int) *store.Run {
	return testRun(api.RunRunning, func(r *store.Run) {
		r.Spec.Configuration = config.Run{DevEnvironment: &config.DevEnvironment{Type: config.TypeDevEnvironment, InactivityDuration: limit}}
	})
}

// TestInactivity is appendix 78.
func TestInactivity(t *testing.T) {
	t.Parallel()
	const limit = 600
	said := func(secs int, age time.Duration) *idleness { return &idleness{at: now().Add(-age), secs: secs} }
	for name, tt := range map[string]struct {
		limit *int
		idle  *idleness
		ends  bool
		next  time.Duration // 0: not because of this
	}{
		"somebody is there":                 {ptr(limit), said(0, 0), false, 600 * time.Second},
		"left a while ago":                  {ptr(limit), said(400, 2*time.Second), false, 198 * time.Second},
		"the host has to say it first":      {ptr(limit), said(595, 8*time.Second), false, 5 * time.Second},
		"exactly":                           {ptr(limit), said(600, 0), true, 0},
		"beyond":                            {ptr(limit), said(612, 9*time.Second), true, 0},
		"long ago":                          {ptr(limit), said(612, 61*time.Second), false, 5 * time.Second},
		"not said yet, and it could be due": {ptr(limit), nil, false, 5 * time.Second},
		"not said yet, too early anyway":    {ptr(3600 * 2), nil, false, time.Hour},
		"off":                               {nil, said(1e6, 0), false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inst := testInstance(api.InstanceBusy)
			job := testJob(api.JobRunning, on(&hostapi.Task{ID: "j1", State: hostapi.TaskRunning}), func(j *store.Job) { j.RunningAt = ago(time.Hour) })
			v := jobViewOf(devRun(tt.limit), job, &inst)
			v.idle = tt.idle
			d := decideJob(v)
			if !tt.ends {
				expect(t, "status", v.job.Status, api.JobRunning)
				next := time.Duration(0)
				if !d.next.IsZero() {
					next = d.next.Sub(now())
				}
				expect(t, "looks again", next, tt.next)
				return
			}
			expect(t, "status", v.job.Status, api.JobTerminating)
			expect(t, "reason", *v.job.Reason, api.ReasonInactivity)
			expect(t, "stops gently", doing(d), []string{"stop 300"})
		})
	}
}

// TestInactivityText is the sentence of 0.22.5; a job whose host is away is
// left alone: nobody knows who is connected.
func TestInactivityText(t *testing.T) {
	t.Parallel()
	inst := testInstance(api.InstanceBusy)
	job := testJob(api.JobRunning, on(&hostapi.Task{ID: "j1", State: hostapi.TaskRunning}))
	v := jobViewOf(devRun(ptr(30)), job, &inst)
	v.idle = &idleness{at: now(), secs: 42}
	decideJob(v)
	expect(t, "message", *v.job.ReasonMessage, "The job was inactive for 42 seconds, exceeding the inactivity_duration of 30 seconds")

	v = jobViewOf(devRun(ptr(30)), job, &inst)
	v.job.DisconnectedAt = ago(time.Second)
	v.idle = &idleness{at: now(), secs: 42}
	decideJob(v)
	expect(t, "status while the host is away", v.job.Status, api.JobRunning)
}

// TestUpdateInactivity looks at a job again when its limit was changed in place.
func TestUpdateInactivity(t *testing.T) {
	t.Parallel()
	st, err := store.Open(t.Context(), store.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	e := New(Config{Store: st, Hosts: newFakeHosts(), Now: now, NewID: uuid.NewString, Log: zerolog.Nop()})
	write(t, st, func(tx *store.Tx) error {
		return errors.Join(
			tx.InsertUser(&store.User{ID: "u1", Name: "admin", GlobalRole: "admin", Active: true}),
			tx.InsertProject(&store.Project{ID: "p1", Name: "main", OwnerID: "u1"}),
		)
	})
	spec := devRun(ptr(600)).Spec
	spec.Configuration.DevEnvironment.Image = ptr("busybox")
	run, err := e.SubmitRun(t.Context(), Submission{ProjectID: "p1", UserID: "u1", Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, ok := e.queue.take(0); !ok {
			break
		}
	}
	var key store.Key
	read(t, st, func(tx *store.Tx) error {
		jobs, err := tx.JobsByRun(run.ID)
		key = store.Key{Kind: store.KindJob, ID: jobs[0].ID}
		e.queue.done(key)
		return err
	})
	updated := devRun(ptr(60)).Spec
	if _, err := e.UpdateRun(t.Context(), RunUpdate{ActorID: "u1", RunID: run.ID, Version: run.Version, Spec: updated}); err != nil {
		t.Fatal(err)
	}
	expect(t, "the job is looked at", e.queue.queued[key], true)
}

// TestIdleMemory believes a host only about its own jobs.
func TestIdleMemory(t *testing.T) {
	t.Parallel()
	e := &Engine{cfg: Config{Now: now}, idle: map[holder]idleness{}, effects: map[string]*effectState{}}
	tell := func(instance string, secs *int) {
		e.TaskUsed(instance, hostapi.TaskUsage{TaskID: "j1", AgeMillis: 2000, Usage: jobapi.Usage{NoConnectionsSecs: secs}})
	}
	tell("i1", ptr(7))
	tell("i2", ptr(9000))
	tell("i1", nil)
	job := testJob(api.JobRunning, on(nil))
	if got := e.idleOf(&job); got == nil || *got != (idleness{at: now().Add(-2 * time.Second), secs: 7}) {
		t.Errorf("idle: %+v", got)
	}
	secs, known := e.Inactive("i1", "j1")
	expect(t, "shown", []any{secs, known}, []any{7, true})
	e.forgetEffects("i1", "j1")
	_, known = e.Inactive("i1", "j1")
	expect(t, "after the end", known, false)
	job.InstanceID = nil
	if got := e.idleOf(&job); got != nil {
		t.Errorf("without a place: %+v", got)
	}
}
