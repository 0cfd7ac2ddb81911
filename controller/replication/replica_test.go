package replication

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/benbjohnson/litestream/file"
	"github.com/rs/zerolog"
	"github.com/superfly/ltx"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is a log that is written and read at the same time.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// bucket is a replica in a folder; away makes it unreachable.
type bucket struct {
	litestream.ReplicaClient

	dir    string
	leases *memory

	mu   sync.Mutex
	away bool
}

func newBucket(t *testing.T) *bucket {
	t.Helper()
	dir := t.TempDir()
	return &bucket{dir: dir, leases: newMemory(), ReplicaClient: file.NewReplicaClient(dir)}
}

func (b *bucket) setAway(away bool) {
	b.mu.Lock()
	b.away = away
	b.mu.Unlock()
	answer := func(string, string) error { return nil }
	if away {
		answer = func(string, string) error { return errNetwork }
	}
	b.leases.set(answer, nil)
}

func (b *bucket) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	b.mu.Lock()
	away := b.away
	b.mu.Unlock()
	if away {
		return nil, errNetwork
	}
	return b.ReplicaClient.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
}

// server is a database with its replica, as the real server uses them.
type server struct {
	t    *testing.T
	r    *Replica
	db   *sql.DB
	log  *output
	stop context.CancelFunc
	ran  chan error
}

func accept(context.Context, string) error { return nil }

func open1(t *testing.T, b *bucket, path string) (*Replica, *output) {
	t.Helper()
	log := &output{}
	r := open(Options{
		Target: testTarget(t), Database: path, Monitor: 10 * time.Millisecond, Sync: 10 * time.Millisecond,
		Now: time.Now, Log: zerolog.New(log),
	}, &remote{bucket: b.leases, client: b})
	return r, log
}

func serve(t *testing.T, b *bucket, path string) *server {
	t.Helper()
	s := &server{t: t, ran: make(chan error, 1)}
	s.r, s.log = open1(t, b, path)
	ctx, stop := context.WithCancel(t.Context())
	s.stop = stop
	if err := s.r.Acquire(ctx, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.r.Prepare(ctx, accept); err != nil {
		t.Fatal(err)
	}
	s.db = openDB(t, path)
	s.exec("CREATE TABLE IF NOT EXISTS notes (n INTEGER PRIMARY KEY)")
	go func() { s.ran <- s.r.Run(ctx) }()
	return s
}

// openDB opens a database as the store does.
func openDB(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=wal_autocheckpoint(0)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func (s *server) exec(text string, args ...any) {
	s.t.Helper()
	if err := s.r.Allow(); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.db.Exec(text, args...); err != nil {
		s.t.Fatal(err)
	}
	s.r.Committed()
}

func (s *server) note(n int) { s.exec("INSERT INTO notes VALUES (?)", n) }

func (s *server) notes() int {
	s.t.Helper()
	var n int
	if err := s.db.QueryRow("SELECT count(*) FROM notes").Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// waitFor waits for a condition.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func (s *server) synced() {
	s.t.Helper()
	waitFor(s.t, "the replica has all", func() bool {
		st := s.r.Status()
		return st.Lag == 0 && st.Uploads > 0
	})
}

// end stops the server cleanly.
func (s *server) end() {
	s.t.Helper()
	s.stop()
	if err := errors.Join(<-s.ran, s.db.Close(), s.r.Close(s.t.Context())); err != nil {
		s.t.Fatal(err)
	}
}

// kill stops it so that nothing more reaches the replica, and lets the lease go.
func (s *server) kill(b *bucket) {
	s.t.Helper()
	b.setAway(true)
	s.r.flushFor = time.Millisecond
	s.stop()
	<-s.ran
	_ = s.db.Close()
	_ = s.r.Close(s.t.Context())
	b.setAway(false)
	b.leases.mu.Lock()
	clear(b.leases.data)
	b.leases.mu.Unlock()
}

func TestRestoreAfterLoss(t *testing.T) {
	b := newBucket(t)
	path := filepath.Join(t.TempDir(), "data", "sqlite.db")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	s := serve(t, b, path)
	for round := range 4 {
		for n := range 20 {
			s.note(100*round + n)
		}
		s.synced()
		s.kill(b)
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
		s = serve(t, b, path)
		if n := s.notes(); n != 20*(round+1) {
			t.Fatalf("round %d: %d notes", round, n)
		}
		if !strings.Contains(s.log.String(), "Finished db restore") {
			t.Fatalf("log: %s", s.log)
		}
	}
	s.note(1000)
	s.end() // a clean stop uploads the rest, although nobody waited for it
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	s = serve(t, b, path)
	defer s.end()
	if n := s.notes(); n != 81 {
		t.Fatalf("after a clean stop: %d notes", n)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".restore-*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestLocalDatabase: which databases go on with which replicas.
func TestLocalDatabase(t *testing.T) {
	b := newBucket(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "sqlite.db")
	s := serve(t, b, path)
	s.note(1)
	s.synced()
	s.kill(b)
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}

	t.Run("the database is ahead", func(t *testing.T) {
		s := serve(t, b, path)
		s.note(2)
		s.synced()
		b.setAway(true)
		s.note(3)
		s.kill(b)
		s = serve(t, b, path)
		s.synced()
		s.end()
	})
	t.Run("the replica is ahead", func(t *testing.T) {
		r, _ := open1(t, b, filepath.Join(copied, "sqlite.db"))
		refused(t, r, "has changes that the database at "+filepath.Join(copied, "sqlite.db")+" does not have")
	})
	t.Run("the replica of another database", func(t *testing.T) {
		other := newBucket(t)
		s := serve(t, other, filepath.Join(t.TempDir(), "sqlite.db"))
		s.note(7)
		s.synced()
		s.end()
		r, _ := open1(t, other, path)
		refused(t, r, "the replica of another database")
	})
	t.Run("a new replica", func(t *testing.T) {
		fresh := newBucket(t)
		s := serve(t, fresh, path)
		s.synced()
		s.end()
		s = serve(t, fresh, filepath.Join(t.TempDir(), "sqlite.db"))
		defer s.end()
		if n := s.notes(); n != 3 {
			t.Errorf("%d notes", n)
		}
	})
	t.Run("the state beside the database is torn", func(t *testing.T) {
		b := newBucket(t)
		path := filepath.Join(t.TempDir(), "sqlite.db")
		s := serve(t, b, path)
		s.note(1)
		s.synced()
		b.setAway(true)
		s.note(2)
		waitFor(t, "a change beside the database", func() bool { return s.r.Status().Failing })
		waiting := newest(t, path)
		s.note(3)
		waitFor(t, "another change", func() bool { return newest(t, path) != waiting })
		s.kill(b)
		if err := os.Remove(waiting); err != nil {
			t.Fatal(err)
		}
		s = serve(t, b, path)
		s.synced()
		s.end()
		s = serve(t, b, filepath.Join(t.TempDir(), "sqlite.db"))
		defer s.end()
		if n := s.notes(); n != 3 {
			t.Errorf("%d notes", n)
		}
	})
	t.Run("an empty file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sqlite.db")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s := serve(t, b, path)
		defer s.end()
		if n := s.notes(); n != 3 {
			t.Errorf("%d notes", n)
		}
	})
}

// newest is the newest file of changes beside a database.
func newest(t *testing.T, path string) string {
	t.Helper()
	db := beside(path).db
	from, to, err := db.MaxLTX()
	if err != nil {
		t.Fatal(err)
	}
	return db.LTXPath(0, from, to)
}

// refused demands that a database may not go on, and that nothing changes.
func refused(t *testing.T, r *Replica, want string) {
	t.Helper()
	before, err := os.ReadFile(r.opts.Database)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Acquire(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	_, err = r.Prepare(t.Context(), accept)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(r.opts.Database)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the database changed: %v", err)
	}
}

// TestRestoreRefused: a database that the server can't use is not put there.
func TestRestoreRefused(t *testing.T) {
	b := newBucket(t)
	s := serve(t, b, filepath.Join(t.TempDir(), "sqlite.db"))
	s.note(1)
	s.end()
	dir := t.TempDir()
	r, _ := open1(t, b, filepath.Join(dir, "data", "sqlite.db"))
	if err := r.Acquire(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	no := errors.New("not ours")
	if _, err := r.Prepare(t.Context(), func(_ context.Context, path string) error {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
		return no
	}); !errors.Is(err, no) {
		t.Errorf("refused: %v", err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "data"))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestRestoreCutOff: a start that ends before the database is in its place does
// not keep the next one from it.
func TestRestoreCutOff(t *testing.T) {
	b := newBucket(t)
	s := serve(t, b, filepath.Join(t.TempDir(), "sqlite.db"))
	s.note(1)
	s.end()
	path := filepath.Join(t.TempDir(), "sqlite.db")
	// Nothing can take the place of a folder that is not empty.
	inTheWay := filepath.Join(path, "x")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	end, err := last(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	state := beside(path)
	if err := restore(t.Context(), testTarget(t), b, path, time.Time{}, slog.New(slog.DiscardHandler), state.succeeding(testTarget(t), b, end, accept)); err == nil {
		t.Fatal("a folder was overwritten")
	}
	if ours, whole, err := state.leads(end); err != nil || !ours || !whole {
		t.Errorf("a database that gets there now would be refused: %v, %v, %v", ours, whole, err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	s = serve(t, b, path)
	defer s.end()
	if n := s.notes(); n != 1 {
		t.Errorf("%d notes", n)
	}
}

// ending is a context that ends while it is used.
type ending struct {
	context.Context

	asked int
}

func (e *ending) Done() <-chan struct{} { return cancelled(e.Context).Done() }

func (e *ending) Err() error {
	if e.asked++; e.asked == 1 {
		return nil
	}
	return context.Canceled
}

// TestStopWhileOpening: a server that is stopped when Litestream has not quite
// opened the database uploads the rest, too; one that goes on opens it again.
func TestStopWhileOpening(t *testing.T) {
	b := newBucket(t)
	r, _ := open1(t, b, filepath.Join(t.TempDir(), "sqlite.db"))
	if err := r.Acquire(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Prepare(t.Context(), accept); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, r: r, db: openDB(t, r.opts.Database)}
	s.exec("CREATE TABLE notes (n INTEGER PRIMARY KEY)")
	db, err := r.start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Sync(&ending{Context: t.Context()}); err == nil || !halfOpen(db) {
		t.Fatalf("this test shows nothing: %v", err)
	}
	if err := r.take(t.Context(), db); err == nil {
		t.Error("the replication goes on with it")
	}
	if err := errors.Join(s.db.Close(), r.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	s = serve(t, b, filepath.Join(t.TempDir(), "sqlite.db"))
	defer s.end()
	if n := s.notes(); n != 0 {
		t.Errorf("%d notes", n)
	}
}

// TestOutage: the server goes on, says so, and catches up.
func TestOutage(t *testing.T) {
	b := newBucket(t)
	s := serve(t, b, filepath.Join(t.TempDir(), "sqlite.db"))
	s.note(1)
	s.synced()
	b.setAway(true)
	s.note(2)
	waitFor(t, "a lag", func() bool { st := s.r.Status(); return st.Failing && st.Lag > 0 && st.Failures > 1 })
	s.note(3)
	b.setAway(false)
	s.synced()
	waitFor(t, "the end of the outage", func() bool { return !s.r.Status().Failing })
	for _, want := range []string{"Changes don't reach the replica", "The replica has caught up"} {
		if n := strings.Count(s.log.String(), want); n != 1 {
			t.Errorf("%d times %q in %s", n, want, s.log)
		}
	}
	s.end()
	s = serve(t, b, filepath.Join(t.TempDir(), "sqlite.db"))
	defer s.end()
	if n := s.notes(); n != 3 {
		t.Errorf("%d notes", n)
	}
}

// TestDamagedWhileRunning: a file of changes that is gone before it was
// uploaded costs a whole copy, and nothing else.
func TestDamagedWhileRunning(t *testing.T) {
	b := newBucket(t)
	path := filepath.Join(t.TempDir(), "sqlite.db")
	s := serve(t, b, path)
	s.note(1)
	s.synced()
	b.setAway(true)
	s.note(2)
	waitFor(t, "a failure", func() bool { return s.r.Status().Failing })
	if err := os.RemoveAll(filepath.Dir(newest(t, path))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	s.note(3)
	b.setAway(false)
	s.synced()
	s.end()
	s = serve(t, b, filepath.Join(t.TempDir(), "sqlite.db"))
	defer s.end()
	if n := s.notes(); n != 3 {
		t.Errorf("%d notes", n)
	}
}

// TestLostLease: nothing is written any more, neither here nor there.
func TestLostLease(t *testing.T) {
	b := newBucket(t)
	s := serve(t, b, filepath.Join(t.TempDir(), "sqlite.db"))
	s.note(1)
	s.synced()
	other := testLeaser(t, b.leases, "other")
	lease, err := other.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.write(t.Context(), 2, lease.ETag); err != nil {
		t.Fatal(err)
	}
	// As the timer would do, which comes in five seconds.
	if err := s.r.keeper.renewOnce(t.Context()); err == nil {
		t.Fatal("the lease is still ours")
	}
	err = <-s.ran
	if lost, ok := errors.AsType[*LostError](err); !ok || lost.Owner != "other" {
		t.Errorf("run: %v", err)
	}
	if err := s.r.Allow(); err == nil {
		t.Error("commits are still allowed")
	}
	if _, err := (&fenced{ReplicaClient: b, keeper: s.r.keeper, marks: &s.r.marks}).WriteLTXFile(t.Context(), 0, 9, 9, strings.NewReader("")); err == nil {
		t.Error("uploads are still allowed")
	}
	before := listing(t, b.dir)
	if err := errors.Join(s.db.Close(), s.r.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, b.dir); after != before {
		t.Errorf("the replica changed from %s to %s", before, after)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		fmt.Fprintln(&all, path, info.Size())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
