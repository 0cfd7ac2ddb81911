package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"

	"dstack/controller/api/openapi"
	"dstack/controller/auth"
	"dstack/controller/relay"
	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	// relayTick is how often a relay looks whether it may go on, if nothing
	// was committed, and relayCalm how long it waits after a commit.
	relayTick = 30 * time.Second
	relayCalm = 200 * time.Millisecond
	// relayDial is how long the job's SSH server may take to answer.
	relayDial = 10 * time.Second
	// relaySilence is after how much silence the user's side is asked for a
	// sign of life. It keeps proxies in between from closing the connection.
	relaySilence = 30 * time.Second
)

// Hosts lead to what runs on hosts.
type Hosts interface {
	// Dial opens a connection to a port on the loopback interface of a host.
	Dial(ctx context.Context, instanceID string, port int) (net.Conn, error)
}

// relayEndpoint is the WebSocket to a job.
func relayEndpoint() endpoint {
	return endpoint{relayRun, openapi.Shape{
		Query: openapi.QueryOf(reflect.TypeFor[api.RelayQuery]()), Type: openapi.WebSocket,
	}}
}

// relayRun carries SSH between the caller and a job over one WebSocket: each
// binary message is the next piece of the stream. Only who owns the run and
// administrators may; for others it is as if there were no run. A browser can
// not use it: it sends no token of ours in a header, and names its origin.
func relayRun(a *API, g *gin.Context, c call) error {
	in, err := fromQuery[api.RelayQuery](g.Request.URL.Query())
	if err != nil {
		return err
	}
	if g.GetHeader("Origin") != "" {
		return forbidden("The relay is not for web pages")
	}
	ctx := g.Request.Context()
	to, err := a.relayed(ctx, c, g.Param("run_name"), in)
	if err != nil {
		return err
	}
	if !strings.EqualFold(g.GetHeader("Upgrade"), "websocket") {
		return &Error{Status: http.StatusUpgradeRequired, Msg: "This endpoint is a WebSocket: use `dstack attach --via-server`"}
	}
	leave, err := a.deps.Relays.Enter(c.User.ID)
	if errors.Is(err, relay.ErrTooMany) {
		return refuse("You have too many connections through the server (%v): close some", err)
	}
	if err != nil {
		return &Error{Status: http.StatusServiceUnavailable, Msg: "The server stops", Err: err}
	}
	defer leave()
	job, err := a.dialJob(ctx, to)
	if err != nil {
		return err
	}
	defer job.Close() //nolint:errcheck // what was carried is closed already
	err = a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		return a.record(tx, c, "SSH connection through the server opened", runTarget(&to.run), jobTarget(&to.job))
	})
	if err != nil {
		return fmt.Errorf("record use of relay: %w", err)
	}
	ws, err := websocket.Accept(g.Writer, g.Request, nil)
	if err != nil {
		a.log(g).Debug().Err(err).Msg("websocket handshake failed")
		return nil
	}
	ctx, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		a.watchRelay(ctx, end, g, to)
	}()
	err = relay.Carry(ctx, ws, job, relaySilence)
	end(nil)
	<-watched
	a.log(g).Debug().Err(err).Str("user", c.User.Name).Msg("relay ended")
	return nil
}

// relayedJob is where a relay leads.
type relayedJob struct {
	run  store.Run
	job  store.Job
	port int
}

// relayed finds the job, if the caller may reach it.
func (a *API) relayed(ctx context.Context, c call, name string, in api.RelayQuery) (relayedJob, error) {
	var to relayedJob
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		var err error
		if to.run, err = findRun(tx, c.Project.ID, &name, nil); err != nil {
			return err
		}
		if !c.MayEnter(to.run.UserID) {
			return notExists("Run %s not found", name)
		}
		jobs, err := tx.LatestJobsByRun(to.run.ID)
		if err != nil {
			return fmt.Errorf("list jobs: %w", err)
		}
		to.job, err = chooseJob(jobs, in)
		return err
	})
	if err != nil {
		return to, err
	}
	if to.job.Status.Finished() || to.job.InstanceID == nil || to.job.RunningAt == nil {
		return to, refuse("Job %s is not running: its status is %s", to.job.Spec.JobName, to.job.Status)
	}
	to.port = sshPortOf(&to.job)
	return to, nil
}

// chooseJob finds the job of a replica: without one, of one that runs, else of
// the first. jobs are ordered by replica.
func chooseJob(jobs []store.Job, in api.RelayQuery) (store.Job, error) {
	var chosen *store.Job
	for i := range jobs {
		j := &jobs[i]
		if j.JobNum != in.Job || in.Replica != nil && j.ReplicaNum != *in.Replica {
			continue
		}
		if chosen == nil || chosen.Status != api.JobRunning && j.Status == api.JobRunning {
			chosen = j
		}
	}
	if chosen != nil {
		return *chosen, nil
	}
	replica := "<any running>"
	if in.Replica != nil {
		replica = fmt.Sprint(*in.Replica)
	}
	return store.Job{}, refuse("Failed to find replica=%s job=%d", replica, in.Job)
}

// dialJob connects to the SSH server of a job.
func (a *API) dialJob(ctx context.Context, to relayedJob) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, relayDial)
	defer cancel()
	conn, err := a.deps.Hosts.Dial(ctx, *to.job.InstanceID, to.port)
	if err != nil {
		e := refuse("The server does not reach job %s now: %v", to.job.Spec.JobName, err)
		e.Err = err
		return nil, e
	}
	return conn, nil
}

// watchRelay ends a relay whose job has ended, whose caller may not use it any
// more, or whose server stops. It returns when ctx has ended.
func (a *API) watchRelay(ctx context.Context, end context.CancelCauseFunc, g *gin.Context, to relayedJob) {
	tick := time.NewTicker(relayTick)
	defer tick.Stop()
	for {
		changed := a.deps.Changes.wait()
		if err := a.relayHolds(ctx, g, to); err != nil {
			end(err)
			return
		}
		select {
		case <-changed:
			if !pauseFor(ctx, relayCalm) {
				return
			}
		case <-tick.C:
		case <-a.deps.Stopping:
			end(relay.ErrStopping)
			return
		case <-ctx.Done():
			return
		}
	}
}

// pauseFor waits; false means that ctx has ended.
func pauseFor(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// relayHolds looks again at what let the caller in.
func (a *API) relayHolds(ctx context.Context, g *gin.Context, to relayedJob) error {
	level, _ := auth.LevelOf(g.FullPath())
	caller, err := a.auth.Check(ctx, auth.Request{
		Level: level, Authorization: g.GetHeader("Authorization"), Project: g.Param("project_name"),
	})
	if err != nil {
		return fmt.Errorf("%w: %w", relay.ErrWithdrawn, err)
	}
	if !caller.MayEnter(to.run.UserID) {
		return relay.ErrWithdrawn
	}
	var job store.Job
	err = a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		var err error
		job, err = tx.Job(to.job.ID)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("look at the job of a relay: %w", err)
	}
	if job.Status.Finished() {
		return relay.ErrJobEnded
	}
	return nil
}
