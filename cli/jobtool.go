package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"dstack/cli/tunnel"
	"dstack/protocol/api"
)

// jobFlags choose the job that exec, cp and port-forward work on.
type jobFlags struct {
	reachFlags

	project string
	user    string
}

// define adds the flags to a command; user says that a user can be chosen.
func (f *jobFlags) define(a *App, cmd *cobra.Command, user bool) {
	a.projectFlag(cmd, &f.project)
	if user {
		cmd.Flags().StringVarP(&f.user, "user", "u", "", "The user in the job, default the one that the job runs as")
	}
	f.reachFlags.define(cmd.Flags())
}

// jobLink is a connection to a running job.
type jobLink struct {
	*tunnel.Tunnel

	job *reach
	// ctx ends with the command, or with the job: its cause says why.
	ctx     context.Context //nolint:containedctx // the link's own lifetime
	cancel  context.CancelCauseFunc
	watched chan struct{}
}

// linkJob connects to a job of a run. lost and again are called when the
// connection breaks, and when it was made again.
func (a *App) linkJob(ctx context.Context, name string, f jobFlags, lost, again func()) (*jobLink, error) {
	s, err := a.connect(f.project)
	if err != nil {
		return nil, err
	}
	run, err := s.findRun(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := a.reachRunning(ctx, s, run, f)
	if err != nil {
		return nil, err
	}
	notices := make(chan tunnel.Notice, 16)
	t, err := a.openTunnel(ctx, r, func(n tunnel.Notice) {
		select {
		case notices <- n:
		default: // nobody can follow that fast
		}
	})
	if err != nil {
		return nil, err
	}
	l := &jobLink{Tunnel: t, job: r, watched: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	go func() {
		defer close(l.watched)
		l.watch(s, notices, lost, again)
	}()
	return l, nil
}

// close ends the connection.
func (l *jobLink) close() {
	l.cancel(nil)
	<-l.watched
	_ = l.Close() // always nil
}

// endPeriod is how often the server is asked whether a job that can't be
// reached has ended.
const endPeriod = 2 * time.Second

// watch tells of a broken connection, and ends the link when its job has ended.
func (l *jobLink) watch(s *session, notices <-chan tunnel.Notice, lost, again func()) {
	look := time.NewTicker(endPeriod)
	defer look.Stop()
	broken := false
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.Done():
			l.cancel(sentence("The connection to the job was lost: %v", l.Err()))
			return
		case n := <-notices:
			switch n.What {
			case tunnel.Lost:
				broken = true
				lost()
			case tunnel.Restored:
				broken = false
				again()
			case tunnel.Detour:
			}
			continue
		case <-look.C:
		}
		if !broken {
			continue
		}
		if why := l.ended(s); why != nil {
			l.cancel(why)
			return
		}
	}
}

// ended says why the job is not there any more; nil if it is, or if that is
// not known.
func (l *jobLink) ended(s *session) error {
	run, err := s.GetRunByID(l.ctx, l.job.run.ID)
	if err != nil {
		return nil //nolint:nilerr // the server may be away, too
	}
	for _, job := range run.Jobs {
		for _, sub := range job.JobSubmissions {
			if sub.ID == l.job.submission().ID && sub.Status != api.JobRunning {
				return notRunning(runName(run), sub)
			}
		}
	}
	return nil
}

// reachRunning finds out how to reach a job that must be running.
func (a *App) reachRunning(ctx context.Context, s *session, run api.Run, f jobFlags) (*reach, error) {
	name := runName(run)
	var replica *int
	if f.replica != anyReplica {
		replica = &f.replica
	}
	job, err := tunnel.Choose(run, replica, f.job)
	switch {
	case err != nil && run.Status.Finished():
		return nil, sentence("Run %s is not running any more: %s", name, run.StatusMessage)
	case err != nil && len(run.Jobs) == 0:
		return nil, sentence("Run %s is not running yet: %s", name, run.StatusMessage)
	case err != nil:
		return nil, sentence("%v of run %s", err, name)
	}
	if n := len(job.JobSubmissions); n > 0 && job.JobSubmissions[n-1].Status != api.JobRunning {
		return nil, notRunning(name, job.JobSubmissions[n-1])
	}
	r, err := a.reach(ctx, s, run, f.reachFlags)
	if err != nil {
		return nil, err
	}
	r.user = f.user
	if r.user == "" {
		r.user = r.login()
	}
	if r.proxied() && !r.viaServer && r.user != r.login() && r.user != "root" {
		return nil, sentence("The SSH proxy of the server leads to the users root and %s only, not to %s", r.login(), r.user)
	}
	return r, nil
}

// notRunning says that a job does not run: not yet, or not any more.
func notRunning(name string, sub api.JobSubmission) error {
	if sub.Status.Finished() || sub.Status == api.JobTerminating {
		return sentence("Run %s is not running any more: %s", name, sub.StatusMessage)
	}
	return sentence("Run %s is not running yet: %s. Follow it with: dstack attach %s", name, sub.StatusMessage, shellQuote(name))
}

// lostCause prefers why the link ended to what followed from that.
func (l *jobLink) lostCause(err error) error {
	if cause := context.Cause(l.ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}
