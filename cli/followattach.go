package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dstack/cli/tunnel"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// attachOptions say whether and how to attach to a run.
type attachOptions struct {
	reachFlags

	// wanted is false for a run that is only watched.
	wanted bool
	// asked is set by `dstack attach`: without a connection there is nothing
	// else to do.
	asked bool
	host  string
	// chosen are the local ports that the user chose; ports are held for the
	// run already, if not nil.
	chosen []config.PortMapping
	ports  *tunnel.Listeners
	// logs shows the log; since when, nil for its beginning.
	logs  bool
	since *api.Time
}

// replicaOrAny is the chosen replica, nil for any.
func (f *reachFlags) replicaOrAny() *int {
	if f.replica == anyReplica {
		return nil
	}
	return &f.replica
}

// release gives back ports that are held.
func (o attachOptions) release() error {
	if o.ports == nil {
		return nil
	}
	return o.ports.Close() //nolint:wrapcheck // says what it is
}

// attachResult is a connection to the job of a submission, or why there is none.
type attachResult struct {
	submission string
	link       *attachment
	ports      *tunnel.Listeners
	err        error
}

// startAttach connects to the job logOf.
func (f *follower) startAttach(ctx context.Context) {
	attachCtx, stop := context.WithCancel(ctx)
	f.stopAttach = stop
	run, submission, held := f.run, f.logOf, f.attach.ports
	notify := func(n tunnel.Notice) {
		select {
		case f.notices <- n:
		case <-ctx.Done():
		}
	}
	f.workers.Go(func() {
		defer stop()
		r := attachResult{submission: submission, ports: held}
		r.err = guard(func() (err error) {
			if r.link, err = f.a.openAttachment(attachCtx, f.s, run, f.attach.reachFlags, notify); err != nil || held != nil {
				return err
			}
			r.ports, err = f.a.takeJobPorts(attachCtx, f.s, r.link, f.attach)
			return err
		})
		select {
		case f.attached <- r:
		case <-ctx.Done():
			r.close()
		}
	})
}

func (r *attachResult) close() {
	if r.link != nil {
		r.link.close()
	}
	if r.ports != nil {
		_ = r.ports.Close() // nothing was forwarded yet
	}
}

// takeJobPorts takes the local ports for a job.
func (a *App) takeJobPorts(ctx context.Context, s *session, link *attachment, o attachOptions) (*tunnel.Listeners, error) {
	r := link.r
	wants, err := wantedPorts(r.job.JobSpec, o.chosen)
	if err != nil {
		return nil, err
	}
	if _, direct := link.tunnel.Way().(*tunnel.Direct); direct && r.here() {
		for i := range wants {
			wants[i].Open = true
		}
	}
	ports, err := a.takePorts(ctx, o.host, wants, r.onServer(s))
	return ports, portFault(err, "attach", "attach", wants)
}

func (r *reach) onServer(s *session) jobOnServer {
	return jobOnServer{s.BaseURL(), r.run.ID, r.job.JobSpec.ReplicaNum, r.job.JobSpec.JobNum}
}

// connected takes the result of startAttach.
func (f *follower) connected(ctx context.Context, r attachResult) error {
	if r.submission != f.logOf || submissionEnded(f.run, f.logOf) {
		if r.ports == f.attach.ports {
			r.ports = nil // held for the next submission
		}
		r.close()
		return nil
	}
	if r.err != nil {
		if r.link != nil {
			r.link.close()
		}
		if f.attach.asked {
			return r.err
		}
		if !errors.Is(r.err, tunnel.ErrNotProvisioned) { // as with a server that has no hosts
			f.say(r.err.Error() + "\nPorts are not forwarded; the log comes from the server.")
		}
		f.hand(nil)
		return nil
	}
	f.link, f.attach.ports = r.link, r.ports
	f.attach.replica = r.link.r.job.JobSpec.ReplicaNum
	r.ports.Serve(r.link.tunnel) //nolint:contextcheck // until they are closed
	if err := f.a.keepPortState(r.link.r.onServer(f.s), f.attach.host, r.ports.Forwards()); err != nil {
		f.say(err.Error())
	}
	f.urls = jobURLs(r.link.r.job.JobSpec, r.link.r.submission().JobProvisioningData, f.attach.host, r.ports.Forwards())
	if f.attach.asked {
		f.a.write(f.greeting())
		if f.attach.logs {
			f.startLog(ctx, true)
		}
	} else if f.a.env.Getenv("DSTACK_FF_CLI_PRINT_JOB_CONNECTION_INFO") != "" {
		f.a.write(connectionInfo(r.link.r))
	}
	f.hand(r.link.tunnel)
	f.workers.Go(func() {
		<-r.link.tunnel.Done()
		select {
		case f.broken <- r.link.tunnel:
		case <-ctx.Done():
		}
	})
	return nil
}

// tunnelEnded explains a connection that can't be made again.
func (f *follower) tunnelEnded(t *tunnel.Tunnel) error {
	if f.link == nil || f.link.tunnel != t || submissionEnded(f.run, f.logOf) {
		return nil
	}
	err := unreachable(f.link.r, t.Err())
	if f.attach.asked {
		return f.lostServer(err)
	}
	f.say(fmt.Sprintf("%v\nPorts are not forwarded any more; the log comes from the server.", err))
	f.detach()
	return nil
}

// hand gives the reader of the log the tunnel, or nil for none.
func (f *follower) hand(t *tunnel.Tunnel) {
	if f.source != nil {
		select {
		case f.source <- t:
		default: // it has one
		}
	}
}

// greeting is what `dstack attach` prints once it is connected.
func (f *follower) greeting() string {
	var b strings.Builder
	r := f.link.r
	fmt.Fprintf(&b, "Attached to run %s (replica=%d job=%d)\n", runName(f.run), r.job.JobSpec.ReplicaNum, r.job.JobSpec.JobNum)
	host := f.attach.host
	if host == "" {
		host = "localhost"
	}
	for i, p := range f.attach.ports.Forwards() {
		if i == 0 {
			b.WriteString("Forwarded ports (local -> remote):\n")
		}
		fmt.Fprintf(&b, "  - %s:%d -> %d\n", host, p.Local, p.Want.Remote)
	}
	b.WriteString(ideLinks(r.job.JobConnectionInfo))
	if f.link.files != nil {
		fmt.Fprintf(&b, "To connect to the run via SSH, use `ssh %s`.\n", r.alias())
	}
	b.WriteString("Press Ctrl+C to detach...\n")
	return b.String()
}

// ideLinks are the links that open a job in the user's IDE; empty without any.
func ideLinks(info *api.JobConnectionInfo) string {
	if info == nil || info.AttachedIDEURL == nil {
		return ""
	}
	links := []string{*info.AttachedIDEURL}
	if info.ProxiedIDEURL != nil {
		links = append(links, *info.ProxiedIDEURL)
	}
	return "To open in " + deref(info.IDEName) + ", use link(s) below:\n\n  " + strings.Join(links, "\n  ") + "\n\n"
}

// connectionInfo tells how to get into a job (spec: cli.md 13).
func connectionInfo(r *reach) string {
	info := r.job.JobConnectionInfo
	if info == nil {
		return ""
	}
	commands := []string{"`" + strings.Join(info.AttachedSSHCommand, " ") + "`"}
	if info.ProxiedSSHCommand != nil {
		commands = append(commands, "`"+strings.Join(info.ProxiedSSHCommand, " ")+"`")
	}
	return ideLinks(info) + "To connect via SSH, use: " + strings.Join(commands, " or ") + "\n\n"
}

// detach closes the connection to the job. The ports stay taken until the
// command ends: the run may be submitted again.
func (f *follower) detach() {
	f.lost = nil
	f.tell.Stop()
	if f.link != nil {
		f.link.close()
		f.link = nil
	}
}

// closePorts gives the local ports back.
func (f *follower) closePorts() {
	if f.attach.ports == nil {
		return
	}
	err := f.attach.ports.Close()
	if dropped := f.a.dropPortState(); err == nil {
		err = dropped
	}
	if err != nil {
		f.say(err.Error())
	}
}

// tellAfter is how long a broken connection may take to heal, or the job to
// be known to have ended, before the user is told.
const tellAfter = time.Second

// noticed takes what happened to the tunnel. Each outage is told once.
func (f *follower) noticed(n tunnel.Notice) {
	name := runName(f.run)
	switch n.What {
	case tunnel.Lost:
		f.lost = &n
		f.tell.Reset(tellAfter)
	case tunnel.Restored:
		if f.lost != nil {
			f.say(fmt.Sprintf("The connection to the run %s broke (%v) and was made again.", name, f.lost.Err))
		} else {
			f.say(fmt.Sprintf("Connected to the run %s again.", name))
		}
		f.lost = nil
		f.tell.Stop()
	case tunnel.Detour:
		f.say(fmt.Sprintf("%v. Connected through %s.", n.Err, n.Way))
		if f.link != nil {
			f.link.rerouted()
		}
	}
}

func (f *follower) tellLost() {
	if f.lost != nil && f.link != nil && !f.stopping && !submissionEnded(f.run, f.logOf) {
		f.say(fmt.Sprintf("Lost the connection to the run %s: %v. Connecting again...", runName(f.run), f.lost.Err))
	}
	f.lost = nil
}

// say tells the user something beside the log.
func (f *follower) say(text string) {
	f.live.Clear()
	f.endLine()
	f.a.warn(text)
}
