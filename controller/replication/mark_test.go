package replication

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"dstack/controller/store"
)

// real is a server with a real store.
type real struct {
	*server

	store *store.Store
}

func serveReal(t *testing.T, b *bucket, path string) *real {
	t.Helper()
	s := &real{server: &server{t: t, ran: make(chan error, 1)}}
	s.r, s.log = open1(t, b, path)
	ctx, stop := context.WithCancel(t.Context())
	s.stop = stop
	if err := s.r.Acquire(ctx, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.r.Prepare(ctx, accept); err != nil {
		t.Fatal(err)
	}
	var err error
	s.store, err = store.Open(t.Context(), store.Options{Path: path, Replicated: true, BeforeCommit: s.r.Allow, AfterCommit: func() error {
		s.r.Committed()
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { s.ran <- s.r.Run(ctx) }()
	return s
}

// writes makes n commits, the last one of which the replica has then.
func (s *real) writes(n int) {
	s.t.Helper()
	for i := range n {
		if err := s.store.Write(s.t.Context(), func(tx *store.Tx) error { return tx.PutSetting("note", strconv.Itoa(i)) }); err != nil {
			s.t.Fatal(err)
		}
	}
	s.synced()
}

func (s *real) end() {
	s.t.Helper()
	s.stop()
	if err := errors.Join(<-s.ran, s.store.Close(), s.r.Close(s.t.Context())); err != nil {
		s.t.Fatal(err)
	}
}

// backup copies the database as a user does.
func (s *real) backup() string {
	s.t.Helper()
	to := filepath.Join(s.t.TempDir(), "backup.db")
	if err := store.Backup(s.t.Context(), s.r.opts.Database, to); err != nil {
		s.t.Fatal(err)
	}
	return to
}

// overwrite copies a file over another one, by hand.
func overwrite(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

const wordsOfOlder = "for an older one was put in the place of the one that it belongs to; move that database away and start again, or run `dstack server restore`"

// TestOlderCopy: a backup that somebody puts in the place of the database does
// not get over the newer states in the replica, whether the log of the newer
// database still lies beside it or not.
func TestOlderCopy(t *testing.T) {
	for name, restart := range map[string]bool{"of an earlier start": true, "of the last start": false} {
		for _, log := range []bool{true, false} {
			t.Run(name+", log "+strconv.FormatBool(log), func(t *testing.T) {
				b := newBucket(t)
				path := filepath.Join(t.TempDir(), "sqlite.db")
				s := serveReal(t, b, path)
				s.writes(5)
				backup := s.backup()
				if restart {
					s.end()
					s = serveReal(t, b, path)
				}
				s.writes(1)
				s.end()
				overwrite(t, backup, path)
				if !log {
					if err := errors.Join(os.Remove(path+"-wal"), os.Remove(path+"-shm")); err != nil {
						t.Fatal(err)
					}
				}
				before := listing(t, b.dir)
				r, _ := open1(t, b, path)
				refused(t, r, wordsOfOlder)
				if after := listing(t, b.dir); after != before {
					t.Errorf("the replica changed from %s to %s", before, after)
				}
			})
		}
	}
}

// TestOtherLine: after an earlier state was restored, a copy from before counts
// more commits, and is refused all the same.
func TestOtherLine(t *testing.T) {
	b := newBucket(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "sqlite.db")
	s := serveReal(t, b, path)
	s.writes(2)
	small := s.backup()
	s.writes(9)
	large := s.backup()
	s.end()
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := Place(t.Context(), small, path); err != nil {
		t.Fatal(err)
	}
	fresh := newBucket(t)
	s = serveReal(t, fresh, path)
	s.writes(1)
	s.end()
	overwrite(t, large, path)
	r, _ := open1(t, fresh, path)
	refused(t, r, wordsOfOlder)
}

// image copies what lies on the disk, as a server leaves it that is killed now.
func image(t *testing.T, path string) string {
	t.Helper()
	var dir string
	waitFor(t, "a copy while nothing is written", func() bool {
		dir = filepath.Join(t.TempDir(), "killed")
		return os.CopyFS(dir, os.DirFS(filepath.Dir(path))) == nil
	})
	return filepath.Join(dir, filepath.Base(path))
}

// again is a replica as it is now, without a lease.
func (b *bucket) again(t *testing.T) *bucket {
	t.Helper()
	next := newBucket(t)
	if err := os.CopyFS(next.dir, os.DirFS(b.dir)); err != nil {
		t.Fatal(err)
	}
	return next
}

// TestKilledGoesOn: a server that was killed goes on with its own database,
// whatever of it was marked, uploaded or folded.
func TestKilledGoesOn(t *testing.T) {
	b := newBucket(t)
	path := filepath.Join(t.TempDir(), "sqlite.db")
	s := serveReal(t, b, path)
	s.writes(3)
	first, err := os.ReadFile(beside(path).marksPath())
	if err != nil {
		t.Fatal(err)
	}
	backup := s.backup()
	s.writes(3)
	b.setAway(true)
	if err := s.store.Write(t.Context(), func(tx *store.Tx) error { return tx.PutSetting("note", "late") }); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a failure", func() bool { return s.r.Status().Failing })
	killed := image(t, path)
	for name, change := range map[string]func(marks string) error{
		"marks":                      func(string) error { return nil },
		"older marks":                func(marks string) error { return os.WriteFile(marks, first, 0o600) },
		"no marks, as of an upgrade": os.Remove,
		"changes that are lost": func(marks string) error {
			return os.Remove(newest(t, filepath.Join(filepath.Dir(marks), "..", "sqlite.db")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, b := image(t, killed), b.again(t)
			if err := change(beside(path).marksPath()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				s := serveReal(t, b, path)
				s.writes(1)
				s.end()
			}
			overwrite(t, killed, path) // the file alone is older
			r, _ := open1(t, b, path)
			refused(t, r, wordsOfOlder)
		})
	}
	t.Run("an older copy without the log", func(t *testing.T) {
		path, b := image(t, killed), b.again(t)
		overwrite(t, backup, path)
		if err := os.Remove(path + "-wal"); err != nil {
			t.Fatal(err)
		}
		r, _ := open1(t, b, path)
		refused(t, r, wordsOfOlder)
	})
	b.setAway(false)
	s.end()
}
