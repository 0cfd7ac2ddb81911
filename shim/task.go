package shim

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
	"dstack/shim/agentlink"
	"dstack/shim/wipe"
	"dstack/shim/workload"
)

// task is one task of the host. Its run method drives it; others look at it,
// ask it to stop, or ask it to go.
type task struct {
	m   *Manager
	id  string
	dir string
	log zerolog.Logger

	// stopping is closed when a stop was asked for, removing when it is to
	// go, gone when it is. again says that the grace of a stop was lowered.
	stopping, removing, gone chan struct{}
	again                    chan struct{}

	mu  sync.Mutex
	rec record
	// ending says that nothing of the task runs any more and its volumes may go.
	ending bool
	// dropped says that the task's files are going: nothing is kept any more.
	dropped bool
	// pull is the progress of a pull, dirty if the stream has not told it.
	pull  *hostapi.PullProgress
	dirty bool
	// plain is how much of the plain log can be read while the task runs.
	plain int64
	// usage is what was measured and not told yet, the oldest first.
	usage []measurement
	// measured is when the last measurement came.
	measured time.Time
}

func (m *Manager) newTask(id string, rec record) *task {
	t := &task{
		m: m, id: id, dir: filepath.Join(m.cfg.tasksDir(), id), rec: rec,
		log:      m.cfg.Log.With().Str("task", id).Logger(),
		stopping: make(chan struct{}), removing: make(chan struct{}), gone: make(chan struct{}),
		again: make(chan struct{}, 1),
	}
	if rec.Stop != nil {
		close(t.stopping)
	}
	if rec.Removing {
		close(t.removing)
	}
	return t
}

func (t *task) record() record {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rec
}

// view is the task as the controller sees it.
func (t *task) view() hostapi.Task {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.rec.Task
	if v.State == hostapi.TaskPulling {
		v.Pull = t.pull
	}
	return v
}

// update changes the record: first in the journal if the controller has to
// know, then on the disk, then in memory. In this order no crash or full disk
// between them loses an event: the step is done again, and reported again. A
// final state goes into the journal later, when its log was sent (see
// [Manager.publish]).
func (t *task) update(change func(*record)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.rec
	change(&next)
	if t.dropped || reflect.DeepEqual(next, t.rec) {
		return nil
	}
	news := !reflect.DeepEqual(next.Task, t.rec.Task)
	if news && !next.ended() {
		if _, err := t.m.journal.Append(next.Task); err != nil {
			return fmt.Errorf("report task: %w", err)
		}
	}
	if err := saveRecord(t.dir, next); err != nil {
		return err
	}
	t.rec = next
	if news {
		t.log.Info().Str("state", string(next.Task.State)).Str("reason", next.Task.Reason).Msg("task changed")
		t.m.wake()
	}
	return nil
}

// tellAgain reports the task's state once more: a final one when its log was
// sent.
func (t *task) tellAgain() error {
	if err := t.update(func(r *record) { r.Published = false }); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dropped || t.rec.ended() {
		return nil
	}
	if _, err := t.m.journal.Append(t.rec.Task); err != nil {
		return fmt.Errorf("report task again: %w", err)
	}
	return nil
}

// insist is update, again and again while the disk refuses; it returns false
// only if ctx ended.
func (t *task) insist(ctx context.Context, change func(*record)) bool {
	for {
		err := t.update(change)
		if err == nil {
			return true
		}
		t.log.Error().Err(err).Msg("task not kept")
		if !sleep(ctx, time.Second) {
			return false
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// askStop records a request to stop. The first reason counts; a shorter grace
// of a later request does, too.
func (t *task) askStop(stop hostapi.StopTask, now time.Time) error {
	first, shorter := false, false
	err := t.update(func(r *record) {
		switch {
		case r.ended():
		case r.Stop == nil:
			first = true
			r.Stop, r.StopAt = &stop, now
		case stop.Grace < r.Stop.Grace:
			shorter = true
			lower := *r.Stop
			lower.Grace = stop.Grace
			r.Stop, r.StopAt = &lower, now
		}
	})
	if err != nil {
		return err
	}
	if first {
		close(t.stopping)
	}
	if shorter {
		select {
		case t.again <- struct{}{}:
		default:
		}
	}
	return nil
}

// askRemove records that the task is to go, stopping it first.
func (t *task) askRemove(now time.Time) error {
	if err := t.askStop(hostapi.StopTask{Reason: reasonByServer, Message: "The job was removed from its host"}, now); err != nil {
		return err
	}
	first := false
	err := t.update(func(r *record) { first, r.Removing = !r.Removing, true })
	if err == nil && first {
		close(t.removing)
	}
	return err
}

// run drives the task until it is gone, or until ctx ends, which leaves it as
// it is for the next shim. It is started once per shim and task.
func (t *task) run(ctx context.Context) {
	for ctx.Err() == nil {
		var err error
		switch t.record().Task.State {
		case hostapi.TaskPreparing:
			err = t.prepare(ctx)
		case hostapi.TaskPulling:
			err = t.pullImage(ctx)
		case hostapi.TaskCreating:
			err = t.launch(ctx)
		case hostapi.TaskRunning:
			err = t.watch(ctx)
		default:
			t.finish(ctx)
			return
		}
		t.handle(ctx, err)
	}
}

// handle ends the task after a failure, and pauses after a fault that may pass.
func (t *task) handle(ctx context.Context, err error) {
	var failure *workload.StartError
	rec := t.record()
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.As(err, &failure):
		t.end(ctx, verdict{reason: failure.Reason, message: failure.Message})
	case rec.Stop != nil && rec.Boot == "": // nothing was launched
		t.end(ctx, verdict{reason: rec.Stop.Reason, message: rec.Stop.Message})
	default:
		t.log.Warn().Err(err).Str("state", string(rec.Task.State)).Msg("step of task failed")
		sleep(ctx, time.Second)
	}
}

// end makes the verdict the task's final state. A stop that was recorded
// before the launch wins over what went wrong because of it.
func (t *task) end(ctx context.Context, v verdict) {
	t.unmount(ctx)
	size, diagnostics := t.logSize(), t.diagnostics()
	ok := t.insist(ctx, func(r *record) {
		if r.Stop != nil && r.Boot == "" {
			v = verdict{reason: r.Stop.Reason, message: r.Stop.Message}
		}
		r.Task.State, r.Task.Reason, r.Task.Message, r.Task.ExitStatus = hostapi.TaskTerminated, v.reason, v.message, v.status
		r.Task.PlainSize, r.Task.Diagnostics = &size, diagnostics
		*r = r.dropSecrets()
	})
	if ok {
		t.m.gpus.Release(t.id)
		t.m.reconcileKeysLogged(t.record().Spec.HostUser)
	}
}

// diagnostics is what the agent said of itself so far.
func (t *task) diagnostics() string {
	rec := t.record()
	if rec.RunDir == "" {
		return ""
	}
	folder, err := agentlink.OpenFolder(rec.RunDir)
	if err != nil {
		return ""
	}
	text := folder.Diagnostics()
	if err := folder.Close(); err != nil {
		t.log.Warn().Err(err).Msg("folder of task not closed")
	}
	return text
}

func (t *task) logSize() int64 {
	rec := t.record()
	if rec.RunDir == "" {
		return 0
	}
	folder, err := agentlink.OpenFolder(rec.RunDir)
	if err != nil {
		return 0
	}
	size := folder.LogSize()
	if err := folder.Close(); err != nil {
		t.log.Warn().Err(err).Msg("folder of task not closed")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(size, max(rec.maxLog(time.Now()), t.plain))
}

// finish waits until the ended task is to go, and removes it.
func (t *task) finish(ctx context.Context) {
	select {
	case <-t.removing:
	case <-ctx.Done():
		return
	}
	t.mu.Lock()
	t.dropped = true
	t.mu.Unlock()
	for {
		rec := t.record()
		err := t.m.runtime.Remove(ctx, rec.workload(t.dir))
		if err == nil {
			err = wipe.All(t.dir)
		}
		if err == nil {
			break
		}
		t.log.Warn().Err(err).Msg("task not removed yet")
		if !sleep(ctx, time.Second) {
			return
		}
	}
	t.log.Info().Msg("task removed")
	t.m.forget(t.id)
	close(t.gone)
}
