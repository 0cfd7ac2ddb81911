package hosts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
)

// Options are what a Pool works with; all are needed.
type Options struct {
	Observer Observer
	Logs     LogSink
	// ServerID names this server to the shims: a host belongs to one server.
	ServerID string
	// Jobs takes the connections that jobs make to this server. It does not
	// block, and owns them.
	Jobs func(net.Conn)
	// Payload is the shim and the agent to deploy.
	Payload Payload
	// Blobs is what the tasks need that users uploaded.
	Blobs Blobs
	// LocalDir is the home of the shim of this machine, an absolute path.
	LocalDir string
	Log      zerolog.Logger
}

// Pool keeps the connections to all hosts. Its methods may be called from
// anywhere, before, during and after Run.
type Pool struct {
	opt    Options
	layout layout
	deploy *slots
	stall  time.Duration // of a log, see feed
	// connect leads to the shim of a host; tests have their own.
	connect func(ctx context.Context, h *host, t Target) (*connection, error)

	mu    sync.Mutex
	hosts map[string]*host
	// ctx is that of Run, nil before; workers are the goroutines of hosts.
	ctx     context.Context //nolint:containedctx // the lifetime that hosts added later belong to
	ended   bool
	workers sync.WaitGroup
}

// New makes a pool. It does nothing until Run.
func New(opt Options) *Pool {
	return &Pool{
		opt: opt, layout: standardLayout(), deploy: newSlots(16), stall: logStall,
		connect: connect, hosts: map[string]*host{},
	}
}

// Run keeps the connections until ctx ends, and waits until all are closed.
// The shims and their jobs go on.
func (p *Pool) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.ctx != nil {
		p.mu.Unlock()
		return errors.New("run hosts: it runs already")
	}
	p.ctx = ctx
	for _, h := range p.hosts {
		p.start(h) //nolint:contextcheck // ctx is kept: hosts are added later, too
	}
	p.mu.Unlock()
	<-ctx.Done()
	p.mu.Lock()
	p.ended = true // nobody is added to what is waited for
	p.mu.Unlock()
	p.workers.Wait()
	return nil
}

// Ensure keeps a connection to a host from now on. It returns at once and may
// be repeated; a changed Access leads to a new connection.
func (p *Pool) Ensure(t Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h, ok := p.hosts[t.InstanceID]; ok {
		h.update(t)
		return
	}
	h := &host{
		pool: p, id: t.InstanceID, target: t, done: make(chan struct{}),
		log: p.opt.Log.With().Str("instance", t.InstanceID).Str("host", t.Access.Host).Logger(),
	}
	p.hosts[t.InstanceID] = h
	if p.ctx != nil {
		p.start(h)
	}
}

// start is called with the lock held.
func (p *Pool) start(h *host) {
	if p.ended {
		return
	}
	ctx, cancel := context.WithCancel(p.ctx)
	h.change(func(h *host) { h.cancel = cancel })
	p.workers.Go(func() {
		defer cancel()
		h.run(ctx)
	})
}

// Forget closes the connection and stops trying. It returns when the observer
// is told nothing more of the instance.
func (p *Pool) Forget(instanceID string) {
	p.mu.Lock()
	h, ok := p.hosts[instanceID]
	delete(p.hosts, instanceID)
	p.mu.Unlock()
	if !ok {
		return
	}
	h.mu.Lock()
	cancel := h.cancel
	h.mu.Unlock()
	if cancel != nil {
		cancel()
		<-h.done
	}
}

// StartTask brings what the job needs to its host and starts it, or returns
// the state of one that was started before. A *hostapi.Error with CodeGone says
// that it was stopped or removed already, one with CodeNotFound that something
// it needs is not there any more.
func (p *Pool) StartTask(ctx context.Context, instanceID, jobID string, spec hostapi.TaskSpec) (hostapi.Task, error) {
	if err := p.push(ctx, instanceID, spec.Job.Blobs()); err != nil {
		return hostapi.Task{}, fmt.Errorf("start task %s: %w", jobID, err)
	}
	var task hostapi.Task
	err := p.call(ctx, instanceID, http.MethodPut, taskPath(jobID, ""), spec, &task)
	if err != nil {
		return task, fmt.Errorf("start task %s: %w", jobID, err)
	}
	return task, nil
}

// StopTask ends a job; its end is observed later. It may be repeated.
func (p *Pool) StopTask(ctx context.Context, instanceID, jobID string, stop hostapi.StopTask) error {
	if err := p.call(ctx, instanceID, http.MethodPost, taskPath(jobID, "/stop"), stop, nil); err != nil {
		return fmt.Errorf("stop task %s: %w", jobID, err)
	}
	return nil
}

// RemoveTask deletes what is left of a job on its host. It may be repeated.
func (p *Pool) RemoveTask(ctx context.Context, instanceID, jobID string) error {
	if err := p.call(ctx, instanceID, http.MethodPost, taskPath(jobID, "/remove"), nil, nil); err != nil {
		return fmt.Errorf("remove task %s: %w", jobID, err)
	}
	return nil
}

func (p *Pool) call(ctx context.Context, instanceID, method, path string, in, out any) error {
	c, err := p.connectionOf(instanceID)
	if err != nil {
		return err
	}
	return c.call(ctx, method, path, in, out)
}

func (p *Pool) connectionOf(instanceID string) (*connection, error) {
	p.mu.Lock()
	h, ok := p.hosts[instanceID]
	p.mu.Unlock()
	if !ok {
		return nil, ErrDown
	}
	return h.live()
}
