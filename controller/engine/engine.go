package engine

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"dstack/cloudinit"
	"dstack/controller/backends"
	"dstack/controller/engine/jobspec"
	"dstack/controller/hosts"
	"dstack/controller/market"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

// Hosts does on hosts what the engine decided. Calls may be repeated: ids
// make them idempotent. A call that reached the host and was refused fails
// with a *hostapi.Error; any other error says that it is not known whether it
// arrived. A connection serves StartTask only once HostUp for it returned.
type Hosts interface {
	// Ensure keeps a connection to a host and deploys the shim when needed;
	// it returns at once.
	Ensure(t hosts.Target)
	// Forget closes the connection and stops trying.
	Forget(instanceID string)
	StartTask(ctx context.Context, instanceID, jobID string, spec hostapi.TaskSpec) (hostapi.Task, error)
	StopTask(ctx context.Context, instanceID, jobID string, stop hostapi.StopTask) error
	RemoveTask(ctx context.Context, instanceID, jobID string) error
	// ServeJob lets a job reach this server until it ends; it returns at once
	// and may be repeated.
	ServeJob(instanceID, jobID string)
	// Uninstall removes everything of ours from a host.
	Uninstall(ctx context.Context, t hosts.Target) error
}

// Clouds lead to the accounts of projects at clouds. It remembers nothing that
// a decision rests on: that is in the rows.
type Clouds interface {
	// Peek is what the configured backends of a project offer, as it is known
	// now; [Engine.OffersArrived] tells when more is.
	Peek(configured []store.Backend) []market.Shelf
	// Open is the account of a project at a backend. It fails with a
	// [backends.Error].
	Open(ctx context.Context, projectID, backend string) (backends.Backend, error)
	// Refused and Given remember for a while what became of an offer.
	Refused(projectID, backend string, o backends.Offer, err error)
	Given(projectID, backend string, o backends.Offer)
}

// Config is what an engine needs.
type Config struct {
	Store *store.Store
	Hosts Hosts
	// Clouds may be nil: then no machine is ever had.
	Clouds Clouds
	// ServerID is the name of this database among all servers, which every
	// machine of a cloud carries.
	ServerID string
	// CopiedAt is when the database came here from elsewhere; zero if it did not.
	CopiedAt time.Time
	// NewHostKey makes an SSH host key: OpenSSH PEM and an authorized_keys line.
	NewHostKey func() (private, public string, err error)
	// Now is the clock, NewID makes unique ids (UUIDs).
	Now   func() time.Time
	NewID func() string
	Log   zerolog.Logger
	// Jobs shapes jobs and their tasks.
	Jobs jobspec.Options
	// LocalShared lets everybody use this machine, not only administrators.
	LocalShared bool
	// Workers is how many keys are worked on at a time; 0 means 8.
	Workers int
	// Replica names this process as the owner of leases.
	Replica string
	// BootLimit is how long a rented machine may take until it takes jobs; 0
	// means 10 minutes.
	BootLimit time.Duration
	// ShimFor is where a rented machine with such a CPU (x86, arm) gets the shim
	// from; nil, or a nil answer, means that it comes over SSH alone.
	ShimFor func(cpu string) *cloudinit.Download
	// MostTries is how many offers are asked for a machine; 0 means 25.
	MostTries int
	// Stats, if not nil, is told what happened, once it was committed.
	Stats Stats
}

// Stats counts what happens.
type Stats interface {
	// RunMoved says that a run got another status some time after it was
	// submitted.
	RunMoved(projectID, runType string, from, to api.RunStatus, since time.Duration)
}

const (
	defaultWorkers = 8
	// sweepEvery is how often the queue on disk is looked through, in case
	// that a wake-up was lost.
	sweepEvery = 10 * time.Second
	// forgetAfter is how long a failed effect is remembered.
	forgetAfter = 10 * time.Minute
	// lease is how long a replica works on a key before others may.
	lease = 30 * time.Second
)

// Engine drives all resources. Its methods are safe for concurrent use; Run
// must be called once for anything to happen.
type Engine struct {
	cfg   Config
	queue *queue

	mu      sync.Mutex
	timers  timers
	up      map[string]bool         // instances with a connection, their Hello stored
	ensured map[string]bool         // instances given to Hosts.Ensure
	effects map[string]*effectState // by Effect.id
	mark    uint64                  // counts errands that ended
	endings map[string]ending       // by Effect.subject
	errands map[string]bool         // what clouds are being asked about, by Effect.subject
	pulls   map[string]hostapi.PullProgress
	idle    map[holder]idleness // who is connected to jobs, as hosts say
	// lastEvent is the time of the newest event.
	lastEvent time.Time
	// recovered is when everything was looked at for the first time.
	recovered time.Time
	// start runs an effect; Run sets it to start a goroutine.
	start func(Effect)

	faults faults
}

// faults are mistakes that the simulator's own test plants.
type faults struct {
	loseWakes   bool // a finished job does not wake its run
	forgetStart bool // a lost answer of StartTask makes a new task id
	blindWrites bool // a conflict is overwritten
}

// New makes an engine. It hears of the store's wake-ups from now on.
func New(cfg Config) *Engine {
	if cfg.Workers <= 0 {
		cfg.Workers = defaultWorkers
	}
	e := &Engine{
		cfg:     cfg,
		queue:   newQueue(),
		up:      map[string]bool{},
		ensured: map[string]bool{},
		effects: map[string]*effectState{},
		errands: map[string]bool{},
		endings: map[string]ending{},
		pulls:   map[string]hostapi.PullProgress{},
		idle:    map[holder]idleness{},
	}
	e.start = func(Effect) {}
	cfg.Store.OnWake(func(keys []store.Key) { e.queue.push(keys...) })
	return e
}

// QueueLength is how many keys wait to be worked on.
func (e *Engine) QueueLength() int {
	e.queue.mu.Lock()
	defer e.queue.mu.Unlock()
	return len(e.queue.queued)
}

// HostsUp is how many hosts are connected.
func (e *Engine) HostsUp() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.up)
}

func (e *Engine) now() time.Time { return e.cfg.Now().UTC().Truncate(time.Microsecond) }

// Run drives everything until ctx ends; it then waits for what is in flight.
// Jobs on hosts go on.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.Recover(ctx); err != nil {
		return err
	}
	g, running := errgroup.WithContext(ctx)
	e.mu.Lock()
	e.start = func(f Effect) {
		// Effects start inside of workers, so the group cannot end before.
		g.Go(func() error {
			e.Finish(running, f, e.Perform(running, f))
			return nil
		})
	}
	e.mu.Unlock()
	for range e.cfg.Workers {
		g.Go(func() error { return e.work(running) })
	}
	g.Go(func() error { return e.tick(running) })
	err := g.Wait()
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was asked to end
	}
	return err
}

// Recover queues every live resource: each is looked at once after a start.
func (e *Engine) Recover(ctx context.Context) error {
	e.mu.Lock()
	e.recovered = e.now()
	e.mu.Unlock()
	var keys []store.Key
	err := e.cfg.Store.Read(ctx, func(tx *store.Tx) (err error) {
		keys, err = tx.AllWork()
		return err
	})
	if err != nil {
		return fmt.Errorf("recover work: %w", err)
	}
	e.queue.push(keys...)
	return nil
}

func (e *Engine) recoveredAt() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.recovered
}

func (e *Engine) work(ctx context.Context) error {
	for {
		key, err := e.queue.pop(ctx)
		if err != nil {
			return err
		}
		if err := e.guardedStep(ctx, key); err != nil && ctx.Err() == nil {
			e.cfg.Log.Error().Err(err).Str("kind", string(key.Kind)).Str("id", key.ID).Msg("pass failed, trying again")
			e.later(key, time.Second)
		}
		e.queue.done(key)
	}
}

// guardedStep is Step for a server: a fault in one resource's decision must
// not end the work on all others.
func (e *Engine) guardedStep(ctx context.Context, key store.Key) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return e.Step(ctx, key)
}

// tick queues what is due: by the timers, and now and then by the table.
func (e *Engine) tick(ctx context.Context) error {
	timer := time.NewTimer(sweepEvery)
	defer timer.Stop()
	nextSweep := e.now().Add(sweepEvery)
	for {
		e.mu.Lock()
		due, next, changed := e.timers.due(e.now())
		e.mu.Unlock()
		e.queue.push(due...)
		// A clock that is set back must not put off the sweep.
		wait := min(nextSweep.Sub(e.now()), sweepEvery)
		if !next.IsZero() {
			wait = min(wait, next.Sub(e.now()))
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-timer.C:
		}
		if left := nextSweep.Sub(e.now()); left <= 0 || left > sweepEvery {
			nextSweep = e.now().Add(sweepEvery)
			e.sweep(ctx)
		}
	}
}

// sweep queues what is due in the table, and drops what is remembered of
// effects that nobody asked for again.
func (e *Engine) sweep(ctx context.Context) {
	const most = 1000
	e.mu.Lock()
	for id, st := range e.effects {
		if !st.inFlight && !st.done && st.retry.Add(forgetAfter).Before(e.now()) {
			delete(e.effects, id)
		}
	}
	maps.DeleteFunc(e.endings, func(_ string, last ending) bool { return last.at.Add(forgetAfter).Before(e.now()) })
	e.mu.Unlock()
	var keys []store.Key
	err := e.cfg.Store.Read(ctx, func(tx *store.Tx) (err error) {
		keys, err = tx.DueWork(e.now(), most)
		return err
	})
	if err != nil && ctx.Err() == nil {
		e.cfg.Log.Error().Err(err).Msg("cannot read the queue, trying again")
	}
	e.queue.push(keys...)
}

// later queues a key after a while.
func (e *Engine) later(k store.Key, d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.timers.set(k, e.now().Add(d))
}
