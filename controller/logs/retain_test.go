package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// kilobyte is the i-th KiB of a log.
func kilobyte(i int) []byte {
	return append(bytes.Repeat([]byte{byte('a' + i%26)}, 1023), '\n')
}

// logOf makes a log of n KiB, one event a second.
func logOf(t *testing.T, s *Store, job string, n int) Key {
	t.Helper()
	k := Key{Project: "main", Run: "train", JobID: job}
	for i := range n {
		_, err := s.Append(t.Context(), k, int64(i)<<10, at(1000*i), kilobyte(i))
		must(t, err)
	}
	return k
}

// retaining is a store in which the jobs "ended..." have ended.
func retaining(t *testing.T, now time.Time, remote Remote) *Store {
	t.Helper()
	s := New(Options{
		Dir: t.TempDir(), Now: func() time.Time { return now }, Remote: remote,
		Ended: func(_ context.Context, id string) (bool, error) { return strings.HasPrefix(id, "ended"), nil },
	})
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func kept(t *testing.T, s *Store, k Key) int64 {
	t.Helper()
	n, err := s.Kept(t.Context(), k)
	must(t, err)
	return n
}

func there(t *testing.T, s *Store, k Key) bool {
	t.Helper()
	_, err := os.Stat(s.folder(k))
	return err == nil
}

// written says when a log got its last byte.
func written(t *testing.T, s *Store, k Key, when time.Time) {
	t.Helper()
	must(t, os.Chtimes(filepath.Join(s.folder(k), "job.log"), when, when))
}

func mustRetain(t *testing.T, s *Store, limits Limits) Removed {
	t.Helper()
	r, err := s.Retain(t.Context(), limits)
	must(t, err)
	return r
}

func TestRetainByAge(t *testing.T) {
	t.Parallel()
	now := at(3_000_000)
	s := retaining(t, now, nil)
	old, running, young := logOf(t, s, "ended-old", 3), logOf(t, s, "running", 2000), logOf(t, s, "ended-young", 3)
	written(t, s, old, now.Add(-time.Hour))
	written(t, s, running, now)
	written(t, s, young, now)
	if got := mustRetain(t, s, Limits{}); got != (Removed{}) || !there(t, s, old) {
		t.Errorf("without limits: %+v", got)
	}
	// The events of the first 1000 seconds are older than 2000 seconds.
	got := mustRetain(t, s, Limits{Age: 2000 * time.Second})
	if want := (Removed{Bytes: 3<<10 + 1000<<10}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if there(t, s, old) || !there(t, s, young) {
		t.Error("of the jobs that ended, the old log and no other must go")
	}
	if n := kept(t, s, running); n != 1000<<10 {
		t.Errorf("the log of the running job begins at %d", n)
	}
	e, ok := s.entry(running)
	if !ok || e.Size != 2000<<10 || e.Disk > 1100<<10 {
		t.Errorf("%+v, %v", e, ok)
	}
	if got := mustRetain(t, s, Limits{Age: 2000 * time.Second}); got != (Removed{}) {
		t.Errorf("again: %+v", got)
	}
	// What is left is read as before, also by a new process.
	must(t, s.Close())
	s = New(Options{Dir: s.dir})
	defer s.Close()
	page, err := s.Poll(t.Context(), running, PollOptions{Limit: 1})
	must(t, err)
	if len(page.Events) != 1 || page.Events[0].Offset != 1000<<10 || !bytes.Equal(page.Events[0].Data, kilobyte(1000)) || page.Next != "1001" {
		t.Errorf("first event: %+v", page)
	}
	if _, err := s.ReadAt(running, 999<<10, make([]byte, 10)); !errors.Is(err, ErrRemoved) {
		t.Errorf("what is gone: %v", err)
	}
	buf := make([]byte, 1024)
	if n, err := s.ReadAt(running, 1000<<10, buf); n != 1024 || err != nil || !bytes.Equal(buf, kilobyte(1000)) {
		t.Errorf("%d, %v", n, err)
	}
	if size, err := s.Append(t.Context(), running, 2000<<10, at(1), []byte("on")); size != 2000<<10+2 || err != nil {
		t.Errorf("%d, %v", size, err)
	}
}

func TestRetainBySize(t *testing.T) {
	t.Parallel()
	now := at(3_000_000)
	s := retaining(t, now, nil)
	a, b, running := logOf(t, s, "ended-a", 200), logOf(t, s, "ended-b", 200), logOf(t, s, "running", 3000)
	written(t, s, a, at(0))
	written(t, s, b, at(1))
	// The running job's log goes to the first part of a MiB before the other does as a whole.
	written(t, s, running, at(2))
	mustRetain(t, s, Limits{Bytes: 3300 << 10})
	if there(t, s, a) || !there(t, s, b) || kept(t, s, running) != 0 {
		t.Error("the oldest log must go, and no more")
	}
	got := mustRetain(t, s, Limits{Bytes: 2000 << 10})
	if there(t, s, b) {
		t.Error("the older one must go first")
	}
	if n := kept(t, s, running); n < 1000<<10 || n > 1200<<10 || got.Over != 0 {
		t.Errorf("the running one begins at %d: %+v", n, got)
	}
	got = mustRetain(t, s, Limits{Bytes: 1})
	if n := kept(t, s, running); n != 3000<<10-tail || got.Over < tail {
		t.Errorf("the running one begins at %d: %+v", n, got)
	}
}

// TestRetainShipped: what was not shipped stays up to the hard limit.
func TestRetainShipped(t *testing.T) {
	t.Parallel()
	s := retaining(t, at(3_000_000), nil)
	ended, running := logOf(t, s, "ended", 100), logOf(t, s, "running", 3000)
	written(t, s, ended, at(0))
	must(t, s.SetShipped(ended, Position{To: "x", Next: Mark{99, 99 << 10}}))
	must(t, s.SetShipped(running, Position{To: "x", Piece: Mark{500, 500 << 10}, Next: Mark{700, 700 << 10}}))
	limits := Limits{Bytes: 1, Age: time.Second, To: "x"}
	got := mustRetain(t, s, limits)
	if !there(t, s, ended) || kept(t, s, running) != 500<<10 || got.Lost != 0 || got.Over == 0 {
		t.Errorf("removed before it was shipped: %+v, %d", got, kept(t, s, running))
	}
	limits.To = "y" // a new storage has nothing yet
	if got := mustRetain(t, s, limits); got.Bytes != 0 || !there(t, s, ended) {
		t.Errorf("%+v", got)
	}
	limits = Limits{Bytes: 1, Hard: 1500 << 10, To: "x"}
	got = mustRetain(t, s, limits)
	if there(t, s, ended) || kept(t, s, running) <= 700<<10 {
		t.Errorf("the hard limit holds nothing: %d", kept(t, s, running))
	}
	if want := 1<<10 + kept(t, s, running) - 700<<10; got.Lost != want {
		t.Errorf("%d bytes are told to be lost, want %d", got.Lost, want)
	}
	must(t, s.SetShipped(running, Position{To: "x", Piece: Mark{3000, 3000 << 10}, Next: Mark{3000, 3000 << 10}}))
	if got := mustRetain(t, s, Limits{Bytes: 1, To: "x"}); got.Lost != 0 || kept(t, s, running) != 3000<<10-tail {
		t.Errorf("%+v", got)
	}
	b, err := s.Batch(running, 0, 10)
	must(t, err)
	if first := (Mark{3000 - 1024, 3000<<10 - tail}); b.First != first || len(b.Events) != 10 || !b.More || b.Size != 3000<<10 {
		t.Errorf("batch from %+v with %d events", b.First, len(b.Events))
	}
}

// copied is a Remote that reads from another store.
type copied struct {
	s     *Store
	polls int
}

func (c *copied) Poll(ctx context.Context, k Key, opts PollOptions) (Page, error) {
	c.polls++
	page, err := c.s.Poll(ctx, k, opts)
	for i := range page.Events {
		// As storages that know neither microseconds nor offsets.
		page.Events[i].At = page.Events[i].At.Truncate(time.Millisecond)
		page.Events[i].Offset = 0
	}
	return page, err
}

// TestRemote reads a log whose beginning is elsewhere, in all ways: the same
// as if it were whole.
func TestRemote(t *testing.T) {
	t.Parallel()
	whole := newStore(t, t.TempDir())
	remote := &copied{s: whole}
	s := retaining(t, at(0), remote)
	k := Key{Project: "main", Run: "train", JobID: "running"}
	size := int64(0)
	for i := range 3000 {
		data := bytes.Repeat([]byte{byte('a' + i%26)}, 1+rand.IntN(2000))
		for _, s := range []*Store{s, whole} {
			_, err := s.Append(t.Context(), k, size, at(3*i), data)
			must(t, err)
		}
		size += int64(len(data))
	}
	pages := func(s *Store, opts PollOptions) []Event {
		var events []Event
		for {
			page, err := s.Poll(t.Context(), k, opts)
			must(t, err)
			events = append(events, page.Events...)
			if opts.Token = page.Next; opts.Token == "" {
				return events
			}
		}
	}
	must(t, s.SetShipped(k, Position{To: "x", Piece: Mark{3000, size}, Next: Mark{3000, size}}))
	mustRetain(t, s, Limits{Bytes: 1, To: "x"})
	if n := kept(t, s, k); n < size/2 {
		t.Fatalf("only %d bytes are gone", n)
	}
	for _, limit := range []int{50, 1000} {
		for _, descending := range []bool{false, true} {
			for _, times := range [][2]int{{-1, -1}, {100, -1}, {-1, 8000}, {3000, 6001}, {3000, 3000}, {8000, 9000}} {
				opts := PollOptions{Limit: limit, Descending: descending}
				if times[0] >= 0 {
					start := at(times[0])
					opts.Start = &start
				}
				if times[1] >= 0 {
					end := at(times[1])
					opts.End = &end
				}
				want, got := pages(whole, opts), pages(s, opts)
				same := slices.EqualFunc(want, got, func(a, b Event) bool {
					return a.At.Equal(b.At) && a.Offset == b.Offset && bytes.Equal(a.Data, b.Data)
				})
				if !same {
					t.Fatalf("limit %d, descending %v, times %v: %d events, want %d", limit, descending, times, len(got), len(want))
				}
			}
		}
	}
	// A log that is gone as a whole is asked for only if its job has ended.
	gone := Key{Project: "main", Run: "train", JobID: "ended"}
	_, err := whole.Append(t.Context(), gone, 0, at(0), []byte("hello"))
	must(t, err)
	for job, want := range map[string]string{"ended": "hello", "waiting": ""} {
		k := Key{Project: "main", Run: "train", JobID: job}
		remote.polls = 0
		page, err := s.Poll(t.Context(), k, PollOptions{Limit: 10})
		must(t, err)
		if got := text(page.Events); got != want || remote.polls != len(want)/5 {
			t.Errorf("%s: %q after %d polls", job, got, remote.polls)
		}
		if got := kept(t, s, k); (got == Nowhere) != (want != "") {
			t.Errorf("%s: kept %d", job, got)
		}
	}
}

// TestKilledWhileCutting: the mark is written before the bytes go, so a mark
// without a hole is repaired, and never the other way round.
func TestKilledWhileCutting(t *testing.T) {
	t.Parallel()
	s := retaining(t, at(0), nil)
	k := logOf(t, s, "running", 2000)
	must(t, s.Close())
	must(t, writeJSON(filepath.Join(s.folder(k), keptFile), Mark{100, 100 << 10}))
	s = New(Options{Dir: s.dir})
	defer s.Close()
	if n := kept(t, s, k); n != 100<<10 {
		t.Fatal(n)
	}
	mustRetain(t, s, Limits{Bytes: 1})
	e, _ := s.entry(k)
	if e.Disk > tail+100<<10 {
		t.Errorf("%d bytes on the disk", e.Disk)
	}
	page, err := s.Poll(t.Context(), k, PollOptions{Limit: 1})
	must(t, err)
	if want := fmt.Sprintf("%.20s", kilobyte(2000-1024)); fmt.Sprintf("%.20s", page.Events[0].Data) != want {
		t.Errorf("%.20s, want %s", page.Events[0].Data, want)
	}
}
