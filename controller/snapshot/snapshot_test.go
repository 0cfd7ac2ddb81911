package snapshot

import (
	"sync"
	"testing"
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
