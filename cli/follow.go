package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"dstack/cli/logurl"
	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/cli/tunnel"
	"dstack/client"
	"dstack/protocol/api"
)

// follower shows a run until it ends: first its state, then its log, then how
// it ended. Meanwhile it is attached to one of the run's jobs. One goroutine
// owns it; watchers send to it.
type follower struct {
	a   *App
	s   *session
	run api.Run
	// leave says that Ctrl-C detaches without a question (-y).
	leave  bool
	attach attachOptions

	live              *term.Live
	launching, waited bool
	// logOf is the submission that is or was shown.
	logOf    string
	logging  bool
	lineOpen bool
	stopping bool
	aborting bool
	// link is the connection to the job, if there is one.
	link       *attachment
	stopAttach context.CancelFunc
	urls       *logurl.Rewriter
	// source tells the log's reader that the job can be asked itself; endRaw
	// makes it ask the server again.
	source chan *tunnel.Tunnel
	endRaw func()
	// outage says that the server's absence was told; lost is a broken
	// connection that was not told yet.
	outage bool
	lost   *tunnel.Notice

	workers     *sync.WaitGroup
	runs        chan api.Run
	watched     chan error // the watch of the run ended, and why
	chunks      chan []byte
	ended       chan error // the log of logOf is complete, or why not
	attached    chan attachResult
	notices     chan tunnel.Notice
	broken      chan *tunnel.Tunnel // one that ended for good
	pressed     <-chan struct{}
	flush, tell *time.Timer
	late        *time.Timer // the job's own output takes too long to end
}

// follow shows a run until its end and gives the command's exit code as an
// exitError.
func (a *App) follow(ctx context.Context, s *session, run api.Run, leave bool, attach attachOptions) error {
	var workers sync.WaitGroup
	f := &follower{
		a: a, s: s, run: run, leave: leave, attach: attach, live: a.Live(), launching: true, workers: &workers,
		runs: make(chan api.Run), watched: make(chan error, 1), chunks: make(chan []byte), ended: make(chan error),
		attached: make(chan attachResult), notices: make(chan tunnel.Notice, 64), broken: make(chan *tunnel.Tunnel),
		flush: stoppedTimer(), tell: stoppedTimer(), late: stoppedTimer(), stopAttach: func() {}, endRaw: func() {},
	}
	ctx, cancel := context.WithCancel(ctx)
	defer workers.Wait()
	defer f.closePorts()
	defer f.detach()
	defer cancel()
	defer f.live.Clear()
	pressed, release := a.Interrupts.Capture()
	defer release()
	f.pressed = pressed

	f.watch(ctx, 0)
	spin := time.NewTicker(term.FrameTime)
	defer spin.Stop()
	for {
		if done, err := f.step(ctx); done || err != nil {
			return err
		}
		if err := f.await(ctx, spin.C); err != nil {
			return err
		}
	}
}

func stoppedTimer() *time.Timer {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return timer
}

// await takes the next thing that happens.
func (f *follower) await(ctx context.Context, spin <-chan time.Time) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case f.run = <-f.runs:
		f.serverIsBack()
	case err := <-f.watched:
		return f.watchEnded(ctx, err)
	case text := <-f.chunks:
		return f.print(text)
	case err := <-f.ended:
		f.logging = false
		if err != nil && !client.IsNotExist(err) {
			return f.lostServer(err)
		}
		return f.endText()
	case r := <-f.attached:
		return f.connected(ctx, r)
	case n := <-f.notices:
		f.noticed(n)
	case t := <-f.broken:
		return f.tunnelEnded(t)
	case <-f.tell.C:
		f.tellLost()
	case <-f.late.C:
		f.endRaw()
	case <-f.flush.C:
		return f.endText()
	case <-f.pressed:
		return f.interrupted(ctx)
	case <-spin:
		f.live.Spin()
	}
	return nil
}

// watchPause is how long the run is left alone after the server was lost.
const watchPause = 2 * time.Second

// watch follows the state of the run after a pause.
func (f *follower) watch(ctx context.Context, pause time.Duration) {
	f.workers.Go(func() {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		f.watched <- guard(func() error { return f.s.WatchRun(ctx, f.run.ID, send(ctx, f.runs)) })
	})
}

// watchEnded goes on without the server as long as the job itself is there.
func (f *follower) watchEnded(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if !isConnectionError(err) || f.link == nil {
		return f.lostServer(err)
	}
	if !f.outage {
		f.outage = true
		f.say(fmt.Sprintf("%v. Still attached to the run %s; trying again...", err, runName(f.run)))
	}
	f.watch(ctx, watchPause)
	return nil
}

func (f *follower) serverIsBack() {
	if f.outage {
		f.outage = false
		f.say("The server answers again.")
	}
}

func isConnectionError(err error) bool {
	_, lost := errors.AsType[*client.ConnectionError](err)
	return lost
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

// lostServer explains an end of the connection: the run does not depend on it.
func (f *follower) lostServer(err error) error {
	f.endLine()
	return fmt.Errorf("%w\nThe run %s goes on. Look at it with: dstack ps; dstack logs -f %s", err, runName(f.run), runName(f.run))
}

// step looks at what is known now. It is done when the run's end was shown.
func (f *follower) step(ctx context.Context) (done bool, err error) {
	job := f.submission()
	gone := f.logOf != "" && submissionEnded(f.run, f.logOf)
	if gone {
		f.jobEnded()
	}
	if !f.launching && !f.logging && job != nil && job.ID != f.logOf {
		f.launching = true // submitted again
	}
	switch {
	case f.launching && !ready(f.run, job):
		f.waited = true
		f.showLaunch()
		return false, nil
	case f.launching:
		f.launched()
		if job != nil {
			f.begin(ctx, *job)
		}
	}
	if f.logging || !f.run.Status.Finished() && (!gone || !f.leftRun(job)) {
		return false, nil
	}
	return true, f.finish(job)
}

// leftRun says whether the job that the user attached to has ended for good
// while other jobs of the run go on. One that failed is submitted again, or ends
// the run.
func (f *follower) leftRun(job *api.JobSubmission) bool {
	return f.attach.asked && len(f.run.Jobs) > 1 && f.run.Status == api.RunRunning &&
		job != nil && (job.Status == api.JobDone || deref(job.TerminationReason) == string(api.ReasonScaledDown))
}

// begin attaches to a job that was started, and shows its log.
func (f *follower) begin(ctx context.Context, job api.JobSubmission) {
	f.logOf = job.ID
	f.late.Stop() // was for the job before
	runs := job.Status == api.JobRunning && f.attach.wanted
	f.source = make(chan *tunnel.Tunnel, 1)
	if runs {
		f.startAttach(ctx)
	}
	if held := f.attach.ports; held != nil {
		if chosen, err := tunnel.Choose(f.run, f.attach.replicaOrAny(), f.attach.job); err == nil {
			f.urls = jobURLs(chosen.JobSpec, job.JobProvisioningData, f.attach.host, held.Forwards())
		}
	}
	if hasLog(f.run, job) && (!f.attach.asked || f.attach.logs && !runs) {
		f.startLog(ctx, runs)
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

// submission is the last one of the job that is shown; nil without any.
func (f *follower) submission() *api.JobSubmission {
	if !f.attach.asked {
		return firstSubmission(f.run)
	}
	job, err := tunnel.Choose(f.run, f.attach.replicaOrAny(), f.attach.job)
	if err != nil || len(job.JobSubmissions) == 0 {
		return nil
	}
	return &job.JobSubmissions[len(job.JobSubmissions)-1]
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
	if f.attach.asked {
		status = "Attaching to " + name + "..."
	}
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
	if f.attach.asked && !f.waited {
		return // it ran already
	}
	f.a.write(f.a.Render(f.table(f.run.Status == api.RunFailed)))
	if f.attach.asked {
		f.a.Printf("\nProvisioning %s completed (%s)", runName(f.run), f.run.Status)
		return
	}
	f.a.Printf("\n%s provisioning completed (%s)", runName(f.run), f.run.Status)
	if f.run.Status == api.RunRunning || f.run.Status == api.RunDone {
		f.a.write(published(f.run, f.s.BaseURL()))
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
	return exitError{jobExitCode(f.run, job)}
}
