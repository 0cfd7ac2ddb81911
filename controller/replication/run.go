package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"dstack/controller/objects"
)

const (
	// retryLimit is the longest pause between attempts to reach the storage.
	retryLimit = 5 * time.Second
	// idleSync is how often Litestream looks at a database that is not written
	// to: it then folds the log into the file.
	idleSync = 30 * time.Second
	// slow is how far the replica may be behind before that counts as a failure.
	slow = 10 * time.Second
	// history is how far back states can be restored.
	history = 24 * time.Hour
	// snapshotEvery is how often a whole copy is made: a state needs one from
	// before it, so the oldest is kept longer than the history by as much.
	snapshotEvery = 6 * time.Hour
)

// errSlow is a failure that a library keeps to itself.
var errSlow = errors.New("the storage did not take them for some time")

// Run replicates until ctx ends; then the error is nil. It is a [LostError]
// as soon as another server has the lease. Nothing else ends it: the server
// goes on while the storage can't be reached.
func (r *Replica) Run(ctx context.Context) error {
	r.state.begun()
	for {
		err := r.session(ctx)
		if lost := r.keeper.reason(); lost != nil {
			return lost
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		r.opts.Log.Warn().Str(zerolog.ErrorFieldName, objects.Discreet(err.Error())).Msg("The state of the replication is damaged; it starts again with a whole copy")
		if err := r.restart(ctx); err != nil {
			r.opts.Log.Warn().Err(err).Msg("The replication can't start again yet")
			pause(ctx, retryLimit)
		}
	}
}

// session replicates until ctx or the lease ends, or until what Litestream
// keeps beside the database turns out to be unusable.
func (r *Replica) session(ctx context.Context) error {
	db, err := r.start(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case <-r.keeper.lost:
			return r.keeper.reason()
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error { return r.watch(ctx) })
	g.Go(func() error { return r.take(ctx, db) })
	g.Go(func() error { return r.upload(ctx, db.Replica) })
	return g.Wait()
}

// start opens Litestream on the database.
func (r *Replica) start(ctx context.Context) (*litestream.DB, error) {
	db := litestream.NewDB(r.opts.Database)
	db.MonitorInterval = 0 // take drives it
	replica := litestream.NewReplicaWithClient(db, &fenced{ReplicaClient: r.remote.client, keeper: r.keeper, marks: &r.marks})
	replica.MonitorEnabled = false // upload drives it
	db.Replica = replica
	levels := make(litestream.CompactionLevels, 0, len(litestream.DefaultCompactionLevels))
	for _, l := range litestream.DefaultCompactionLevels {
		levels = append(levels, &litestream.CompactionLevel{Level: l.Level, Interval: l.Interval})
	}
	store := litestream.NewStore([]*litestream.DB{db}, levels)
	store.SnapshotInterval, store.SnapshotRetention = snapshotEvery, history+snapshotEvery+time.Minute
	store.Logger = r.logs
	db.SetLogger(r.logs)
	db.ShutdownSyncTimeout, db.ShutdownSyncInterval = r.flushFor, r.flushFor/8
	if err := store.Open(ctx); err != nil {
		return nil, fmt.Errorf("open Litestream: %w", err)
	}
	r.mu.Lock()
	r.store = store
	r.mu.Unlock()
	signal(r.dirty)
	return db, nil
}

// watch notices that the replica falls behind, also where a library tries
// again and again and tells nothing.
func (r *Replica) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		if lag := r.state.status().Lag; lag > slow {
			r.state.behind(r.opts.Log, errSlow)
		}
		pause(ctx, slow/10)
	}
	return nil
}

// take moves changes from the database's log to files beside it.
func (r *Replica) take(ctx context.Context, db *litestream.DB) error {
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-r.dirty:
		case <-time.After(idleSync):
		}
		began := r.opts.Now()
		err := db.Sync(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to end
		case unusable(err), err != nil && halfOpen(db):
			return err
		case err != nil:
			r.state.failed(r.opts.Log, err)
			signal(r.dirty)
			wait = min(max(2*wait, r.opts.Monitor), retryLimit)
		default:
			r.state.taken(began)
			signal(r.ready)
			wait = r.opts.Monitor
		}
		pause(ctx, wait-r.opts.Now().Sub(began))
	}
}

// upload sends those files to the replica.
func (r *Replica) upload(ctx context.Context, replica *litestream.Replica) error {
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-r.ready:
		}
		began, upTo := r.opts.Now(), r.state.takenUpTo()
		err := replica.Sync(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to end
		case unusable(err):
			return err
		case err != nil:
			r.state.failed(r.opts.Log, explain(r.opts.Target, err))
			signal(r.ready)
			wait = min(max(2*wait, r.opts.Sync), retryLimit)
		default:
			r.state.uploaded(r.opts.Log, upTo)
			wait = r.opts.Sync
		}
		pause(ctx, wait-r.opts.Now().Sub(began))
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// unusable says whether only a new start helps.
func unusable(err error) bool {
	e, ok := errors.AsType[*litestream.LTXError](err)
	return ok && e.IsAutoRecoverable()
}

// halfOpen says whether Litestream broke off while it opened the database: it
// does not try again.
func halfOpen(db *litestream.DB) bool { return db.SQLDB() != nil && db.PageSize() == 0 }

// restart makes the next session begin with a whole copy.
func (r *Replica) restart(ctx context.Context) error {
	_ = r.shut(cancelled(ctx)) // the copy holds what it could not upload
	at, err := last(ctx, r.remote.client)
	if err != nil {
		return explain(r.opts.Target, err)
	}
	return beside(r.opts.Database).follow(ctx, r.remote.client, at)
}

// shut closes Litestream, which uploads what is left while ctx lasts.
func (r *Replica) shut(ctx context.Context) error {
	r.mu.Lock()
	store := r.store
	r.store = nil
	r.mu.Unlock()
	if store == nil {
		return nil
	}
	return store.Close(ctx)
}

// opened is Litestream as Run left it, or newly opened.
func (r *Replica) opened(ctx context.Context) (*litestream.DB, error) {
	r.mu.Lock()
	store := r.store
	r.mu.Unlock()
	if store != nil {
		if db := store.DBs()[0]; !halfOpen(db) {
			return db, nil
		}
		_ = r.shut(cancelled(ctx)) // it did not even look at the database
	}
	return r.start(ctx)
}

// cancelled is a context that has ended already.
func cancelled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// flush ends the replication for good, and uploads the rest if this server
// has written to the database and still has the lease.
func (r *Replica) flush(ctx context.Context) error {
	if r.keeper == nil || r.keeper.reason() != nil {
		_ = r.shut(cancelled(ctx)) // it can only say that it could not upload
		return nil
	}
	if !r.state.written() {
		return r.shut(ctx)
	}
	defer r.markEnd(context.WithoutCancel(ctx))
	ctx, cancel := context.WithTimeout(ctx, r.flushFor)
	defer cancel()
	db, err := r.opened(ctx)
	if err != nil {
		return err
	}
	// Litestream may not have looked at the database yet.
	err = db.Sync(ctx)
	return errors.Join(err, r.shut(ctx))
}

// markEnd keeps the last marks: Litestream has folded the log into the file when
// it closed it.
func (r *Replica) markEnd(ctx context.Context) {
	if err := r.marks.note(ctx); err != nil {
		r.opts.Log.Warn().Err(err).Msg("The marks of the database could not be kept: an older copy in its place may not be noticed")
	}
}
