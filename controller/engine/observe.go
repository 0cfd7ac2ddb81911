package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

// scene is an instance with its jobs, as an observation finds them.
type scene struct {
	now  time.Time
	inst store.Instance
	jobs []store.Job
	// dirty are the jobs to be written; inst is written if instDirty is set.
	dirty     []*store.Job
	instDirty bool
	events    []store.Event
	checks    []store.HealthCheck
	wakes     []store.Key
	// usable says that the host can take jobs again.
	usable bool
}

func (s *scene) wake(kind store.Kind, id string) {
	s.wakes = append(s.wakes, store.Key{Kind: kind, ID: id})
}

func (s *scene) change(j *store.Job) {
	save(&s.dirty, j)
	s.wake(store.KindJob, j.ID)
}

func (s *scene) event(message string, target store.EventTarget) {
	s.events = append(s.events, newEvent(message, nil, target))
}

// observe changes an instance and its jobs in one transaction; when there is
// nothing to change, nothing is written.
func (e *Engine) observe(ctx context.Context, instanceID, what string, see func(*store.Tx, *scene) error) error {
	look := func(tx *store.Tx) (*scene, error) {
		s := &scene{now: e.now()}
		var err error
		if s.inst, err = tx.Instance(instanceID); err != nil {
			return nil, err
		}
		if s.jobs, err = tx.JobsOnInstance(instanceID); err != nil {
			return nil, err
		}
		return s, see(tx, s)
	}
	quiet := false
	err := e.cfg.Store.Read(ctx, func(tx *store.Tx) error {
		s, err := look(tx)
		if errors.Is(err, store.ErrNotFound) {
			quiet = true // the instance is gone, and so is what was seen of it
			return nil
		}
		if err != nil {
			return err
		}
		quiet = !s.instDirty && len(s.dirty)+len(s.events)+len(s.checks)+len(s.wakes) == 0
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if quiet {
		return nil
	}
	return e.write(ctx, what, func(tx *store.Tx) error {
		s, err := look(tx)
		if err != nil {
			return err
		}
		return e.store(tx, s)
	})
}

func (e *Engine) store(tx *store.Tx, s *scene) error {
	if s.instDirty {
		if err := tx.UpdateInstance(&s.inst); err != nil {
			return err
		}
	}
	for _, j := range s.dirty {
		if err := tx.UpdateJob(j); err != nil {
			return err
		}
	}
	if err := e.record(tx, s.now, s.events); err != nil {
		return err
	}
	for _, c := range s.checks {
		c.ID = e.cfg.NewID()
		if err := tx.InsertHealthCheck(&c); err != nil {
			return err
		}
	}
	if s.usable {
		waiting, err := waitingFor(tx, s.inst.ProjectID)
		if err != nil {
			return err
		}
		s.wakes = append(s.wakes, waiting...)
	}
	return tx.Wake(s.now, s.wakes...)
}

// HostUp stores what exists on a host, and finds what is lost and what is
// left over there.
func (e *Engine) HostUp(ctx context.Context, instanceID string, hello hostapi.Hello) error {
	var again []store.Key
	err := e.observe(ctx, instanceID, "store host up", func(tx *store.Tx, s *scene) error {
		if err := onlyOnce(tx, instanceID, hello.Info); err != nil {
			return err
		}
		again = again[:0]
		greet(s, hello)
		s.keptBy(e.cfg.ServerID)
		again = append(again, store.Key{Kind: store.KindInstance, ID: instanceID})
		for _, j := range s.jobs {
			again = append(again, store.Key{Kind: store.KindJob, ID: j.ID})
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.up[instanceID] = true
	for id, st := range e.effects {
		if st.effect.InstanceID == instanceID && !st.inFlight {
			delete(e.effects, id)
		}
	}
	e.mu.Unlock()
	e.queue.push(again...)
	return nil
}

// onlyOnce refuses a machine that is in a fleet already under another name or
// address: to each of two instances the jobs of the other are orphans. The
// boot tells one machine from the copy of its disk.
func onlyOnce(tx *store.Tx, instanceID string, info hostapi.Info) error {
	list, err := tx.InstancesOfShim(info.HostID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(i store.Instance) bool { return i.ID == instanceID }) {
		return nil // it was here before
	}
	for _, i := range list {
		if i.Status == api.InstanceTerminated || i.Info == nil || i.Info.BootID != info.BootID {
			continue
		}
		return &hostapi.Problem{
			Code:    "deploy_failed",
			Message: "This machine is in a fleet already, under another name or address",
			Remedy:  "Take it out of one of the two",
			// One that is being taken out makes room in a moment.
			Permanent: i.Status != api.InstanceTerminating,
		}
	}
	return nil
}

// keptBy stores which server looks after a machine of a cloud.
func (s *scene) keptBy(server string) {
	if s.inst.Machine == nil || s.inst.Machine.Keeper == server {
		return
	}
	m := *s.inst.Machine
	m.Keeper, s.inst.Machine, s.instDirty = server, &m, true
	s.wake(store.KindInstance, s.inst.ID)
}

func greet(s *scene, hello hostapi.Hello) {
	i := &s.inst
	isNew := i.HostID != hello.Info.HostID
	lost := isNew && i.HostID != ""
	if isNew {
		i.HostID, i.Seq, s.instDirty = hello.Info.HostID, 0, true
	}
	shimAnswers(s)
	inform(s, hello.Info)
	if i.UnreachableSince != nil || i.Unreachable {
		if i.Unreachable {
			s.event("Instance became reachable", instanceTarget(i))
		}
		i.Unreachable, i.UnreachableSince, s.instDirty, s.usable = false, nil, true, true
	}
	present := map[string]hostapi.Task{}
	for _, t := range hello.Tasks {
		present[t.ID] = t
	}
	for n := range s.jobs {
		j := &s.jobs[n]
		t, found := present[j.ID]
		delete(present, j.ID)
		meet(s, j, t, found, lost)
	}
	for _, t := range hello.Tasks {
		if _, unknown := present[t.ID]; unknown && !slices.Contains(i.Orphans, t.ID) {
			i.Orphans = append(slices.Clone(i.Orphans), t.ID)
			s.instDirty = true
		}
	}
	if s.instDirty {
		s.wake(store.KindInstance, i.ID)
	}
}

// meet compares a job with what the host has of it.
func meet(s *scene, j *store.Job, t hostapi.Task, found, reinstalled bool) {
	if j.DisconnectedAt != nil {
		j.DisconnectedAt = nil
		s.event("Job became reachable", jobTarget(j))
		s.change(j)
	}
	known := j.Task != nil && j.Task.State != hostapi.TaskTerminated
	switch {
	case reinstalled && (known || j.Task == nil):
		// Also one that was never heard of: the old installation may have
		// started it, and what it knew of that is lost.
		lose(s, j, "The shim of "+s.inst.Name+" was installed anew, and the job is gone with the old one")
	case known && !found:
		lose(s, j, "The job is gone from "+s.inst.Name)
	case found && j.Task == nil:
		task := acknowledged(j.ID, t)
		j.Task = &task
		s.change(j)
	}
}

func lose(s *scene, j *store.Job, why string) {
	j.Task = &hostapi.Task{
		ID: j.ID, State: hostapi.TaskTerminated, Reason: string(api.ReasonExecutorError), Message: why,
	}
	s.change(j)
}

// inform takes over the facts of a host, and its problem as the message of
// the instance.
func inform(s *scene, info hostapi.Info) {
	i := &s.inst
	heed(s, info.Notice)
	info.Health = heardOf(i.Info, info)
	examine(s, info.Health)
	if i.Info == nil || !reflect.DeepEqual(*i.Info, info) {
		i.Info, s.instDirty = &info, true
	}
	var message *string
	if info.Problem != nil {
		text := info.Problem.Error()
		message = &text
	}
	if comesUp(s, message) {
		return
	}
	ending := i.Status == api.InstanceTerminating || i.Status == api.InstanceTerminated
	if !ending && !reflect.DeepEqual(i.ReasonMessage, message) {
		i.ReasonMessage, s.instDirty = message, true
		s.usable = s.usable || message == nil
	}
}

// comesUp keeps what is in the way of a machine of a cloud that boots. It is no
// message for users yet: at first nothing answers there, then some parts are
// still missing.
func comesUp(s *scene, problem *string) bool {
	i := &s.inst
	if i.Machine == nil || i.Status != api.InstanceProvisioning {
		return false
	}
	if text := deref(problem); text != i.Machine.Problem {
		m := *i.Machine
		m.Problem, i.Machine, s.instDirty = text, &m, true
	}
	return true
}

// HostDown stores that a host does not answer, and why.
func (e *Engine) HostDown(ctx context.Context, instanceID string, problem *hostapi.Problem) error {
	e.mu.Lock()
	delete(e.up, instanceID)
	e.mu.Unlock()
	return e.observe(ctx, instanceID, "store host down", func(_ *store.Tx, s *scene) error {
		i := &s.inst
		if i.Status == api.InstanceTerminated || i.Status == api.InstanceTerminating {
			return nil
		}
		if i.UnreachableSince == nil {
			i.UnreachableSince, s.instDirty = &s.now, true
		}
		boots := false
		if problem != nil && problem.Code == hostapi.CodeClaimed {
			s.keptBy("")
		}
		if problem != nil {
			text := problem.Error()
			boots = comesUp(s, &text)
			if !boots && (i.ReasonMessage == nil || *i.ReasonMessage != text) {
				i.ReasonMessage, s.instDirty = &text, true
			}
		}
		switch i.Status {
		case api.InstanceIdle, api.InstanceBusy:
			if !i.Unreachable {
				i.Unreachable, s.instDirty = true, true
				s.event("Instance became unreachable", instanceTarget(i))
			}
		case api.InstancePending, api.InstanceProvisioning:
			if problem != nil && problem.Permanent && !boots && i.Reason == nil {
				reason := api.ReasonInstanceError
				i.Reason, s.instDirty = &reason, true
			}
		}
		for n := range s.jobs {
			if j := &s.jobs[n]; j.DisconnectedAt == nil && !isBooting(i) {
				j.DisconnectedAt = &s.now
				s.event("Job became unreachable", jobTarget(j))
				s.change(j)
			}
		}
		if s.instDirty {
			s.wake(store.KindInstance, i.ID)
		}
		return nil
	})
}

// HostInfo stores new facts of a host.
func (e *Engine) HostInfo(ctx context.Context, instanceID string, info hostapi.Info) error {
	return e.observe(ctx, instanceID, "store host facts", func(_ *store.Tx, s *scene) error {
		inform(s, info)
		if s.instDirty {
			s.wake(store.KindInstance, instanceID)
		}
		return nil
	})
}
