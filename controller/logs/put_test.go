package logs

import (
	"errors"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// events gives events, and an error after them if there is one.
func events(err error, list ...Event) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(Event{}, err)
		}
	}
}

// TestPut writes a log at once: whole, or not at all; never over one that is
// there.
func TestPut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := New(Options{Dir: dir})
	old := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	list := []Event{{At: old, Data: []byte("a\n")}, {At: old, Data: []byte("gr\xc3")}, {At: old.Add(-time.Hour), Data: []byte("\xbcn")}, {At: old.Add(time.Second), Data: []byte("\xe2\x82")}}
	failed := errors.New("no more")
	if err := s.Put(t.Context(), key, events(failed, list...)); !errors.Is(err, failed) {
		t.Fatalf("got %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(s.folder(key))); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	must(t, os.MkdirAll(s.folder(key)+".part", 0o700)) // of a process that ended
	must(t, s.Put(t.Context(), key, events(nil, list...)))
	must(t, s.Put(t.Context(), key, events(nil, Event{At: old, Data: []byte("other")})))
	got := all(t, s, PollOptions{Limit: 10})
	checkTimes(t, got)
	if diff := cmp.Diff([]string{"a\n", "gr", "\xc3\xbcn", "\xe2\x82"}, texts(got)); diff != "" {
		t.Error(diff)
	}
	if !got[0].At.Equal(old) || !got[3].At.Equal(old.Add(time.Second)) {
		t.Errorf("times are %v and %v", got[0].At, got[3].At)
	}
	if info, err := os.Stat(filepath.Join(s.folder(key), "job.log")); err != nil || !info.ModTime().Equal(old.Add(time.Second)) {
		t.Errorf("it is of %v, %v", info.ModTime(), err)
	}
	must(t, s.Close())
}
