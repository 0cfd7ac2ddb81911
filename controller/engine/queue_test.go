package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"dstack/controller/store"
)

func key(id string) store.Key { return store.Key{Kind: store.KindJob, ID: id} }

func TestQueueMergesAndRunsAgain(t *testing.T) {
	t.Parallel()
	q := newQueue()
	q.push(key("a"), key("b"), key("a"))
	expect(t, "merged", q.len(), 2)
	a, _ := q.take(0)
	q.push(a, a) // woken while worked on
	expect(t, "not beside itself", q.len(), 1)
	q.done(a)
	expect(t, "comes again, once", q.len(), 2)
	b, _ := q.take(0)
	expect(t, "after who waited", b, key("b"))
	q.done(b)
	expect(t, "not again", q.len(), 1)
}

func TestQueuePopWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		got := make(chan store.Key, 2)
		for range 2 {
			go func() {
				k, err := q.pop(t.Context())
				if err == nil {
					got <- k
				}
			}()
		}
		synctest.Wait()
		q.push(key("a"), key("b"))
		synctest.Wait()
		expect(t, "both workers were woken", len(got), 2)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := q.pop(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("pop after the end: %v", err)
		}
	})
}

func TestTimers(t *testing.T) {
	t.Parallel()
	var ts timers
	ts.set(key("b"), now().Add(2*time.Second))
	_, _, changed := ts.due(now())
	ts.set(key("a"), now().Add(time.Second))
	select {
	case <-changed:
	default:
		t.Error("an earlier timer is not told")
	}
	ts.set(key("a"), now().Add(time.Hour)) // the earlier wish stays
	keys, next, _ := ts.due(now())
	expect(t, "nothing is due", len(keys), 0)
	expect(t, "next", next, now().Add(time.Second))
	keys, next, _ = ts.due(now().Add(2 * time.Second))
	expect(t, "due", keys, []store.Key{key("a"), key("b")})
	expect(t, "no next", next.IsZero(), true)
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}
