// Package snapshot keeps what was made of stored rows until the rows change.
package snapshot

import (
	"context"
	"sync"
)

// Cache holds values that are true at one revision of the store. Values are
// shared: nobody changes them. It is safe for concurrent use.
type Cache[K comparable, V any] struct {
	limit int

	mu       sync.RWMutex
	revision uint64
	entries  map[K]V
	size     int
	making   map[turn[K]]chan struct{}
}

// turn is what somebody makes now.
type turn[K comparable] struct {
	revision uint64
	key      K
}

// New makes a cache whose values have at most limit bytes together, as far as
// Put is told. What is kept is dropped when it is full.
func New[K comparable, V any](limit int) *Cache[K, V] {
	return &Cache[K, V]{limit: limit, entries: map[K]V{}, making: map[turn[K]]chan struct{}{}}
}

// Get gives the value of a key at a revision, if it is there.
func (c *Cache[K, V]) Get(revision uint64, key K) (V, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.revision != revision {
		var none V
		return none, false
	}
	v, ok := c.entries[key]
	return v, ok
}

// Put keeps a value of size bytes that was made of rows which were read after
// the revision was asked for. A value of an older revision is not kept.
func (c *Cache[K, V]) Put(revision uint64, key K, v V, size int) {
	if size > c.limit {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if revision < c.revision {
		return
	}
	if _, known := c.entries[key]; known && revision == c.revision {
		c.entries[key] = v // of the same size, more or less
		return
	}
	if revision > c.revision || c.size+size > c.limit {
		clear(c.entries)
		c.revision, c.size = revision, 0
	}
	c.entries[key] = v
	c.size += size
}

// Turn keeps many who ask at once from making the same value: it waits while
// another caller makes it, or until ctx ends. After it the caller looks again,
// makes what is still missing and calls done.
func (c *Cache[K, V]) Turn(ctx context.Context, revision uint64, key K) (done func()) {
	by := turn[K]{revision, key}
	mine := make(chan struct{})
	c.mu.Lock()
	others, busy := c.making[by]
	if !busy {
		c.making[by] = mine
	}
	c.mu.Unlock()
	if busy {
		select {
		case <-others:
		case <-ctx.Done():
		}
		return func() {}
	}
	return func() {
		c.mu.Lock()
		delete(c.making, by)
		c.mu.Unlock()
		close(mine)
	}
}
