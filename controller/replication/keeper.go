package replication

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/rs/zerolog"
)

const (
	// leaseTTL is how long a lease lives that is not renewed.
	leaseTTL = 15 * time.Second
	// leaseMargin is how long before the end of the lease nothing more is
	// written to the replica, so that clocks may differ a little.
	leaseMargin = 2 * time.Second
	// leaseRequest is how long one attempt to take or renew it may last.
	leaseRequest = 4 * time.Second
)

// errNoLease stops writes to the replica while it is not known whether the
// lease is still ours.
var errNoLease = errors.New("the lease could not be renewed in time")

// keeper holds a lease from its start until it is stopped or lost.
type keeper struct {
	leaser *leaser
	log    zerolog.Logger
	stop   context.CancelFunc
	done   chan struct{}
	lost   chan struct{} // closed when err is set

	mu    sync.Mutex
	lease *litestream.Lease
	err   error
	// valid ends when the lease has expired; a renewal makes a new one.
	valid  context.Context //nolint:containedctx // it is the lease's life
	expire context.CancelCauseFunc
	guard  *time.Timer // expires it
}

// keep renews a lease until stopKeeping is called.
func keep(ctx context.Context, l *leaser, lease *litestream.Lease, log zerolog.Logger) *keeper {
	k := &keeper{leaser: l, log: log, done: make(chan struct{}), lost: make(chan struct{})}
	ctx, k.stop = context.WithCancel(context.WithoutCancel(ctx))
	k.renewed(lease)
	go func() {
		defer close(k.done)
		k.run(ctx)
	}()
	return k
}

// renewed takes note of a lease that was just written.
func (k *keeper) renewed(lease *litestream.Lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lease = lease
	if k.valid == nil || k.valid.Err() != nil {
		k.valid, k.expire = context.WithCancelCause(context.Background())
	}
	if k.guard != nil {
		k.guard.Stop()
	}
	expire := k.expire
	k.guard = time.AfterFunc(k.leaser.left(lease)-leaseMargin, func() { expire(errNoLease) })
}

func (k *keeper) run(ctx context.Context) {
	failing := false
	timer := time.NewTimer(leaseTTL / 3)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := k.renewOnce(ctx)
		switch _, lost := errors.AsType[*LostError](err); {
		case ctx.Err() != nil:
			return
		case lost:
			return
		case err != nil && !failing:
			k.log.Warn().Err(explain(k.leaser.target, err)).Msg("The lease of the replica can't be renewed; the server goes on and keeps trying")
		case err == nil && failing:
			k.log.Info().Msg("The lease of the replica is renewed again")
		}
		failing = err != nil
		if failing {
			timer.Reset(time.Second)
		} else {
			timer.Reset(leaseTTL / 3)
		}
	}
}

// renewOnce renews the lease.
func (k *keeper) renewOnce(ctx context.Context) error {
	k.mu.Lock()
	lease, expire := k.lease, k.expire
	k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, leaseRequest)
	defer cancel()
	next, err := k.leaser.renew(ctx, lease)
	if _, lost := errors.AsType[*LostError](err); lost {
		expire(err)
		k.mu.Lock()
		k.err = err
		k.mu.Unlock()
		close(k.lost)
		return err
	}
	if err != nil {
		return err
	}
	k.renewed(next)
	return nil
}

// reason says why the lease is lost; nil while it is not.
func (k *keeper) reason() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// while returns a context that ends with ctx, and with the validity of the
// lease: nothing that is written to the replica outlives it.
func (k *keeper) while(ctx context.Context) (context.Context, context.CancelFunc) {
	k.mu.Lock()
	lease, valid, expire := k.lease, k.valid, k.expire
	k.mu.Unlock()
	if k.leaser.left(lease) <= leaseMargin {
		expire(errNoLease) // no timer runs while the machine is suspended
	}
	ctx, cancel := context.WithCancelCause(ctx)
	if err := context.Cause(valid); err != nil {
		cancel(err)
	}
	unhook := context.AfterFunc(valid, func() { cancel(context.Cause(valid)) })
	return ctx, func() {
		unhook()
		cancel(nil)
	}
}

// release ends the renewals and, if the lease is still ours, gives it back.
func (k *keeper) release(ctx context.Context) error {
	k.stop()
	<-k.done
	k.mu.Lock()
	lease, lost, expire := k.lease, k.err, k.expire
	k.guard.Stop()
	k.mu.Unlock()
	expire(errNoLease)
	if lost != nil {
		return nil //nolint:nilerr // told when it was lost; another server has it
	}
	return k.leaser.release(ctx, lease)
}
