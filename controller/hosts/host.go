package hosts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
)

// host keeps the connection to one instance. run is its only goroutine; the
// rest may be called from anywhere.
type host struct {
	pool *Pool
	id   string
	log  zerolog.Logger

	mu     sync.Mutex
	target Target
	conn   *connection        // nil while down
	renew  context.CancelFunc // ends what was begun with an older Access
	cancel context.CancelFunc // ends run
	done   chan struct{}      // closed when run has returned
	// doors are open to jobs that may reach this server, by job; admit opens
	// one and is nil while down.
	doors map[string]bool
	admit func(jobID string)
}

// update takes a new target over; the connection is made anew only if the
// way to the host has changed.
func (h *host) update(t Target) {
	h.mu.Lock()
	defer h.mu.Unlock()
	same := sameAccess(h.target.Access, t.Access)
	if same && h.target.HostID == t.HostID {
		t.Seq = max(t.Seq, h.target.Seq) // what is in memory may be newer than what was read
	} else if same && h.target.HostID != "" {
		t.HostID, t.Seq = h.target.HostID, h.target.Seq
	}
	if same && len(h.target.HostKeys) > 0 {
		t.HostKeys = h.target.HostKeys // as above: keys are pinned here, then stored
	}
	h.target = t
	if !same && h.renew != nil {
		h.renew()
	}
}

func (h *host) current() Target {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.target
}

func (h *host) change(f func(*host)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

// run connects and serves again and again until ctx ends.
func (h *host) run(ctx context.Context) {
	defer close(h.done)
	var said *hostapi.Problem // what the observer knows
	failures := 0
	for ctx.Err() == nil {
		trying, renew := context.WithCancel(ctx)
		h.change(func(h *host) { h.renew = renew })
		target := h.current()
		up, err := h.session(trying, target)
		if up {
			failures, said = 0, nil
		}
		if ctx.Err() == nil && trying.Err() == nil {
			said = h.report(ctx, target, err, said)
			_ = sleep(trying, delay(err, failures)) // cut short by renew and by the end
			failures++
		} else {
			failures = 0
		}
		renew()
	}
}

// report tells the observer why the host is down, unless it knows.
func (h *host) report(ctx context.Context, t Target, err error, said *hostapi.Problem) *hostapi.Problem {
	problem := problemOf(t, err)
	if said != nil && *said == *problem {
		return said
	}
	h.log.Warn().Str("code", problem.Code).Str("cause", problem.Message).Msg("host down")
	if err := h.pool.opt.Observer.HostDown(ctx, h.id, problem); err != nil {
		h.log.Error().Err(err).Msg("store host state failed")
		return nil
	}
	return problem
}

// session connects and serves until the connection ends. up says that the
// host was up meanwhile; err is never nil.
func (h *host) session(ctx context.Context, t Target) (up bool, err error) {
	c, err := h.pool.connect(ctx, h, t)
	if err != nil {
		return false, err
	}
	defer c.close()
	defer context.AfterFunc(ctx, c.close)()

	first, err := h.firstAck(ctx, c, t)
	if err != nil {
		return false, c.cause(err)
	}
	admit, closeDoors := h.newDoors(ctx, c.link)
	beside, stopBeside := context.WithCancel(ctx)
	defer stopBeside()
	var replacing sync.WaitGroup
	f := &feed{
		instance: h.id, observer: h.pool.opt.Observer, logs: h.pool.opt.Logs, log: h.log, stall: h.pool.stall,
		seq: first.Seq, stored: first.Logs, asked: map[string]int64{},
		moved: func(seq uint64) {
			h.change(func(h *host) { h.target.HostID, h.target.Seq = c.info.HostID, seq })
		},
		up: func(ctx context.Context, hello hostapi.Hello) error {
			h.change(func(h *host) { h.conn = c })
			h.openDoors(admit)
			if err := h.pool.opt.Observer.HostUp(ctx, h.id, hello); err != nil {
				return fmt.Errorf("store that the host is up: %w", err)
			}
			up = true
			h.log.Info().Str("version", hello.Info.Version).Str("runtime", string(hello.Info.Runtime)).
				Int("tasks", len(hello.Tasks)).Msg("host up")
			replacing.Go(func() { h.replaceKey(beside, c) })
			return nil
		},
	}
	err = c.stream(ctx, first, f)
	h.change(func(h *host) { h.conn, h.admit = nil, nil })
	closeDoors()
	stopBeside()
	replacing.Wait()
	if err == nil {
		err = errStreamEnded
	}
	return up, c.cause(err)
}

// connect leads to the shim of this build on a host, deploying it where needed.
func connect(ctx context.Context, h *host, t Target) (*connection, error) {
	if t.Access.Local {
		return h.pool.connectLocal(ctx, t)
	}
	client, keys, err := dialSSH(ctx, t)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, errNotConnected)
	defer cancel()
	defer endWith(ctx, client)()
	if err := h.pin(ctx, keys); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	if err := h.pool.opt.Observer.HostReached(ctx, h.id); err != nil {
		return nil, errors.Join(fmt.Errorf("store that SSH answers: %w", err), client.Close())
	}
	r := &remote{target: t, server: h.pool.opt.ServerID, client: client, layout: h.pool.layout, payload: h.pool.opt.Payload}
	c, err := connectSSH(ctx, r, h.pool.deploy)
	if err != nil {
		if cause := client.Err(); cause != nil {
			err = linkEnd(cause)
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, errors.Join(err, client.Close())
	}
	return c, nil
}

// firstAck says where the stream has to resume.
func (h *host) firstAck(ctx context.Context, c *connection, t Target) (hostapi.Ack, error) {
	first := hostapi.Ack{Logs: map[string]int64{}}
	if c.info.HostID == t.HostID {
		first.Seq = t.Seq
	}
	var tasks []hostapi.Task
	if err := c.call(ctx, http.MethodGet, "/v1/tasks", nil, &tasks); err != nil {
		return first, fmt.Errorf("list tasks: %w", err)
	}
	for _, task := range tasks {
		size, err := h.pool.opt.Logs.Size(ctx, h.id, task.ID)
		if err != nil {
			return first, fmt.Errorf("read log size: %w", err)
		}
		first.Logs[task.ID] = size
	}
	return first, nil
}

// live is the connection, or ErrDown.
func (h *host) live() (*connection, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return nil, fmt.Errorf("%s: %w", h.target.name(), ErrDown)
	}
	return h.conn, nil
}
