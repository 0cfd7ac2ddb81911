package engine

import (
	"context"
	"slices"
	"sync"
	"time"

	"dstack/controller/store"
)

// queue holds keys to be worked on. A key is in it at most once; one that is
// pushed while it is worked on comes again afterwards, never at the same time.
type queue struct {
	mu      sync.Mutex
	waiting []store.Key
	queued  map[store.Key]bool
	working map[store.Key]bool
	again   map[store.Key]bool
	// ready has a token while something may be waiting.
	ready chan struct{}
}

func newQueue() *queue {
	return &queue{
		queued:  map[store.Key]bool{},
		working: map[store.Key]bool{},
		again:   map[store.Key]bool{},
		ready:   make(chan struct{}, 1),
	}
}

func (q *queue) push(keys ...store.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range keys {
		switch {
		case q.working[k]:
			q.again[k] = true
		case !q.queued[k]:
			q.queued[k] = true
			q.waiting = append(q.waiting, k)
		}
	}
	q.signal()
}

func (q *queue) signal() {
	if len(q.waiting) == 0 {
		return
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// pop waits for a key and takes it; the caller says done afterwards.
func (q *queue) pop(ctx context.Context) (store.Key, error) {
	for {
		if k, ok := q.take(0); ok {
			return k, nil
		}
		select {
		case <-ctx.Done():
			return store.Key{}, context.Cause(ctx)
		case <-q.ready:
		}
	}
}

// take takes the i-th waiting key.
func (q *queue) take(i int) (store.Key, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i >= len(q.waiting) {
		return store.Key{}, false
	}
	k := q.waiting[i]
	q.waiting = slices.Delete(q.waiting, i, i+1)
	delete(q.queued, k)
	q.working[k] = true
	q.signal()
	return k, true
}

func (q *queue) done(k store.Key) {
	q.mu.Lock()
	again := q.again[k]
	delete(q.working, k)
	delete(q.again, k)
	q.mu.Unlock()
	if again {
		q.push(k)
	}
}

// timers remember when to look at keys again. The zero value is ready.
type timers struct {
	at      map[store.Key]time.Time
	changed chan struct{}
}

// set asks for a look at t, or earlier if one is due earlier.
func (t *timers) set(k store.Key, at time.Time) {
	if old, ok := t.at[k]; ok && !old.After(at) {
		return
	}
	if t.at == nil {
		t.at = map[store.Key]time.Time{}
	}
	t.at[k] = at
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// due takes the keys whose time has come, in a fixed order, and tells when
// the next one is due and how to hear of an earlier one.
func (t *timers) due(now time.Time) (keys []store.Key, next time.Time, changed <-chan struct{}) {
	for k, at := range t.at {
		switch {
		case !at.After(now):
			keys = append(keys, k)
			delete(t.at, k)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	slices.SortFunc(keys, func(a, b store.Key) int {
		if a.ID != b.ID {
			if a.ID < b.ID {
				return -1
			}
			return 1
		}
		if a.Kind < b.Kind {
			return -1
		}
		return 1
	})
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return keys, next, t.changed
}
