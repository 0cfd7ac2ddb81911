package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"dstack/agent/exec"
	"dstack/agent/ptylog"
	"dstack/protocol/jobapi"
)

const (
	// pollInterval is how often processes are looked at that cannot be waited for.
	pollInterval = 100 * time.Millisecond
	// killLimit is how long killed processes are awaited that do not get
	// fewer, such as those that hang in the kernel.
	killLimit = 2 * time.Second
	// drainLimit is how long output is awaited, for example from a slow disk,
	// when no process is left to write any.
	drainLimit = 30 * time.Second
	// cleanupPoll is how often these are looked at.
	cleanupPoll = 5 * time.Millisecond
)

// run prepares and starts the job and sees it through. It returns its final state.
func (j *job) run(ctx context.Context) jobapi.Status {
	if err := j.set(jobapi.Status{State: jobapi.Starting}); err != nil {
		return failed(reasonExecutor, "Failed to start the job (%v)", err)
	}
	h := host{root: j.config.Root, dir: j.config.Dir}
	caps, err := capabilities()
	if err != nil {
		return failed(reasonExecutor, "Failed to start the job (%v)", err)
	}
	h.canSwitch = caps&switchUser == switchUser
	s, fault := h.prepare(j.spec, os.Environ())
	if fault != nil {
		return *fault
	}
	if err := h.furnish(j.spec, &s); err != nil {
		j.logger.Warn().Err(err).Msg("files for the job not written")
	}
	if caps&resources != 0 {
		if err := unlimitMemlock(); err != nil {
			j.logger.Warn().Err(err).Msg("limit not raised")
		}
	}
	if fault := j.startSSH(h, &s); fault != nil {
		return *fault
	}
	if err := j.set(jobapi.Status{State: jobapi.Starting}); err != nil {
		return failed(reasonExecutor, "Failed to start the job (%v)", err)
	}
	defer j.forgetGitCreds()
	fault = j.fetch(ctx, h, &s)
	if fault == nil {
		fault = j.awaitServer(ctx)
	}
	if o := j.orders.get(); o != nil {
		return jobapi.Status{State: o.ending.state, Reason: o.ending.reason, Message: o.ending.message}
	}
	if fault != nil {
		return *fault
	}
	// After the files of the user, which may bring an SSH configuration.
	if err := h.joinCluster(j.spec, &s); err != nil {
		j.logger.Warn().Err(err).Msg("job cannot log in to other nodes")
	}
	kills := memoryKills()
	p, err := exec.Start(j.reaper, s.command)
	if err != nil {
		return j.notStarted(err)
	}
	started := jobapi.Status{State: jobapi.Running, Username: s.user.Name, WorkingDir: s.command.Dir}
	w := &watch{job: j, p: p}
	if err := j.set(started); err != nil {
		w.abandon(ending{jobapi.Failed, reasonExecutor, fmt.Sprintf("Failed to start the job (%v)", err)})
	}
	stopMeter := j.measure(ctx)
	w.see(ctx)
	stopMeter()
	return result(w.end, w.status, memoryKills() > kills)
}

// notStarted tells why the command could not be started, in the log too, as
// a shell does.
func (j *job) notStarted(err error) jobapi.Status {
	var blame *exec.StartError
	if !errors.As(err, &blame) {
		return failed(reasonExecutor, "Failed to start the job (%v)", err)
	}
	if _, err := io.WriteString(j.log, blame.Error()+"\r\n"); err != nil {
		j.logger.Warn().Err(err).Msg("log not written")
	}
	s := failed(reasonExited, "Failed to start the command (%v)", blame)
	s.ExitStatus = &blame.Status
	return s
}

// watch follows a started job to its end. One goroutine uses it.
type watch struct {
	*job
	p *exec.Job

	end      *ending // why the job is being ended, if it is
	ordered  bool    // end comes from an order
	schedule exec.Schedule
	since    time.Time  // when its stop began
	stage    exec.Stage // what was done to stop it

	status syscall.WaitStatus
	exited time.Time // when the main process ended; zero while it runs
	copied bool      // all output is in the log, or will never be
}

// see returns when the job has ended, nothing of it is left, and all its
// output is in the log.
func (w *watch) see(ctx context.Context) {
	copied := make(chan error, 1)
	go func() { copied <- w.log.Copy(w.p.Output()) }() // ends below, at the latest when the terminal is closed
	var limit <-chan time.Time
	if w.spec.MaxDuration > 0 {
		timer := time.NewTimer(time.Duration(w.spec.MaxDuration) * time.Second)
		defer timer.Stop()
		limit = timer.C
	}
	done := ctx.Done()
	for {
		next := w.step(time.Now())
		if next == 0 {
			break
		}
		timer := time.NewTimer(next)
		select {
		case w.status = <-w.p.Exited():
			w.exited = time.Now()
			if err := w.p.Release(); err != nil {
				w.logger.Warn().Err(err).Msg("terminal not released")
			}
		case err := <-copied:
			w.copied = true
			w.outputEnded(err)
		case <-w.orders.wake:
			w.obey(w.orders.get())
		case <-w.warned:
			w.logger.Info().Msg("job warned")
			if err := w.p.Warn(); err != nil {
				w.logger.Warn().Err(err).Msg("job not warned")
			}
		case <-limit:
			w.stop(ending{jobapi.Terminated, reasonMaxDuration, "Max duration exceeded"}, w.config.Schedule)
		case <-done:
			done = nil
			w.abandon(ending{jobapi.Failed, reasonExecutor, "The agent failed: " + context.Cause(ctx).Error()})
		case <-timer.C:
		}
		timer.Stop()
	}
	if server := w.ssh.Load(); server != nil {
		server.Retire() // or it would start what nobody ends
	}
	w.killRest(copied)
}

// stop begins to stop the job, unless that has begun or the job has ended.
func (w *watch) stop(e ending, schedule exec.Schedule) {
	if w.end == nil && w.exited.IsZero() {
		w.end, w.schedule, w.since = &e, schedule, time.Now()
	}
}

// abandon kills the job at once.
func (w *watch) abandon(e ending) {
	w.end, w.ordered, w.schedule, w.since = &e, false, exec.Schedule{}, time.Now()
}

// obey carries out an order; a later one may change the reason or kill.
func (w *watch) obey(o *order) {
	if w.ordered && w.exited.IsZero() {
		w.end = &o.ending
	}
	if w.end == nil {
		w.stop(o.ending, o.schedule)
		w.ordered = w.end != nil
	}
	if o.kill {
		w.schedule = exec.Schedule{}
	}
}

// outputEnded deals with how copying the output to the log ended.
func (w *watch) outputEnded(err error) {
	switch {
	case err == nil:
	case errors.Is(err, ptylog.ErrQuota):
		w.abandon(ending{jobapi.Failed, reasonLogQuota,
			fmt.Sprintf("Job log output exceeded the hourly quota of %d bytes", w.spec.LogQuotaHour)})
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		w.abandon(ending{jobapi.Failed, reasonExecutor, fmt.Sprintf(
			"Failed to write the job's log (%v): the disk of the host is full, free some space and run it again", err)})
	default:
		w.abandon(ending{jobapi.Failed, reasonExecutor, fmt.Sprintf("Failed to write the job's log (%v)", err)})
	}
}

// step does what is due and returns how long to wait for the next step, 0
// once the job is over.
func (w *watch) step(now time.Time) time.Duration {
	wait := time.Hour
	if w.end != nil {
		stage, next := w.schedule.At(now.Sub(w.since))
		if stage != w.stage || stage == exec.Kill {
			w.stage = stage
			if err := w.p.Stop(stage); err != nil {
				w.logger.Warn().Err(err).Int("stage", int(stage)).Msg("stop failed")
			}
		}
		// Polling sees processes that the session forks while it is killed.
		wait = pollInterval
		if stage != exec.Kill && w.exited.IsZero() {
			wait = max(w.since.Add(next).Sub(now), time.Millisecond)
		}
	}
	if w.exited.IsZero() {
		return wait
	}
	if w.end != nil && w.alive() {
		return wait // the rest of the session has its grace, too
	}
	if left := w.exited.Add(w.config.Drain).Sub(now); left > 0 && !w.copied {
		return left
	}
	return 0
}

func (w *watch) alive() bool {
	alive, err := w.p.Alive()
	if err != nil {
		w.logger.Warn().Err(err).Msg("processes not listed")
	}
	return alive
}

// killRest ends what the job left behind, then takes the last output. It
// waits as long as either gets on.
func (w *watch) killRest(copied <-chan error) {
	whole := w.spec.Isolated && ownNamespace()
	poll := time.NewTicker(cleanupPoll)
	defer poll.Stop()
	var left int
	var written int64
	for since := time.Now(); ; {
		before, was := left, written
		var err error
		if left, err = w.p.KillAll(whole); err != nil {
			w.logger.Warn().Err(err).Msg("processes not killed")
		}
		if left == 0 && w.copied {
			break
		}
		if written = w.log.Position().Raw; left != before || written != was {
			since = time.Now()
		}
		if left > 0 && time.Since(since) > killLimit || time.Since(since) > drainLimit {
			w.logger.Warn().Int("left", left).Bool("drained", w.copied).Msg("job leaves processes behind")
			break
		}
		select {
		case err := <-copied:
			w.copied = true
			w.outputEnded(err)
		case <-poll.C:
		}
	}
	if err := w.p.Close(); err != nil {
		w.logger.Warn().Err(err).Msg("terminal not closed")
	}
	if !w.copied {
		if err := <-copied; !errors.Is(err, os.ErrClosed) {
			w.outputEnded(err)
		}
	}
}

// ownNamespace says whether every process that we see is in our container:
// our parent is process 1, and it is this same program.
func ownNamespace() bool {
	if os.Getppid() != 1 {
		return false
	}
	init, err := os.Stat("/proc/1/exe")
	if err != nil {
		return false
	}
	self, err := os.Stat("/proc/self/exe")
	return err == nil && os.SameFile(init, self)
}
