package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("LOGS_TEST_CHILD"); dir != "" {
		os.Exit(appendForever(dir))
	}
	goleak.VerifyTestMain(m)
}

var key = Key{Project: "main", Run: "train", JobID: "0a7945ef-f062-4cb4-b2dc-9945fe4c3120"}

func at(ms int) time.Time { return time.UnixMilli(1_700_000_000_000 + int64(ms)).UTC() }

func newStore(t testing.TB, dir string) *Store {
	t.Helper()
	s := New(Options{Dir: dir})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustAppend(t testing.TB, s *Store, offset int64, when time.Time, data string, wantSize int64) {
	t.Helper()
	size, err := s.Append(t.Context(), key, offset, when, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	if size != wantSize {
		t.Fatalf("Append(%d, %q) = %d, want %d", offset, data, size, wantSize)
	}
}

// all pages through the log as the clients do.
func all(t testing.TB, s *Store, opts PollOptions) []Event {
	t.Helper()
	var events []Event
	for {
		page, err := s.Poll(t.Context(), key, opts)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, page.Events...)
		if page.Next == "" {
			return events
		}
		opts.Token = page.Next
	}
}

func text(events []Event) string {
	var b strings.Builder
	for _, e := range events {
		b.Write(e.Data)
	}
	return b.String()
}

func texts(events []Event) []string {
	var out []string
	for _, e := range events {
		out = append(out, string(e.Data))
	}
	return out
}

func TestAppendAtOffset(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	mustAppend(t, s, 5, at(0), "gap", 0)
	mustAppend(t, s, 0, at(1), "hello", 5)
	mustAppend(t, s, 0, at(2), "hello", 5)
	mustAppend(t, s, 3, at(3), "lo world", 11)
	mustAppend(t, s, 12, at(4), "gap", 11)
	mustAppend(t, s, 2, at(5), "llo", 11)
	mustAppend(t, s, 11, at(6), "", 11)
	mustAppend(t, s, -1, at(6), "x", 11)
	if got := texts(all(t, s, PollOptions{Limit: 10})); !cmp.Equal(got, []string{"hello", " world"}) {
		t.Errorf("events = %q", got)
	}
	if size, err := s.Size(key); size != 11 || err != nil {
		t.Errorf("Size = %d, %v", size, err)
	}
}

func TestPoll(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	for i, c := range "abcde" {
		mustAppend(t, s, int64(i), at(10*i), string(c), int64(i+1))
	}
	ptr := func(ms int) *time.Time { t := at(ms); return &t }
	tests := []struct {
		name string
		opts PollOptions
		want string
		next string
	}{
		{"all", PollOptions{Limit: 100}, "abcde", ""},
		{"limit", PollOptions{Limit: 2}, "ab", "2"},
		{"second page", PollOptions{Limit: 2, Token: "2"}, "cd", "4"},
		{"last page", PollOptions{Limit: 2, Token: "4"}, "e", ""},
		{"exact end: no token", PollOptions{Limit: 5}, "abcde", ""},
		{"token past the end", PollOptions{Limit: 5, Token: "99"}, "", ""},
		{"limit 0 gives none", PollOptions{}, "", ""},
		{"start is exclusive", PollOptions{Limit: 9, Start: ptr(10)}, "cde", ""},
		{"start before all", PollOptions{Limit: 9, Start: ptr(-1)}, "abcde", ""},
		{"start after all", PollOptions{Limit: 9, Start: ptr(40)}, "", ""},
		{"end is exclusive", PollOptions{Limit: 9, End: ptr(30)}, "abc", ""},
		{"start and end", PollOptions{Limit: 9, Start: ptr(0), End: ptr(30)}, "bc", ""},
		{"end before start", PollOptions{Limit: 9, Start: ptr(30), End: ptr(0)}, "", ""},
		{"start with a token", PollOptions{Limit: 1, Start: ptr(10), Token: "3"}, "d", "4"},
		{"a token before start", PollOptions{Limit: 1, Start: ptr(10), Token: "0"}, "c", "3"},
		{"descending", PollOptions{Limit: 100, Descending: true}, "edcba", ""},
		{"descending limit", PollOptions{Limit: 2, Descending: true}, "ed", "3"},
		{"descending page", PollOptions{Limit: 2, Descending: true, Token: "3"}, "cb", "1"},
		{"descending last page", PollOptions{Limit: 2, Descending: true, Token: "1"}, "a", ""},
		{"descending end is inclusive", PollOptions{Limit: 9, Descending: true, End: ptr(30)}, "dcba", ""},
		{"descending start is exclusive", PollOptions{Limit: 9, Descending: true, Start: ptr(20)}, "ed", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			page, err := s.Poll(t.Context(), key, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if got := text(page.Events); got != tt.want || page.Next != tt.next {
				t.Errorf("Poll = %q, token %q; want %q, %q", got, page.Next, tt.want, tt.next)
			}
		})
	}
}

func TestPollRefuses(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	for _, token := range []string{"x", "-1", "1.5"} {
		_, err := s.Poll(t.Context(), key, PollOptions{Limit: 1, Token: token})
		if want := "Invalid next_token: " + token + ". Must be a non-negative integer."; err == nil || err.Error() != want {
			t.Errorf("token %q: %v", token, err)
		}
	}
	page, err := s.Poll(t.Context(), key, PollOptions{Limit: 1})
	if err != nil || len(page.Events) != 0 || page.Next != "" {
		t.Errorf("a log that does not exist: %v, %v", page, err)
	}
	for _, k := range []Key{{}, {"main", "..", "j"}, {"a/b", "r", "j"}, {"main", "r", "j\x00"}, {".", "r", "j"}, {"main", "r", "../../x"}} {
		if _, err := s.Append(t.Context(), k, 0, at(0), []byte("x")); !errors.Is(err, ErrBadKey) {
			t.Errorf("Append(%v): %v", k, err)
		}
		if _, err := s.Poll(t.Context(), k, PollOptions{Limit: 1}); !errors.Is(err, ErrBadKey) {
			t.Errorf("Poll(%v): %v", k, err)
		}
	}
}

func TestTimesAreDistinct(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	mustAppend(t, s, 0, at(5), "a", 1)
	mustAppend(t, s, 1, at(5), "b", 2)
	mustAppend(t, s, 2, at(3), "c", 3) // a clock that went back
	var seen strings.Builder
	var start *time.Time
	for {
		page, err := s.Poll(t.Context(), key, PollOptions{Start: start, Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Events) == 0 {
			break
		}
		seen.Write(page.Events[0].Data)
		start = &page.Events[0].At
	}
	if seen.String() != "abc" {
		t.Errorf("a follower by time saw %q", seen.String())
	}
}

func TestRunesStayWhole(t *testing.T) {
	t.Parallel()
	now := at(0)
	s := New(Options{Dir: t.TempDir(), Now: func() time.Time { return now }})
	t.Cleanup(func() { _ = s.Close() })
	mustAppend(t, s, 0, at(0), "gr\xc3", 3)
	if got := texts(all(t, s, PollOptions{Limit: 9})); !cmp.Equal(got, []string{"gr"}) {
		t.Errorf("before the rest came: %q", got)
	}
	mustAppend(t, s, 3, at(1), "\xbc\xc3\x9fe \xf0\x9f", 10)
	mustAppend(t, s, 10, at(2), "\x98\x80", 12)
	if got := texts(all(t, s, PollOptions{Limit: 9})); !cmp.Equal(got, []string{"gr", "üße ", "😀"}) {
		t.Errorf("events = %q", got)
	}
	// What never becomes whole is shown after a while, byte for byte.
	mustAppend(t, s, 12, at(3), "\xff\xe2\x82", 15)
	now = now.Add(holdPartial)
	if got := text(all(t, s, PollOptions{Limit: 9})); got != "grüße 😀\xff\xe2\x82" {
		t.Errorf("log = %q", got)
	}
}

func TestRepairAfterCrash(t *testing.T) {
	t.Parallel()
	damage := map[string]func(t *testing.T, data, index string){
		"a record is torn":       func(t *testing.T, _, index string) { truncate(t, index, -7) },
		"a record is missing":    func(t *testing.T, _, index string) { truncate(t, index, -recordSize) },
		"the index is empty":     func(t *testing.T, _, index string) { truncate(t, index, -3*recordSize) },
		"the index is gone":      func(t *testing.T, _, index string) { must(t, os.Remove(index)) },
		"zeros follow the index": func(t *testing.T, _, index string) { truncate(t, index, 3*recordSize) },
		"a record is garbage": func(t *testing.T, _, index string) {
			b, err := os.ReadFile(index)
			must(t, err)
			b[recordSize+3] ^= 0x40
			must(t, os.WriteFile(index, b, 0o600))
		},
		"bytes are missing": func(t *testing.T, data, _ string) { truncate(t, data, -2) },
		"nothing":           func(*testing.T, string, string) {},
	}
	for name, break_ := range damage {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := New(Options{Dir: dir})
			mustAppend(t, s, 0, at(0), "one ", 4)
			mustAppend(t, s, 4, at(1), "two ", 8)
			mustAppend(t, s, 8, at(2), "three", 13)
			must(t, s.Close())
			folder := s.folder(key)
			break_(t, filepath.Join(folder, "job.log"), filepath.Join(folder, "job.idx"))

			s = newStore(t, dir)
			size, err := s.Size(key)
			must(t, err)
			mustAppend(t, s, size, at(3), "one two three four"[size:], 18)
			events := all(t, s, PollOptions{Limit: 2})
			if got := text(events); got != "one two three four" {
				t.Errorf("log = %q", got)
			}
			checkTimes(t, events)
		})
	}
}

func truncate(t *testing.T, path string, by int64) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.Truncate(path, info.Size()+by))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func checkTimes(t *testing.T, events []Event) {
	t.Helper()
	for i := 1; i < len(events); i++ {
		if !events[i].At.After(events[i-1].At) {
			t.Fatalf("event %d is not after the one before", i)
		}
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s := New(Options{Dir: t.TempDir()})
	must(t, s.Close())
	if _, err := s.Append(t.Context(), key, 0, at(0), []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
}

func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newStore(t, dir)
	mustAppend(t, s, 0, at(0), "secret", 6)
	must(t, filepath.WalkDir(filepath.Join(dir, "projects"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	}))
}

func TestManyLogs(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	for round := range 2 {
		for i := range maxOpen + 50 {
			k := Key{"main", "run", fmt.Sprintf("job-%d", i)}
			size, err := s.Append(t.Context(), k, int64(round), at(round), []byte("x"))
			if err != nil || size != int64(round+1) {
				t.Fatalf("job %d: %d, %v", i, size, err)
			}
		}
	}
	if n := len(s.open); n > maxOpen {
		t.Errorf("%d logs are open", n)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	woken, stop := s.Watch(key)
	other, stopOther := s.Watch(Key{"main", "train", "other"})
	defer stopOther()
	mustAppend(t, s, 0, at(0), "x", 1)
	mustAppend(t, s, 1, at(1), "y", 2) // one value is enough for both
	<-woken
	mustAppend(t, s, 0, at(2), "xy", 2) // nothing new
	select {
	case <-woken:
		t.Error("woken without new bytes")
	case <-other:
		t.Error("woken for another log")
	default:
	}
	buf := make([]byte, 10)
	n, err := s.ReadAt(key, 1, buf)
	if err != nil || string(buf[:n]) != "y" {
		t.Errorf("ReadAt = %q, %v", buf[:n], err)
	}
	stop()
	if len(s.watchers) != 1 {
		t.Errorf("%d watchers are left", len(s.watchers))
	}
}

// TestBigLog sends 200 MB in chunks, some of them again or overlapping, with
// restarts in between, while readers follow; everybody ends with the same
// bytes.
func TestBigLog(t *testing.T) {
	t.Parallel()
	total := int64(200 << 20)
	if testing.Short() {
		total = 8 << 20
	}
	dir := t.TempDir()
	var mu sync.RWMutex // readers hold it while they use the store
	store := New(Options{Dir: dir})
	source := make([]byte, 1<<20)
	for i := range source {
		source[i] = "abcdefghij\n"[i%11]
	}
	copy(source[500_000:], "äöü€😀")
	piece := func(offset int64, n int) []byte {
		out := make([]byte, 0, n)
		for len(out) < n {
			start := (offset + int64(len(out))) % int64(len(source))
			out = append(out, source[start:min(int64(len(source)), start+int64(n-len(out)))]...)
		}
		return out
	}

	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			var offset int64
			var start *time.Time
			ended := false
			for offset < total {
				mu.RLock()
				page, err := store.Poll(t.Context(), key, PollOptions{Start: start, Limit: 1000})
				mu.RUnlock()
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range page.Events {
					if e.Offset != offset || !bytes.Equal(e.Data, piece(offset, len(e.Data))) {
						t.Errorf("wrong bytes at %d", offset)
						return
					}
					offset += int64(len(e.Data))
					start = &e.At
				}
				if len(page.Events) > 0 {
					continue
				}
				if ended { // and then looked once more
					t.Errorf("the follower ended at %d", offset)
					return
				}
				select {
				case <-done:
					ended = true
				default:
					runtime.Gosched()
				}
			}
		})
	}

	rnd := rand.New(rand.NewPCG(1, 2))
	var size int64
	for i := 0; size < total; i++ {
		back := rnd.Int64N(min(size, 100_000) + 1)
		n := min(rnd.Int64N(400_000)+1, total-(size-back))
		got, err := store.Append(t.Context(), key, size-back, at(i/3), piece(size-back, int(n)))
		if err != nil {
			t.Fatal(err)
		}
		if got < size || got > max(size, size-back+n) {
			t.Fatalf("size went from %d to %d", size, got)
		}
		size = got
		if i%300 == 299 {
			mu.Lock()
			must(t, store.Close())
			store = New(Options{Dir: dir})
			mu.Unlock()
		}
	}
	close(done)
	readers.Wait()
	must(t, store.Close())
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	mustAppend(t, s, 0, at(0), "one ", 4)
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	must(t, err)
	f, index := s.open[key], s.open[key].index
	f.index = full
	size, err := s.Append(t.Context(), key, 4, at(1), []byte("two"))
	if !errors.Is(err, ErrDiskFull) || size != 4 {
		t.Errorf("Append on a full disk = %d, %v", size, err)
	}
	f.index = index
	must(t, full.Close())
	mustAppend(t, s, 4, at(2), "two", 7)
	if got := text(all(t, s, PollOptions{Limit: 9})); got != "one two" {
		t.Errorf("log = %q", got)
	}
}
