package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestGroupCommit has many callers write at the same time, a third of which
// fail and a third of which go away. Those that succeeded are stored, those
// that failed are not, and commits are shared.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	var commits atomic.Int64
	var woken sync.Map
	s := openTest(t, Options{AfterCommit: func() error { commits.Add(1); return nil }})
	s.OnWake(func(keys []Key) {
		for _, k := range keys {
			if _, twice := woken.LoadOrStore(k.ID, true); twice {
				t.Errorf("%s was woken twice", k.ID)
			}
		}
	})
	const callers, each = 30, 40
	fault := errors.New("no")
	var ok, failed sync.Map
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				k := Key{KindJob, fmt.Sprintf("%d-%d", c, i)}
				ctx, cancel := context.WithCancel(t.Context())
				err := s.Write(ctx, func(tx *Tx) error {
					if c%3 == 2 {
						cancel() // the caller goes away while it is being served
					}
					if err := tx.Wake(at(1), k); err != nil || c%3 != 1 {
						return err
					}
					return fault
				})
				cancel()
				switch {
				case err == nil:
					ok.Store(k.ID, true)
				case errors.Is(err, fault):
					failed.Store(k.ID, true)
				case c%3 != 2 || !errors.Is(err, context.Canceled):
					t.Errorf("%s: %v", k.ID, err)
				}
			}
		})
	}
	wg.Wait()
	// One more write comes after all that were accepted before it.
	write(t, s, func(*Tx) error { return nil })
	stored := map[string]bool{}
	read(t, s, func(tx *Tx) error {
		keys, err := tx.AllWork()
		for _, k := range keys {
			stored[k.ID] = true
		}
		return err
	})
	ok.Range(func(id, _ any) bool {
		if !stored[id.(string)] {
			t.Errorf("%s succeeded and is not stored", id)
		}
		return true
	})
	failed.Range(func(id, _ any) bool {
		if stored[id.(string)] {
			t.Errorf("%s failed and is stored", id)
		}
		return true
	})
	for id := range stored {
		if _, ok := woken.Load(id); !ok {
			t.Errorf("%s is stored and nobody was woken", id)
		}
	}
	// Those who went away were served nevertheless.
	if want := callers / 3 * each * 2; len(stored) != want {
		t.Errorf("%d writes are stored, want %d", len(stored), want)
	}
	if n := commits.Load(); n >= callers*each {
		t.Errorf("%d writes took %d commits", callers*each, n)
	}
}

// TestFailedCommit lets a COMMIT fail: every member of its group hears of it
// and nothing is stored.
func TestFailedCommit(t *testing.T) {
	t.Parallel()
	for _, inline := range []bool{false, true} {
		fault := errors.New("power cut")
		var cut atomic.Bool
		s := openTest(t, Options{Inline: inline, BeforeCommit: func() error {
			if cut.Load() {
				return fault
			}
			return nil
		}})
		s.OnWake(func(keys []Key) { t.Errorf("woken: %v", keys) })
		cut.Store(true)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				err := s.Write(t.Context(), func(tx *Tx) error { return tx.Wake(at(1), Key{KindRun, fmt.Sprint(i)}) })
				if !errors.Is(err, fault) {
					t.Errorf("Write = %v", err)
				}
			})
		}
		wg.Wait()
		cut.Store(false)
		read(t, s, func(tx *Tx) error { return same(t, "work", []Key{})(tx.AllWork()) })
		write(t, s, seed) // it works again
	}
}

// TestLostAnswer fails after the COMMIT: the rows are there, nobody knows.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for _, inline := range []bool{false, true} {
		fault := errors.New("killed")
		s := openTest(t, Options{Inline: inline, AfterCommit: func() error { return fault }})
		s.OnWake(func(keys []Key) { t.Errorf("woken: %v", keys) })
		k := Key{KindRun, "x"}
		if err := s.Write(t.Context(), func(tx *Tx) error { return tx.Wake(at(1), k) }); !errors.Is(err, fault) {
			t.Errorf("Write = %v", err)
		}
		read(t, s, func(tx *Tx) error { return same(t, "work", []Key{k})(tx.AllWork()) })
	}
}

func TestPanics(t *testing.T) {
	t.Parallel()
	s := openTest(t, Options{})
	err := s.Write(t.Context(), func(tx *Tx) error { _ = tx.Wake(at(1), Key{KindRun, "x"}); panic("oops") })
	if err == nil || !strings.Contains(err.Error(), "oops") {
		t.Errorf("Write = %v", err)
	}
	inline := openTest(t, Options{Memory: true, Inline: true})
	func() {
		defer func() {
			if recover() != "oops" {
				t.Error("the panic did not reach the caller")
			}
		}()
		_ = inline.Write(t.Context(), func(tx *Tx) error { _ = tx.Wake(at(1), Key{KindRun, "x"}); panic("oops") })
	}()
	for _, s := range []*Store{s, inline} {
		read(t, s, func(tx *Tx) error { return same(t, "work", []Key{})(tx.AllWork()) })
		write(t, s, seed)
	}
}

// TestSnapshot reads twice in one transaction, with a write in between.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	s := openTest(t, Options{})
	read(t, s, func(tx *Tx) error {
		before, err := tx.AllWork()
		if err != nil {
			return err
		}
		write(t, s, func(tx *Tx) error { return tx.Wake(at(1), Key{KindRun, "x"}) })
		return same(t, "work", before)(tx.AllWork())
	})
	read(t, s, func(tx *Tx) error { return same(t, "work", []Key{{KindRun, "x"}})(tx.AllWork()) })
	if err := s.Read(t.Context(), func(tx *Tx) error { return tx.Wake(at(1), Key{KindRun, "y"}) }); err == nil {
		t.Error("a reader wrote")
	}
}

func TestCallerGone(t *testing.T) {
	t.Parallel()
	gone := errors.New("closed the page")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	for _, opts := range []Options{{}, {Memory: true, Inline: true}} {
		s := openTest(t, opts)
		err := s.Read(ctx, func(*Tx) error { return nil })
		if err != nil && !errors.Is(err, gone) {
			t.Errorf("Read = %v", err)
		}
		err = s.Write(ctx, func(*Tx) error { return nil })
		if err != nil && !errors.Is(err, gone) {
			t.Errorf("Write = %v", err)
		}
		write(t, s, seed)
	}
}
