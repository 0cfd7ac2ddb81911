package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"dstack/controller/logs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// storage is a Backend in memory.
type storage struct {
	name   string
	traits Traits

	mu      sync.Mutex
	logs    map[logs.Key][]string
	pieces  map[logs.Key]map[int64]string // where batches grow
	err     error
	puts    int
	at      []time.Time // of attempts
	take    int         // at most that many events; 0: all
	slow    time.Duration
	resumed []bool
}

func newStorage(traits Traits) *storage {
	return &storage{traits: traits, logs: map[logs.Key][]string{}, pieces: map[logs.Key]map[int64]string{}}
}

func (s *storage) Name() string   { return "memory" + s.name }
func (s *storage) Traits() Traits { return s.traits }

func (s *storage) Put(ctx context.Context, b Batch) (int, error) {
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(s.slow):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = append(s.at, time.Now())
	if s.err != nil {
		return 0, s.err
	}
	s.puts++
	s.resumed = append(s.resumed, b.Resumed)
	n := len(b.Events)
	if s.take > 0 {
		n = min(n, s.take)
	}
	var text strings.Builder
	for _, e := range b.Events[:n] {
		s.logs[b.Key] = append(s.logs[b.Key], string(e.Data))
		text.Write(e.Data)
	}
	if s.pieces[b.Key] == nil {
		s.pieces[b.Key] = map[int64]string{}
	}
	s.pieces[b.Key][b.First.Offset] = text.String()
	return n, nil
}

func (s *storage) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// count is how many batches were taken.
func (s *storage) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.puts
}

// attempts are the times at which batches came.
func (s *storage) attempts() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.at)
}

func (s *storage) text(k logs.Key) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.logs[k], "")
}

// rig is a shipper between a real store and a storage.
type rig struct {
	t       *testing.T
	dir     string
	storage *storage
	disk    *logs.Store
	*Shipper
	stop func()
	log  *bytes.Buffer
}

func start(t *testing.T, dir string, to *storage) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, storage: to, log: &bytes.Buffer{}}
	r.disk = logs.New(logs.Options{Dir: dir, Appended: func(k logs.Key, before, size int64) { r.Appended(k, before, size) }})
	r.Shipper = New(Options{Store: r.disk, Backend: to, Log: zerolog.New(r.log)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		<-done
		if err := r.disk.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

func keyOf(job string) logs.Key { return logs.Key{Project: "main", Run: "r", JobID: job} }

func (r *rig) append(k logs.Key, text string) {
	r.t.Helper()
	size, err := r.disk.Size(k)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.disk.Append(r.t.Context(), k, size, time.Now(), []byte(text)); err != nil {
		r.t.Fatal(err)
	}
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestShips(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, dir, newStorage(Traits{Delay: 2 * time.Second}))
		a, b := keyOf("a"), keyOf("b")
		r.append(a, "one ")
		pass(time.Second)
		r.append(a, "two ")
		r.append(b, "three")
		if st := r.Status(); st.Bytes != 13 || st.Lag != time.Second {
			t.Errorf("%+v", st)
		}
		pass(1001 * time.Millisecond)
		if got := r.storage.text(a); got != "one two " || r.storage.count() != 1 {
			t.Errorf("%q in %d", got, r.storage.count())
		}
		pass(time.Second)
		if got := r.storage.text(b); got != "three" {
			t.Errorf("%q", got)
		}
		if st := r.Status(); st != (Status{}) {
			t.Errorf("%+v", st)
		}
		// Much does not wait.
		r.append(a, strings.Repeat("x", full))
		synctest.Wait()
		if got := r.storage.text(a); len(got) != 8+full {
			t.Errorf("%d bytes", len(got))
		}
		// What is left goes at the end.
		r.append(b, " four")
		r.stop()
		if got := r.storage.text(b); got != "three four" {
			t.Errorf("%q", got)
		}
	})
}

func TestOutage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, dir, newStorage(Traits{Delay: time.Second}))
		k, other := keyOf("a"), keyOf("b")
		r.storage.set(func() { r.storage.err = errors.New("the wire is cut") })
		began := time.Now()
		r.append(other, "y")
		var want strings.Builder
		for i := range 600 {
			text := fmt.Sprintf("%d\n", i)
			want.WriteString(text)
			r.append(k, text)
			pass(time.Second)
		}
		st := r.Status()
		if !st.Failing || st.Failures < 20 || st.Lag < 599*time.Second || st.Bytes != int64(want.Len())+1 {
			t.Errorf("%+v", st)
		}
		if n := len(r.storage.attempts()); n > 2*(600/30+6) {
			t.Errorf("%d attempts in ten minutes", n)
		}
		if first := r.storage.attempts()[0].Sub(began); first != time.Second {
			t.Errorf("the first attempt was after %s", first)
		}
		r.storage.set(func() { r.storage.err = nil })
		pass(maxBackoff)
		if got := r.storage.text(k); got != want.String() || r.storage.text(other) != "y" {
			t.Errorf("%d of %d bytes arrived", len(got), want.Len())
		}
		if st := r.Status(); st.Failing || st.Bytes != 0 {
			t.Errorf("%+v", st)
		}
		text := r.log.String()
		if strings.Count(text, "Logs don't reach") != 1 || strings.Count(text, "the wire is cut") != 1 || strings.Count(text, "reach the log storage again") != 1 {
			t.Errorf("log: %s", text)
		}
	})
}

// TestRestarts: another process goes on where the first one was; what it does
// not know to be there it says to be resumed.
func TestRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		to := newStorage(Traits{Delay: time.Second})
		k := keyOf("a")
		r := start(t, dir, to)
		r.append(k, "one ")
		pass(2 * time.Second)
		r.append(k, "two ")
		to.set(func() { to.err = errors.New("away") })
		r.stop()
		to.set(func() { to.err = nil })
		r = start(t, dir, to)
		synctest.Wait()
		if got := to.text(k); got != "one two " {
			t.Errorf("%q", got)
		}
		r.append(k, "three ")
		pass(2 * time.Second)
		r.stop()
		if got := fmt.Sprint(to.resumed); got != "[true true false]" {
			t.Errorf("resumed: %s", got)
		}
		puts := to.count()
		r = start(t, dir, to)
		pass(time.Hour)
		if to.count() != puts {
			t.Error("what was sent is sent again")
		}
		// Another storage gets everything.
		r.stop()
		fresh := newStorage(Traits{})
		fresh.name = " of another kind"
		start(t, dir, fresh)
		pass(time.Second)
		if got := fresh.text(k); got != "one two three " {
			t.Errorf("%q", got)
		}
	})
}

// TestGrows: the last piece is sent again with more in it until it is full.
func TestGrows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		to := newStorage(Traits{Delay: 10 * time.Second, Grows: true})
		r := start(t, dir, to)
		k := keyOf("a")
		var want strings.Builder
		for i := range 50 {
			text := strings.Repeat(fmt.Sprint(i%10), 60<<10)
			want.WriteString(text)
			r.append(k, text)
			pass(7 * time.Second)
			if i == 20 {
				r.stop()
				r = start(t, dir, to)
			}
		}
		pass(time.Minute)
		r.stop()
		var got strings.Builder
		for got.Len() < want.Len() {
			piece, ok := to.pieces[k][int64(got.Len())]
			if !ok {
				t.Fatalf("no piece begins at %d", got.Len())
			}
			if len(piece) < full && got.Len()+len(piece) < want.Len() {
				t.Errorf("a piece of %d bytes is not the last", len(piece))
			}
			got.WriteString(piece)
		}
		if got.String() != want.String() || len(to.pieces[k]) != 3 {
			t.Errorf("%d bytes in %d pieces", got.Len(), len(to.pieces[k]))
		}
	})
}

// TestPart: a storage may take less than it is offered.
func TestPart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		to := newStorage(Traits{Delay: time.Second})
		to.take = 3
		r := start(t, dir, to)
		for i := range 10 {
			r.append(keyOf("a"), fmt.Sprint(i))
		}
		pass(2 * time.Second)
		if got := to.text(keyOf("a")); got != "0123456789" || to.count() != 4 {
			t.Errorf("%q in %d", got, to.count())
		}
	})
}

// TestSlow: a storage that hangs holds nobody up who appends, and what it does
// not take in time counts as a failure.
func TestSlow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		to := newStorage(Traits{Delay: time.Second})
		to.slow = time.Hour
		r := start(t, dir, to)
		began := time.Now()
		for i := range 100 {
			r.append(keyOf(fmt.Sprint(i)), "x")
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("appending took %s", took)
		}
		pass(time.Minute)
		if st := r.Status(); !st.Failing {
			t.Errorf("%+v", st)
		}
		r.stop() // does not wait for it
		if took := time.Since(began); took > time.Minute+2*flushLimit {
			t.Errorf("stopped after %s", took)
		}
	})
}

// TestRemoved: a log that is removed meanwhile is forgotten.
func TestRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, dir, newStorage(Traits{Delay: time.Second}))
		r.Appended(keyOf("a"), 0, 10)
		pass(2 * time.Second)
		if st := r.Status(); st != (Status{}) {
			t.Errorf("%+v", st)
		}
	})
}

// TestIncompleteCharacter: bytes that wait for the rest of a character are
// sent after a moment.
func TestIncompleteCharacter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, dir, newStorage(Traits{}))
		r.append(keyOf("a"), "x\xc3")
		synctest.Wait()
		if got := r.storage.text(keyOf("a")); got != "x" {
			t.Errorf("%q", got)
		}
		pass(3 * time.Second)
		if got := r.storage.text(keyOf("a")); got != "x\xc3" {
			t.Errorf("%q", got)
		}
	})
}
