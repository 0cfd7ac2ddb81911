package engine

import (
	"testing"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/backends"
	"dstack/controller/store"
)

// TestOvertakenErrand asks for nothing that was decided before the last answer
// about the machine: it may have been refused since.
func TestOvertakenErrand(t *testing.T) {
	t.Parallel()
	st := openBase(t, "").Store
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := New(Config{Store: st, Now: func() time.Time { return now }, NewID: func() string { return "id" }, Log: zerolog.Nop()})
	var started []string
	e.start = func(f Effect) { started = append(started, f.id()) }
	create := func(instance, token string) Effect {
		return Effect{
			Kind: DoCreate, Key: store.Key{Kind: store.KindInstance, ID: instance}, InstanceID: instance,
			Cloud: Errand{Ref: backends.Ref{Token: token}},
		}
	}
	first, other := create("i", "t1"), create("j", "t1")
	e.launch([]Effect{first}, e.mark)
	began := e.mark
	e.settle(first, nil)                          // it was refused
	e.launch([]Effect{first, other}, began)       // decided before that
	e.launch([]Effect{create("i", "t2")}, e.mark) // decided after it
	expect(t, "started", started, []string{first.id(), other.id(), create("i", "t2").id()})
	key, ok := e.queue.take(0)
	expect(t, "looked at again", ok && key == first.Key, true)
}
