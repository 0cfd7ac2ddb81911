package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dstack/controller/backends"
	"dstack/controller/hosts"
	"dstack/controller/store"
	"dstack/protocol/hostapi"
)

// EffectKind is a kind of effect.
type EffectKind string

// Kinds of effects.
const (
	DoEnsure    EffectKind = "ensure"
	DoForget    EffectKind = "forget"
	DoStart     EffectKind = "start"
	DoStop      EffectKind = "stop"
	DoRemove    EffectKind = "remove"
	DoUninstall EffectKind = "uninstall"
	DoServe     EffectKind = "serve"
	// Errands to the cloud of a machine: ask for one, ask for its address, see
	// that it is still there, end it.
	DoCreate   EffectKind = "create"
	DoDescribe EffectKind = "describe"
	DoWatch    EffectKind = "watch"
	DoRelease  EffectKind = "release"
	// DoReserve looks for a reservation, DoUngroup deletes a placement group.
	DoReserve EffectKind = "reserve"
	DoUngroup EffectKind = "ungroup"
	// Errands about a volume.
	DoMake   EffectKind = "make"
	DoErase  EffectKind = "erase"
	DoAttach EffectKind = "attach"
	DoDetach EffectKind = "detach"
)

// Effect is something to be done on a host, or at its cloud.
type Effect struct {
	Kind EffectKind
	// Key is looked at again when the effect ended.
	Key        store.Key
	InstanceID string
	// TaskID is the job submission that the effect is about, if any.
	TaskID string
	Spec   hostapi.TaskSpec
	Stop   hostapi.StopTask
	Target hosts.Target
	// Cloud is what is asked of a cloud.
	Cloud Errand
	Disk  DiskErrand
}

// id tells effects apart: the same one is not started twice.
func (f Effect) id() string {
	id := string(f.Kind) + "/" + f.InstanceID + "/" + f.TaskID + f.Cloud.Ref.Token + f.Disk.VolumeID
	if f.Kind == DoStop && f.Stop.Grace == 0 {
		id += "/kill"
	}
	return id
}

// needsHost says whether the effect waits for a connection.
func (f Effect) needsHost() bool { return f.Kind == DoStart || f.Kind == DoStop || f.Kind == DoRemove }

type effectState struct {
	effect   Effect
	inFlight bool
	// done is for effects that leave no trace in the rows: a stop that was
	// accepted is not repeated until the host reconnects.
	done  bool
	tries int
	first time.Time // when it was asked for
	retry time.Time
}

// ending is when the last errand for a machine or volume ended: as a number
// that grows with each of them, and as a time.
type ending struct {
	mark uint64
	at   time.Time
}

// Outcome is how an effect ended.
type Outcome struct {
	Task     hostapi.Task
	Machine  backends.Machine
	Reserved store.Reserved
	// Asked is when a cloud was asked, which may be long before its answer is
	// heard.
	Asked time.Time
	Disk  DiskAnswer
	Err   error
}

const (
	callLimit = 20 * time.Second
	// startLimit is how long a start may take whose files are sent before it.
	startLimit = 15 * time.Minute
	// uninstallLimit, uninstallTries and uninstallFor bound how long a host
	// that is to go may keep its instance: one that boots comes back in that
	// time; what is left on another stays there.
	uninstallLimit = 60 * time.Second
	uninstallTries = 3
	uninstallFor   = 25 * time.Second
	maxBackoff     = 10 * time.Second
)

// launch starts the effects of a committed decision, unless they are in
// flight, done, or have to wait. Hosts is called without the lock: it may
// wait for an observation that needs it.
//
// began is the mark when the view of the decision was read: a decision that an
// answer of a cloud overtook asks for nothing. A machine that was refused, and
// is asked for once more under the old token, would be nobody's.
func (e *Engine) launch(list []Effect, began uint64) {
	for _, f := range list {
		switch f.Kind {
		case DoEnsure:
			e.ensure(f)
		case DoServe:
			e.cfg.Hosts.ServeJob(f.InstanceID, f.TaskID)
		case DoForget:
			e.cfg.Hosts.Forget(f.InstanceID)
			e.mu.Lock()
			delete(e.ensured, f.InstanceID)
			delete(e.up, f.InstanceID)
			e.mu.Unlock()
		default:
			e.mu.Lock()
			stale := e.endings[f.subject()].mark > began
			ready, start := !stale && e.admit(f), e.start
			e.mu.Unlock()
			if stale {
				e.queue.push(f.Key)
			}
			if ready {
				start(f)
			}
		}
	}
}

func (e *Engine) ensure(f Effect) {
	e.mu.Lock()
	known := e.ensured[f.InstanceID]
	e.ensured[f.InstanceID] = true
	e.mu.Unlock()
	if !known {
		e.cfg.Hosts.Ensure(f.Target)
	}
}

func (e *Engine) admit(f Effect) bool {
	if f.needsHost() && !e.up[f.InstanceID] {
		return false // HostUp wakes
	}
	st := e.effects[f.id()]
	if st == nil {
		st = &effectState{first: e.now()}
		e.effects[f.id()] = st
	}
	if st.inFlight || st.done || e.errands[f.subject()] {
		return false // its end wakes
	}
	if now := e.now(); now.Before(st.retry) {
		e.timers.set(f.Key, st.retry)
		return false
	}
	st.effect, st.inFlight = f, true
	if subject := f.subject(); subject != "" {
		e.errands[subject] = true
	}
	return true
}

// Perform does an effect. It changes nothing here.
func (e *Engine) Perform(ctx context.Context, f Effect) Outcome {
	limit := callLimit
	switch {
	case f.onCloud() || f.onDisk():
		limit = errandLimit
	case f.Kind == DoUninstall:
		limit = uninstallLimit
	case f.Kind == DoStart && len(f.Spec.Job.Blobs()) > 0:
		limit = startLimit
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s: no answer in %s", f.Kind, limit))
	defer cancel()
	var out Outcome
	switch f.Kind {
	case DoStart:
		id := f.TaskID
		if e.faults.forgetStart && e.triesOf(f) > 1 {
			id += "-again"
		}
		out.Task, out.Err = e.cfg.Hosts.StartTask(ctx, f.InstanceID, id, f.Spec)
	case DoStop:
		out.Err = e.cfg.Hosts.StopTask(ctx, f.InstanceID, f.TaskID, f.Stop)
	case DoRemove:
		out.Err = e.cfg.Hosts.RemoveTask(ctx, f.InstanceID, f.TaskID)
	case DoUninstall:
		out.Err = e.cfg.Hosts.Uninstall(ctx, f.Target)
	case DoReserve:
		out.Reserved, out.Err = e.findReservation(ctx, f)
	case DoCreate, DoDescribe, DoWatch, DoRelease, DoUngroup:
		out.Asked = e.now()
		out.Machine, out.Err = e.run(ctx, f)
	case DoMake, DoErase, DoAttach, DoDetach:
		out.Asked = e.now()
		out.Disk, out.Err = e.runDisk(ctx, f)
	case DoEnsure, DoForget, DoServe:
	}
	return out
}

// Finish writes down how an effect ended and looks at its key again.
func (e *Engine) Finish(ctx context.Context, f Effect, out Outcome) {
	var refused *hostapi.Error
	answered := out.Err == nil || errors.As(out.Err, &refused)
	var err error
	switch {
	case f.onCloud():
		err = e.finishErrand(ctx, f, out)
	case f.onDisk():
		err = e.finishDisk(ctx, f, out)
	case f.Kind == DoUninstall:
		if err = out.Err; err == nil || e.hopeless(f) {
			err = e.uninstalled(ctx, f, out.Err)
		}
	case !answered || refused != nil && !final(refused):
		err = out.Err
	case f.Kind == DoStart:
		err = e.started(ctx, f, out.Task, refused)
	case f.Kind == DoRemove:
		err = e.removed(ctx, f)
	case refused != nil && refused.Code != hostapi.CodeNotFound && refused.Code != hostapi.CodeGone:
		err = out.Err
	}
	if err != nil && !errors.Is(err, errAgain) && ctx.Err() == nil {
		e.cfg.Log.Warn().Err(err).Str("effect", string(f.Kind)).Str("instance", f.InstanceID).Str("job", f.TaskID).
			Msg("effect failed, trying again")
	}
	e.settle(f, err)
	e.queue.push(f.Key)
}

// final says whether asking again would give the same answer.
func final(err *hostapi.Error) bool {
	switch err.Code {
	case hostapi.CodeBadRequest, hostapi.CodeNotFound, hostapi.CodeGone:
		return true
	}
	return false
}

// triesOf is how often the effect was tried, this time included.
func (e *Engine) triesOf(f Effect) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if st := e.effects[f.id()]; st != nil {
		return st.tries + 1
	}
	return 1
}

// hopeless says that a host was asked often and long enough to let go of us.
func (e *Engine) hopeless(f Effect) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := e.effects[f.id()]
	return st != nil && st.tries+1 >= uninstallTries && e.now().Sub(st.first) >= uninstallFor
}

func (e *Engine) settle(f Effect, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if subject := f.subject(); subject != "" {
		delete(e.errands, subject)
		e.mark++
		e.endings[subject] = ending{e.mark, e.now()}
	}
	st := e.effects[f.id()]
	if st == nil {
		return
	}
	st.inFlight = false
	switch {
	case err != nil:
		st.retry = e.now().Add(f.pause(st.tries, err))
		st.tries++
	case f.Kind == DoStop:
		st.done = true
	default:
		delete(e.effects, f.id())
	}
}

// forgetEffects drops what is remembered of effects on a task that ended.
func (e *Engine) forgetEffects(instanceID, taskID string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.pulls, taskID)
	delete(e.idle, holder{instanceID, taskID})
	for _, f := range []Effect{{Kind: DoStart}, {Kind: DoStop}, {Kind: DoStop, Stop: hostapi.StopTask{Grace: 1}}} {
		f.InstanceID, f.TaskID = instanceID, taskID
		if st := e.effects[f.id()]; st != nil && !st.inFlight {
			delete(e.effects, f.id())
		}
	}
}

// write runs a transaction, again if its rows were changed meanwhile.
func (e *Engine) write(ctx context.Context, what string, fn func(*store.Tx) error) error {
	for {
		err := e.cfg.Store.Write(ctx, fn)
		if err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrConflict) || ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}
