package snapshot

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestCache(t *testing.T) {
	t.Parallel()
	c := New[string, int](10)
	holds := func(revision uint64, key string, want int) {
		t.Helper()
		if v, ok := c.Get(revision, key); v != want || ok != (want != 0) {
			t.Errorf("%s at %d is %d, %v, want %d", key, revision, v, ok, want)
		}
	}
	holds(0, "a", 0)
	c.Put(1, "a", 1, 4)
	c.Put(1, "b", 2, 4)
	holds(1, "a", 1)
	holds(0, "a", 0)
	holds(2, "a", 0)
	c.Put(0, "old", 9, 1)
	holds(0, "old", 0)
	c.Put(1, "large", 9, 11)
	holds(1, "large", 0)
	holds(1, "a", 1)
	c.Put(1, "full", 3, 4)
	holds(1, "a", 0)
	holds(1, "full", 3)
	c.Put(2, "new", 4, 4)
	holds(1, "full", 0)
	holds(2, "new", 4)
}

func TestCacheIsShared(t *testing.T) {
	t.Parallel()
	c := New[uint64, uint64](100)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range uint64(2000) {
				c.Put(n/10, n, n/10, 1)
				if v, ok := c.Get(n/10, n); ok && v != n/10 {
					t.Errorf("%d at revision %d", v, n/10)
				}
			}
		})
	}
	wg.Wait()
}

// TestTurn lets many ask for a value at once: one makes it. Where it is not
// kept each makes its own, and who goes away does not wait.
func TestTurn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		keep bool
		want int32
	}{{"kept", true, 1}, {"not kept", false, 8}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := New[string, int](10)
				var made atomic.Int32
				free := make(chan struct{})
				for range 8 {
					go func() {
						defer c.Turn(t.Context(), 1, "a")()
						if _, ok := c.Get(1, "a"); ok {
							return
						}
						<-free
						made.Add(1)
						if tt.keep {
							c.Put(1, "a", 5, 1)
						}
					}()
				}
				synctest.Wait()
				c.Turn(t.Context(), 1, "b")() // another key waits for nobody
				c.Turn(t.Context(), 2, "a")() // nor another revision
				gone, cancel := context.WithCancel(t.Context())
				cancel()
				c.Turn(gone, 1, "a")()
				close(free)
				synctest.Wait()
				if got := made.Load(); got != tt.want {
					t.Errorf("made %d times, want %d", got, tt.want)
				}
			})
		})
	}
}
