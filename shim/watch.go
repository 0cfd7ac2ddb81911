package shim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
	"dstack/shim/agentlink"
	"dstack/shim/workload"
)

// watch sees a launched workload through to its end: it follows the agent,
// passes on a stop, and concludes once nothing of it runs any more.
func (t *task) watch(ctx context.Context) error {
	rec := t.record()
	folder, err := agentlink.OpenFolder(rec.RunDir)
	if err != nil {
		return &workload.StartError{Reason: reasonExecutor, Message: fmt.Sprintf("The folder of the task is gone: %v", err)}
	}
	defer func() {
		if err := folder.Close(); err != nil {
			t.log.Warn().Err(err).Msg("folder of task not closed")
		}
	}()
	agent := agentlink.NewClient(folder)
	var exit workload.Exit
	running, over := context.WithCancel(ctx)
	g, running := errgroup.WithContext(running)
	g.Go(func() error {
		defer over()
		var err error
		exit, err = t.m.runtime.Wait(running, rec.workload(t.dir))
		return err
	})
	g.Go(func() error { t.follow(running, agent); return nil })
	g.Go(func() error { t.stopWhenAsked(running, agent); return nil })
	g.Go(func() error { t.warnWhenNoticed(running, agent); return nil })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("watch task: %w", err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("watch task: %w", context.Cause(ctx))
	}
	e := ending{
		exit: exit, outcome: folder.Outcome(), stop: t.record().Stop, warned: t.record().Warned,
		rebooted: rec.Boot != t.m.cfg.BootID, memory: rec.Spec.MemoryBytes,
	}
	if e.outcome == nil {
		e.tail = t.m.runtime.Tail(ctx, rec.workload(t.dir))
	} else if e.outcome.Username != "" && e.outcome.ExitStatus != nil {
		// The job may have been over before its agent was heard.
		t.setRunning(*e.outcome)
	}
	t.end(ctx, conclude(e))
	return nil
}

// Limits of how often an agent that does not answer is tried: at once after
// the start, when every millisecond counts, then less and less.
const (
	firstCall = 3 * time.Millisecond
	lastCall  = time.Second
)

// follow takes the agent's events until the workload is over.
func (t *task) follow(ctx context.Context, agent *agentlink.Client) {
	wait := firstCall
	for ctx.Err() == nil {
		err := agent.Events(ctx, func() { wait = firstCall }, t.see)
		t.log.Debug().Err(err).Msg("agent's events ended")
		if !sleep(ctx, wait) {
			return
		}
		wait = min(wait+wait/8+time.Millisecond, lastCall)
	}
}

func (t *task) see(e jobapi.Event) {
	if e.PlainSize > 0 {
		t.mu.Lock()
		size := min(e.PlainSize, t.rec.maxLog(time.Now()))
		grown := size > t.plain
		t.plain = max(t.plain, size)
		t.mu.Unlock()
		if grown {
			t.m.wake()
		}
	}
	if e.Usage != nil {
		t.measure(*e.Usage, time.Now())
		t.m.wakeSoon()
	}
	if e.Status != nil && (e.Status.State == jobapi.Running || e.Status.State.Ended() && e.Status.Username != "") {
		t.setRunning(*e.Status)
	}
}

// setRunning notes that the job was started.
func (t *task) setRunning(s jobapi.Status) {
	var user string
	diagnostics := t.diagnostics()
	err := t.update(func(r *record) {
		// Told once: an agent may be anybody's, and each change is written to
		// disks here and at the controller.
		if r.ended() || r.Task.State == hostapi.TaskRunning && (s.SSHPort == 0 || len(r.Task.Ports) > 0) {
			return
		}
		user = r.Spec.HostUser
		r.Task.State, r.Task.Username, r.Task.WorkingDir = hostapi.TaskRunning, s.Username, s.WorkingDir
		r.Task.Diagnostics = diagnostics
		if s.SSHPort != 0 && len(r.Task.Ports) == 0 {
			r.Task.Ports = map[int]int{sshPort: s.SSHPort}
		}
		*r = r.dropSecrets()
	})
	if err != nil {
		t.log.Error().Err(err).Msg("start of job not kept")
	}
	t.m.reconcileKeysLogged(user)
}

// sshPort is the agent's SSH port in a container.
const sshPort = 10022

// Times of a stop.
const (
	// agentGrace is the least time that an agent takes to end a job gently.
	agentGrace = 10 * time.Second
	// slack is what an agent gets beyond the grace to leave its last words.
	slack = 5 * time.Second
	// killSlack is the same where the job is to be killed at once.
	killSlack = 2 * time.Second
	callLimit = 5 * time.Second
	callAgain = 100 * time.Millisecond
)

// stopWhenAsked passes a stop on to the agent, and kills the workload if that
// does not end it in time.
func (t *task) stopWhenAsked(ctx context.Context, agent *agentlink.Client) {
	select {
	case <-t.stopping:
	case <-ctx.Done():
		return
	}
	told := false
	for ctx.Err() == nil {
		rec := t.record()
		stop := *rec.Stop
		left := time.Until(deadline(stop, rec.StopAt))
		if left <= 0 {
			if err := t.m.runtime.Kill(ctx, rec.workload(t.dir)); err != nil {
				t.log.Warn().Err(err).Msg("task not killed")
			}
			sleep(ctx, time.Second)
			continue
		}
		if !told {
			told = t.tell(ctx, agent, stop)
		}
		wait := left
		if !told {
			wait = min(left, callAgain)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-t.again:
			told = false
		}
		timer.Stop()
	}
}

// deadline is when a workload that was told to stop is killed.
func deadline(stop hostapi.StopTask, at time.Time) time.Time {
	if stop.Grace <= 0 {
		return at.Add(killSlack)
	}
	return at.Add(max(time.Duration(stop.Grace)*time.Second, agentGrace) + slack)
}

func (t *task) tell(ctx context.Context, agent *agentlink.Client, stop hostapi.StopTask) bool {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	err := agent.Stop(ctx, jobapi.StopRequest{
		Grace: max(stop.Grace, 0), Kill: stop.Grace <= 0, Reason: stop.Reason, Message: stop.Message,
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.log.Debug().Err(err).Msg("agent not told to stop")
	}
	return err == nil
}
