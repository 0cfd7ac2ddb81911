package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/client"
	"dstack/protocol/api"
)

// follower shows a submitted run until it ends: first its state, then its
// log, then how it ended. One goroutine owns it; watchers send to it.
type follower struct {
	a   *App
	s   *session
	run api.Run
	// leave says that Ctrl-C detaches without a question (-y).
	leave bool

	live      *term.Live
	launching bool
	// logOf is the submission whose log is or was shown.
	logOf    string
	logging  bool
	lineOpen bool
	stopping bool
	aborting bool

	runs   chan api.Run
	chunks chan []byte
	ended  chan error // the log of logOf is complete, or why not
}

// follow shows a run until its end and gives the command's exit code as an
// exitError.
func (a *App) follow(ctx context.Context, s *session, run api.Run, leave bool) error {
	f := &follower{
		a: a, s: s, run: run, leave: leave, live: a.Live(), launching: true,
		runs: make(chan api.Run), chunks: make(chan []byte), ended: make(chan error),
	}
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	defer f.live.Clear()
	pressed, release := a.Interrupts.Capture()
	defer release()

	watched := make(chan error, 1)
	workers.Go(func() {
		watched <- guard(func() error { return s.WatchRun(ctx, run.ID, send(ctx, f.runs)) })
	})
	spin := time.NewTicker(term.FrameTime)
	defer spin.Stop()
	for {
		if done, err := f.step(ctx, &workers); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f.run = <-f.runs:
		case err := <-watched:
			if err != nil {
				return f.lost(err)
			}
			watched = nil
		case text := <-f.chunks:
			if err := f.print(text); err != nil {
				return err
			}
		case err := <-f.ended:
			f.logging = false
			if err != nil && !client.IsNotExist(err) {
				return f.lost(err)
			}
		case <-pressed:
			if err := f.interrupted(ctx); err != nil {
				return err
			}
		case <-spin.C:
			f.live.Spin()
		}
	}
}

// send makes a callback that hands values over to a channel.
func send[T any](ctx context.Context, to chan<- T) func(T) error {
	return func(v T) error {
		select {
		case to <- v:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// lost explains an end of the connection: the run does not depend on it.
func (f *follower) lost(err error) error {
	f.endLine()
	return fmt.Errorf("%w\nThe run %s goes on. Look at it with: dstack ps; dstack logs -f %s", err, runName(f.run), runName(f.run))
}

// step looks at what is known now. It is done when the run's end was shown.
func (f *follower) step(ctx context.Context, workers *sync.WaitGroup) (done bool, err error) {
	job := firstSubmission(f.run)
	if !f.launching && !f.logging && job != nil && job.ID != f.logOf {
		f.launching = true // submitted again
	}
	switch {
	case f.launching && !ready(f.run, job):
		f.showLaunch()
		return false, nil
	case f.launching:
		f.launched()
		if job != nil {
			f.logOf, f.logging = job.ID, hasLog(f.run, *job)
		}
		if f.logging {
			run := f.run
			workers.Go(func() { f.followLog(ctx, run, job.ID) })
		}
	}
	if f.logging || !f.run.Status.Finished() {
		return false, nil
	}
	return true, f.finish(job)
}

func (f *follower) followLog(ctx context.Context, run api.Run, submission string) {
	write := send(ctx, f.chunks)
	err := guard(func() error {
		return f.s.followLog(ctx, run, submission, nil, func(c api.LogChunk) error { return write(c.Message) })
	})
	select {
	case f.ended <- err:
	case <-ctx.Done():
	}
}

// hasLog says whether a job came far enough to write something.
func hasLog(run api.Run, job api.JobSubmission) bool {
	return !run.Status.Finished() || job.JobProvisioningData != nil || job.ExitStatus != nil
}

// firstSubmission is the last submission of job 0, whose log is shown.
func firstSubmission(run api.Run) *api.JobSubmission {
	for _, job := range run.Jobs {
		if n := len(job.JobSubmissions); n > 0 && job.JobSpec.ReplicaNum == 0 && job.JobSpec.JobNum == 0 {
			return &job.JobSubmissions[n-1]
		}
	}
	return run.LatestJobSubmission
}

// ready says whether a run has left the way to its first line of log.
func ready(run api.Run, job *api.JobSubmission) bool {
	switch run.Status {
	case api.RunSubmitted, api.RunPending, api.RunProvisioning, api.RunTerminating:
		return false
	}
	if job == nil {
		return true
	}
	if render.DeploymentInProgress(run) {
		return false
	}
	switch job.Status {
	case api.JobSubmitted, api.JobProvisioning, api.JobPulling:
		return false
	}
	return true
}

func (f *follower) showLaunch() {
	name := runName(f.run)
	status := "Launching " + name + "..."
	switch {
	case f.aborting:
		status = "Aborting..."
	case f.stopping:
		status = "Stopping..."
	case waitsForSchedule(f.run):
		status = name + " is waiting for schedule..."
	case waitsForRequests(f.run):
		status = name + " is waiting for requests..."
	}
	f.live.Show(status, f.a.Render(f.table(false))+f.waiting())
}

func waitsForSchedule(run api.Run) bool {
	return run.NextTriggeredAt != nil && run.Status == api.RunPending
}

// waitsForRequests says whether a service has no replicas until someone asks.
func waitsForRequests(run api.Run) bool {
	return run.Service != nil && run.Status == api.RunPending && run.StatusMessage == string(api.RunPending) && run.NextTriggeredAt == nil
}

// waiting tells below the table what the run waits for.
func (f *follower) waiting() string {
	switch {
	case waitsForSchedule(f.run):
		return "\nNext run: " + f.run.NextTriggeredAt.Local().Format("2006-01-02 15:04 MST") + "\n"
	case waitsForRequests(f.run):
		return "\n" + published(f.run, f.s.BaseURL())
	}
	return f.pendingReason()
}

// pendingReason tells why the job could not start so far, if that is known.
func (f *follower) pendingReason() string {
	job := firstSubmission(f.run)
	if job == nil || deref(job.TerminationReasonMessage) == "" {
		return ""
	}
	return " " + f.a.Paint(term.Warning, strings.TrimSpace(*job.TerminationReasonMessage)) + "\n"
}

func (f *follower) table(verbose bool) term.Table {
	return render.RunsTable([]api.Run{f.run}, verbose, render.Clock)
}

// launched ends the live view with the final table.
func (f *follower) launched() {
	f.launching = false
	f.live.Clear()
	f.endLine()
	f.a.write(f.a.Render(f.table(f.run.Status == api.RunFailed)))
	f.a.Printf("\n%s provisioning completed (%s)", runName(f.run), f.run.Status)
	if f.run.Status == api.RunRunning || f.run.Status == api.RunDone {
		f.a.write(published(f.run, f.s.BaseURL()))
	}
}

// print passes log text on and remembers whether its last line is complete.
func (f *follower) print(text []byte) error {
	f.lineOpen = text[len(text)-1] != '\n'
	return f.a.writeLog(text)
}

// endLine completes a line that the job left open.
func (f *follower) endLine() {
	if f.lineOpen {
		f.a.Print("")
		f.lineOpen = false
	}
}

// finish shows how the run ended and gives the exit code.
func (f *follower) finish(job *api.JobSubmission) error {
	f.live.Clear()
	f.endLine()
	if f.stopping && f.run.Status == api.RunTerminated {
		text, style := "Stopped", term.Code
		if f.aborting {
			text, style = "Aborted", term.Error
		}
		f.a.Print(f.a.Paint(style, text))
		return exitError{exitOK}
	}
	for _, line := range finalMessage(f.run, job) {
		f.a.Print(f.a.Paint(line.Style, line.Text))
	}
	return exitError{jobExitCode(f.run)}
}

// interrupted answers Ctrl-C: with -y it detaches, otherwise the user
// chooses. While the run is being stopped it kills the jobs.
func (f *follower) interrupted(ctx context.Context) error {
	name := runName(f.run)
	f.live.Clear()
	f.endLine()
	if f.stopping {
		return f.stop(ctx, true)
	}
	detached := func() error {
		f.a.Printf("Detached. The run %s goes on; stop it with: dstack stop %s", name, name)
		return exitError{exitOK}
	}
	if f.leave {
		return detached()
	}
	for {
		answer, err := f.a.Ask(ctx, "Detach from the run "+name+", stop it, or abort it? [d/s/a]: ")
		switch {
		case errors.Is(err, term.ErrNoInput):
			return detached()
		case errors.Is(err, term.ErrInterrupted):
			f.a.Printf("Cancelled by user. The run %s goes on; stop it with: dstack stop %s", name, name)
			return exitError{exitFailed}
		case err != nil:
			return err
		}
		switch strings.ToLower(answer) {
		case "d", "detach", "n", "no":
			return detached()
		case "s", "stop", "y", "yes":
			return f.stop(ctx, false)
		case "a", "abort":
			return f.stop(ctx, true)
		}
		f.a.Print("Please enter d (detach), s (stop) or a (abort)")
	}
}

func (f *follower) stop(ctx context.Context, abort bool) error {
	if err := f.s.StopRuns(ctx, []string{runName(f.run)}, abort); err != nil {
		return err
	}
	f.stopping, f.aborting = true, f.aborting || abort
	switch {
	case abort:
		f.a.Print("Aborting...")
	default:
		f.a.Print("Stopping...")
	}
	return nil
}
