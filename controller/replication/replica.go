package replication

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/rs/zerolog"

	"dstack/controller/objects"
)

// DefaultInterval is Litestream's own: how long a change may wait to be taken
// from the database, and again to be uploaded.
const DefaultInterval = time.Second

// Options says where a database is replicated and how.
type Options struct {
	Target objects.Target
	// Getenv reads the credentials.
	Getenv func(string) string
	// Database is the path of the SQLite file.
	Database string
	// Monitor and Sync are how long a change waits at most to be taken from
	// the database, and to be uploaded then. 0 means DefaultInterval.
	Monitor, Sync time.Duration
	Now           func() time.Time
	Log           zerolog.Logger
}

// Replica is an open replica. Its steps come in this order: Acquire, Prepare,
// Run while the database is in use, Close after the database was closed.
type Replica struct {
	opts   Options
	remote *remote
	leaser *leaser
	logs   *slog.Logger

	flushFor time.Duration

	keeper *keeper // since Acquire
	dirty  chan struct{}
	ready  chan struct{}
	state  state

	mu    sync.Mutex
	store *litestream.Store // since Run
	marks marker
}

// Open connects to a replica. The caller closes it.
func Open(ctx context.Context, o Options) (*Replica, error) {
	// Litestream makes a URL of the path, and would open another file.
	if strings.ContainsAny(o.Database, "?#%") {
		return nil, o.Target.Fault("a replica needs a folder without ?, # and % in its name, unlike "+filepath.Dir(o.Database),
			"choose another one with DSTACK_SERVER_DIR", nil)
	}
	r, err := connect(ctx, o.Target, o.Getenv)
	if err != nil {
		return nil, err
	}
	return open(o, r), nil
}

func open(o Options, r *remote) *Replica {
	if o.Monitor <= 0 {
		o.Monitor = DefaultInterval
	}
	if o.Sync <= 0 {
		o.Sync = DefaultInterval
	}
	logs := slog.New(&bridge{log: o.Log})
	r.client.SetLogger(logs)
	return &Replica{
		opts: o, remote: r, logs: logs, dirty: make(chan struct{}, 1), ready: make(chan struct{}, 1),
		state: state{now: o.Now, first: make(chan struct{})}, flushFor: flushLimit,
		marks:  marker{target: o.Target, folder: beside(o.Database)},
		leaser: &leaser{target: o.Target, bucket: r.bucket, owner: owner(), ttl: leaseTTL, now: o.Now},
	}
}

// owner names this process: people find it by host and number, and the rest
// tells it from an earlier one.
func owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	var nonce [4]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return fmt.Sprintf("%s:%d:%s", host, os.Getpid(), hex.EncodeToString(nonce[:]))
}

// waitPoll is how often a server that waits looks whether the lease is free:
// one that stops gives it back.
const waitPoll = 2 * time.Second

// Acquire takes the lease and keeps it from then on. If another server has it
// the error is a [HeldError], or, with wait, Acquire waits until it is free.
func (r *Replica) Acquire(ctx context.Context, wait bool) error {
	failing := false
	for first := true; ; first = false {
		lease, err := r.tryAcquire(ctx)
		if err == nil {
			r.keeper = keep(ctx, r.leaser, lease, r.opts.Log)
			return nil
		}
		held, isHeld := errors.AsType[*HeldError](err)
		if !wait || first && !isHeld {
			return explain(r.opts.Target, err)
		}
		if first {
			r.opts.Log.Info().Str("owner", held.Owner).Time("until", held.Until).Msg("Another server holds the lease of the replica; waiting for it")
		}
		if !isHeld && !failing {
			r.opts.Log.Warn().Err(explain(r.opts.Target, err)).Msg("The lease of the replica can't be read; waiting goes on")
		}
		failing = !isHeld
		pause := waitPoll
		if isHeld {
			pause = max(min(held.Until.Sub(r.opts.Now()), waitPoll), waitPoll/10)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the lease of %s: %w", r.opts.Target, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

func (r *Replica) tryAcquire(ctx context.Context) (*litestream.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseRequest)
	defer cancel()
	return r.leaser.acquire(ctx)
}

// Prepare makes the database ready to be opened. Where it is missing it is
// restored, and check may refuse what was restored, before it is put there;
// restored says so. Where it is there, it must have all that the replica has.
func (r *Replica) Prepare(ctx context.Context, check func(context.Context, string) error) (restored bool, err error) {
	client, path := r.remote.client, r.opts.Database
	at, err := last(ctx, client)
	if err != nil {
		return false, explain(r.opts.Target, err)
	}
	state := beside(path)
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, placeFault(r.opts.Target, path, err)
	}
	if err == nil && info.Size() > 0 {
		return false, r.compare(ctx, state, at)
	}
	if err == nil { // made by a start that was cut off
		if err := os.Remove(path); err != nil {
			return false, placeFault(r.opts.Target, path, err)
		}
	}
	r.opts.Log.Info().Msg("Starting db restore")
	err = restore(ctx, r.opts.Target, r.remote.withV3(r.opts.Target), path, time.Time{}, r.logs, state.succeeding(r.opts.Target, client, at, check))
	if errors.Is(err, ErrEmpty) && at.info == nil {
		r.opts.Log.Info().Msg("There is no db to restore: starting with an empty one")
		return false, state.follow(ctx, client, at)
	}
	if err != nil {
		return false, err
	}
	r.opts.Log.Info().Msg("Finished db restore")
	return true, nil
}

// Anew makes the next upload a whole copy: another database is about to take
// the place of the one that Prepare saw.
func (r *Replica) Anew(ctx context.Context) error {
	at, err := last(ctx, r.remote.client)
	if err != nil {
		return r.opts.Target.Explain(err)
	}
	state := beside(r.opts.Database)
	if err := errors.Join(state.forget(), state.follow(ctx, r.remote.client, at)); err != nil {
		return placeFault(r.opts.Target, r.opts.Database, err)
	}
	return nil
}

// compare refuses a database that does not have all that the replica has.
func (r *Replica) compare(ctx context.Context, state folder, at position) error {
	if at.info == nil {
		return errors.Join(state.forget(), state.follow(ctx, r.remote.client, at))
	}
	ours, whole, err := state.leads(at)
	if err != nil {
		return err
	}
	if !ours {
		return r.opts.Target.Fault("the replica has changes that the database at "+r.opts.Database+" does not have: another server wrote them, or it is the replica of another database",
			remedyBehind, nil)
	}
	older, err := state.replaced(ctx)
	if err != nil {
		return err
	}
	if older {
		return r.opts.Target.Fault("the replica has changes that the database at "+r.opts.Database+" does not have, for an older one was put in the place of the one that it belongs to",
			remedyBehind, nil)
	}
	if !whole {
		return state.follow(ctx, r.remote.client, at)
	}
	return nil
}

// remedyBehind is what to do with a database that lacks what the replica has.
const remedyBehind = "move that database away and start again, or run `dstack server restore`, to go on with the replica (with --at with an earlier state of it), or choose another path for the replica to go on with the database; nothing was changed"

// Restore puts the database of a replica at o.Database, where none is: its
// state at a time, or, if that is zero, the last one. check may refuse it. The
// replica is not changed; a server that is started on both goes on from here.
func Restore(ctx context.Context, o Options, at time.Time, check func(context.Context, string) error) (err error) {
	r, err := Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	end, err := last(ctx, r.remote.client)
	if err != nil {
		return explain(o.Target, err)
	}
	return restore(ctx, o.Target, r.remote.withV3(o.Target), o.Database, at, r.logs, beside(o.Database).succeeding(o.Target, r.remote.client, end, check))
}

// Allow refuses writes to the database after the lease was lost.
func (r *Replica) Allow() error { return r.keeper.reason() }

// Committed is told of every commit.
func (r *Replica) Committed() {
	r.state.committed()
	signal(r.dirty)
}

// signal wakes the one who waits, now or soon.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Settle waits until the replica has a first upload of this server, at most
// for limit: after a restore that is a whole copy, and what is written before
// it arrived could be lost with this machine. It says whether there was one.
func (r *Replica) Settle(ctx context.Context, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.state.first:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// How long a server that stops tries to upload the rest, and then at least to
// give the lease back. With what comes before it stays below the 10 seconds
// that `docker stop` grants.
const (
	flushLimit   = 4 * time.Second
	releaseLimit = 500 * time.Millisecond
)

// Close uploads what is not yet in the replica, if it still may, and gives
// the lease back. The database must be closed, or never have been opened.
func (r *Replica) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.flushFor+releaseLimit)
	defer cancel()
	var errs []error
	if err := r.flush(ctx); err != nil {
		errs = append(errs, fmt.Errorf("the last changes are in the local database and follow at the next start: %w", explain(r.opts.Target, err)))
	}
	if r.keeper != nil {
		errs = append(errs, explain(r.opts.Target, r.keeper.release(ctx)))
	}
	r.remote.bucket.Close()
	return errors.Join(errs...)
}
