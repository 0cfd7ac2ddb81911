package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"dstack/protocol/hostapi"
)

// maxDoor is how many connections a job may have to this server at a time;
// more wait.
const maxDoor = 64

// doorDrain is how long the end of what this server said may be on its way to a
// job.
const doorDrain = 30 * time.Second

// doorAgain is how soon after a failure the next connection is asked for.
const doorAgain = 200 * time.Millisecond

// ServeJob lets a job reach this server from now on, whenever its host is
// connected, until it ends. It returns at once and may be repeated. Nothing on
// a host can open a door by itself.
func (p *Pool) ServeJob(instanceID, jobID string) {
	p.mu.Lock()
	h, ok := p.hosts[instanceID]
	p.mu.Unlock()
	if !ok {
		return
	}
	h.mu.Lock()
	known, admit := h.doors[jobID], h.admit
	if h.doors == nil {
		h.doors = map[string]bool{}
	}
	h.doors[jobID] = true
	h.mu.Unlock()
	if !known && admit != nil {
		admit(jobID)
	}
}

// openDoors makes admit the way to open doors, and opens those that are known.
func (h *host) openDoors(admit func(jobID string)) {
	var jobs []string
	h.change(func(h *host) {
		h.admit = admit
		for id := range h.doors {
			jobs = append(jobs, id)
		}
	})
	for _, id := range jobs {
		admit(id)
	}
}

// newDoors returns what opens a door to a job over a link, and what closes all
// doors and waits until nothing of them is left.
func (h *host) newDoors(ctx context.Context, l *link) (admit func(jobID string), closeAll func()) {
	ctx, cancel := context.WithCancel(ctx)
	var doors sync.WaitGroup
	var mu sync.Mutex
	closed := false
	admit = func(jobID string) {
		mu.Lock()
		defer mu.Unlock()
		if !closed {
			doors.Go(func() { h.door(ctx, l, jobID) })
		}
	}
	return admit, func() {
		mu.Lock()
		closed = true
		mu.Unlock()
		cancel()
		doors.Wait()
	}
}

// door takes one connection of a job after another, until ctx or the job ends.
func (h *host) door(ctx context.Context, l *link, jobID string) {
	var open sync.WaitGroup
	defer open.Wait()
	free := make(chan struct{}, maxDoor)
	for ctx.Err() == nil {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c, err := l.jobConn(ctx, jobID)
		if err == nil {
			inside, outside := net.Pipe()
			open.Go(func() {
				defer func() { <-free }()
				c.carry(ctx, outside)
			})
			h.pool.opt.Jobs(inside)
			continue
		}
		<-free
		refused, ok := errors.AsType[*hostapi.Error](err)
		if ok && (refused.Code == hostapi.CodeNotFound || refused.Code == hostapi.CodeGone) {
			h.change(func(h *host) { delete(h.doors, jobID) })
			return
		}
		_ = sleep(ctx, doorAgain) // the loop looks
	}
}

// jobConn is a connection of a job, as it comes from the shim: what the job
// sends is in, out goes to the job.
type jobConn struct {
	in     io.ReadCloser
	out    *io.PipeWriter
	cancel context.CancelFunc
}

// jobConn waits until the job connects.
func (l *link) jobConn(ctx context.Context, jobID string) (*jobConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	body, out := io.Pipe()
	resp, err := l.send(ctx, http.MethodPost, taskPath(jobID, "/server"), body, 0)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = answerError(resp)
		_ = resp.Body.Close() // err says it all
	}
	if err != nil {
		cancel()
		_ = out.Close() // never fails
		return nil, fmt.Errorf("wait for job %s: %w", jobID, err)
	}
	return &jobConn{in: resp.Body, out: out, cancel: cancel}, nil
}

// carry copies both ways until one side or ctx ends, and closes both. What the
// server said before it ended comes to the job, as long as that takes no longer
// than doorDrain.
func (c *jobConn) carry(ctx context.Context, server net.Conn) {
	end := func() {
		c.cancel()
		_, _ = c.out.Close(), server.Close() // how it ended is the client's to tell
	}
	defer context.AfterFunc(ctx, end)()
	var up sync.WaitGroup
	var late *time.Timer
	up.Go(func() {
		_, _ = io.Copy(c.out, server)
		_ = c.out.Close() // never fails
		late = time.AfterFunc(doorDrain, c.cancel)
	})
	_, _ = io.Copy(server, c.in)
	_, _ = io.Copy(io.Discard, c.in) // the host ends it when the job has all
	end()
	up.Wait()
	late.Stop()
	_ = c.in.Close() // it is at its end
}
