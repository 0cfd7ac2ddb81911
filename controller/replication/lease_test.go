package replication

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/rs/zerolog"

	"dstack/controller/objects"
)

var errNetwork = errors.New("the network is down")

func testTarget(t *testing.T) objects.Target {
	t.Helper()
	target, err := objects.Parse("s3://bucket/path")
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func testLeaser(t *testing.T, b storage, owner string) *leaser {
	t.Helper()
	return &leaser{target: testTarget(t), bucket: b, owner: owner, ttl: leaseTTL, now: time.Now}
}

func TestLeaseHasOneHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		m := newMemory()
		a, b := testLeaser(t, m, "a"), testLeaser(t, m, "b")
		first, err := a.acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.acquire(ctx)
		held, ok := errors.AsType[*HeldError](err)
		if !ok || held.Owner != "a" || time.Until(held.Until) != leaseTTL {
			t.Fatalf("second server: %v", err)
		}
		if text := err.Error(); !strings.Contains(text, "server a holds the lease until "+held.Until.UTC().Format("2006-01-02 15:04:05 UTC")) {
			t.Errorf("sentence: %s", text)
		}
		time.Sleep(leaseTTL)
		second, err := b.acquire(ctx)
		if err != nil || second.Generation != first.Generation+1 {
			t.Fatalf("after the end: %+v, %v", second, err)
		}
		_, err = a.renew(ctx, first)
		if lost, ok := errors.AsType[*LostError](err); !ok || lost.Owner != "b" {
			t.Errorf("the first one renews: %v", err)
		}
		if err := a.release(ctx, first); err != nil {
			t.Errorf("the first one releases: %v", err)
		}
		if second, err = b.renew(ctx, second); err != nil {
			t.Errorf("the second one renews: %v", err)
		}
		if err := b.release(ctx, second); err != nil {
			t.Fatal(err)
		}
		if _, err := a.acquire(ctx); err != nil {
			t.Errorf("after the release: %v", err)
		}
	})
}

// TestLeaseLostAnswer: a write that was done, but not answered, is known again.
func TestLeaseLostAnswer(t *testing.T) {
	ctx := t.Context()
	m := newMemory()
	l := testLeaser(t, m, "a")
	m.set(nil, func(string, string) error { return errNetwork })
	if _, err := l.acquire(ctx); !errors.Is(err, errNetwork) {
		t.Fatalf("acquire: %v", err)
	}
	m.set(nil, func(string, string) error { return nil })
	lease, err := l.acquire(ctx)
	if err != nil {
		t.Fatalf("acquire again: %v", err)
	}
	m.set(nil, func(string, string) error { return errNetwork })
	if _, err := l.renew(ctx, lease); !errors.Is(err, errNetwork) {
		t.Fatalf("renew: %v", err)
	}
	m.set(nil, func(string, string) error { return nil })
	if _, err := l.renew(ctx, lease); err != nil {
		t.Fatalf("renew again: %v", err)
	}
}

// TestLeaseObjectGone: without the object nobody knows who came and went,
// unless the lease is still alive.
func TestLeaseObjectGone(t *testing.T) {
	for _, tc := range []struct {
		after time.Duration
		lost  bool
	}{{leaseTTL - time.Second, false}, {leaseTTL + time.Second, true}} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory()
			l := testLeaser(t, m, "a")
			lease, err := l.acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			delete(m.data, l.key())
			time.Sleep(tc.after)
			_, err = l.renew(t.Context(), lease)
			if _, lost := errors.AsType[*LostError](err); lost != tc.lost || !lost && err != nil {
				t.Errorf("after %s: %v", tc.after, err)
			}
		})
	}
}

// careless is a storage that ignores the conditions of writes, or only the one
// that there must be no object.
type careless struct {
	*memory

	ifNoneOnly bool
}

func (c careless) Write(ctx context.Context, key string, data []byte, version string) (string, error) {
	if version == "" || !c.ifNoneOnly {
		_, version, _ = c.Read(ctx, key)
	}
	return c.memory.Write(ctx, key, data, version)
}

// TestLeaseNeedsConditions: a storage where everybody gets the lease is refused.
func TestLeaseNeedsConditions(t *testing.T) {
	for _, ifNoneOnly := range []bool{false, true} {
		m := newMemory()
		if _, err := testLeaser(t, careless{m, ifNoneOnly}, "a").acquire(t.Context()); err == nil || !strings.Contains(err.Error(), "ignores the conditions") {
			t.Error(err)
		}
	}
}

// TestWaitTells: who waits for a lease says why that takes so long.
func TestWaitTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(t)
		if _, err := testLeaser(t, b.leases, "other").acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		r, log := open1(t, b, filepath.Join(t.TempDir(), "sqlite.db"))
		waited := make(chan error)
		go func() { waited <- r.Acquire(t.Context(), true) }()
		time.Sleep(time.Second)
		b.setAway(true)
		time.Sleep(time.Minute)
		b.setAway(false)
		if err := <-waited; err != nil {
			t.Error(err)
		}
		for _, want := range []string{"waiting for it", "can't be read; waiting goes on"} {
			if n := strings.Count(log.String(), want); n != 1 {
				t.Errorf("%d times %q in %s", n, want, log)
			}
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLeaseIsNoLease(t *testing.T) {
	m := newMemory()
	l := testLeaser(t, m, "a")
	m.data[l.key()] = []byte("{")
	if _, err := l.acquire(t.Context()); err == nil || !strings.Contains(err.Error(), "path/lock.json is no lease") {
		t.Error(err)
	}
}

// held starts a keeper.
func held(t *testing.T, l *leaser) *keeper {
	t.Helper()
	lease, err := l.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keep(t.Context(), l, lease, zerolog.New(io.Discard))
}

// TestKeeperOutage: while the storage is away nothing is written after the
// lease ended, and all is as before when it is back.
func TestKeeperOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		k := held(t, testLeaser(t, m, "a"))
		time.Sleep(time.Minute)
		before, done := k.while(t.Context())
		defer done()
		if before.Err() != nil {
			t.Fatalf("after a minute: %v", context.Cause(before))
		}
		m.set(func(string, string) error { return errNetwork }, nil)
		time.Sleep(leaseTTL)
		if !errors.Is(context.Cause(before), errNoLease) {
			t.Fatalf("without a lease: %v", context.Cause(before))
		}
		during, done := k.while(t.Context())
		done()
		if !errors.Is(context.Cause(during), errNoLease) || k.reason() != nil {
			t.Fatalf("meanwhile: %v, %v", context.Cause(during), k.reason())
		}
		time.Sleep(2 * time.Minute)
		m.set(func(string, string) error { return nil }, nil)
		time.Sleep(2 * time.Second)
		again, done := k.while(t.Context())
		defer done()
		if again.Err() != nil {
			t.Fatalf("after the outage: %v", context.Cause(again))
		}
		if err := k.release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(m.data) != 0 {
			t.Error("the lease was not given back")
		}
	})
}

// TestKeeperLoses: another server took over while the storage was away.
func TestKeeperLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		k := held(t, testLeaser(t, m, "a"))
		ctx, done := k.while(t.Context())
		defer done()
		m.set(func(string, string) error { return errNetwork }, nil)
		time.Sleep(leaseTTL + 1500*time.Millisecond) // between two attempts of the keeper
		m.set(func(string, string) error { return nil }, nil)
		other := testLeaser(t, m, "b")
		if _, err := other.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-k.lost
		lost, ok := errors.AsType[*LostError](k.reason())
		if !ok || lost.Owner != "b" || ctx.Err() == nil {
			t.Fatalf("%v, %v", k.reason(), ctx.Err())
		}
		if err := k.release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if held, err := other.read(t.Context()); err != nil || held.Owner != "b" {
			t.Errorf("the new holder lost it: %+v, %v", held, err)
		}
	})
}

// TestKeeperSuspended: a machine that slept for longer than its lease lived
// does not write to the replica, and does not take for its own a lease that
// another server had and gave back meanwhile.
func TestKeeperSuspended(t *testing.T) {
	m := newMemory()
	l := testLeaser(t, m, "a")
	asleep := atomic.Int64{} // seconds that only the clock on the wall counts
	l.now = func() time.Time {
		now := time.Now()
		// The second field from the left of the first word of a Time are the seconds.
		*(*uint64)(unsafe.Pointer(&now)) += uint64(asleep.Load()) << 30
		return now
	}
	k := held(t, l)
	before, done := k.while(t.Context())
	done()
	if err := context.Cause(before); errors.Is(err, errNoLease) {
		t.Fatal(err)
	}
	asleep.Store(60)
	if awake := l.now(); awake.Sub(k.lease.ExpiresAt) > 0 || awake.Round(0).Before(k.lease.ExpiresAt.Round(0)) {
		t.Fatalf("this test shows nothing: %s, %s", awake, k.lease.ExpiresAt)
	}
	after, done := k.while(t.Context())
	defer done()
	if err := context.Cause(after); !errors.Is(err, errNoLease) {
		t.Errorf("upload after the sleep: %v", err)
	}
	m.mu.Lock()
	clear(m.data)
	m.mu.Unlock()
	if _, lost := errors.AsType[*LostError](k.renewOnce(t.Context())); !lost {
		t.Error("the lease is taken for one that was never another's")
	}
	if err := k.release(t.Context()); err != nil {
		t.Fatal(err)
	}
}
