// Package logs keeps what jobs print, in files: for each job submission one
// file with the bytes and one index that says when which of them came. Every
// line is there first; what else keeps logs gets them from there (package
// ship), and what is too old or too much is removed (Retain).
//
// Bytes that Append accepted survive a kill of the process at once, and a
// loss of power after at most a second or after [Store.Sync]. What a loss of
// power takes is asked for again from the host, for Size then says less.
package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrBadKey means that a name in a Key is no name of a project, run or job.
	ErrBadKey = errors.New("not a valid name")
	// ErrBadToken means that a page token is not one that Poll gave.
	ErrBadToken = errors.New("invalid token")
	// ErrDiskFull means that nothing was stored, for lack of space: try again.
	ErrDiskFull = errors.New("the disk is full")
	// ErrRemoved means that a part of a log is not on the disk any more.
	ErrRemoved = errors.New("removed from the disk")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("the log store is closed")
)

// maxOpen is how many logs keep their two files open while nobody uses them.
const maxOpen = 128

// validName is what a part of a key may be: no path, no dot, nothing hidden.
var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Key names the log of one job submission.
type Key struct {
	Project string // the project's name as stored, not as a user typed it
	Run     string
	JobID   string
}

func (k Key) valid() error {
	for _, part := range []string{k.Project, k.Run, k.JobID} {
		if !validName.MatchString(part) {
			return fmt.Errorf("log key: %q: %w", part, ErrBadKey)
		}
	}
	return nil
}

// agentSuffix is at the end of the job's id where the agent's log is meant.
const agentSuffix = "-agent"

// Diagnostics is where the log of the job's agent lies.
func (k Key) Diagnostics() Key {
	k.JobID += agentSuffix
	return k
}

// Producer says who wrote a log, in the words of 0.22.5 (spec:
// server-operations.md 6), and the id of the job.
func (k Key) Producer() (producer, jobID string) {
	if id, agent := strings.CutSuffix(k.JobID, agentSuffix); agent {
		return "runner", id
	}
	return "job", k.JobID
}

// Options says where logs lie.
type Options struct {
	// Dir is the server's folder; logs lie below projects/ in it.
	Dir string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Remote has what is not on the disk any more; nil: nobody has.
	Remote Remote
	// Ended says whether a job is over, and its log complete; nil: none is. Only
	// logs of such jobs are removed as a whole, and looked for at Remote.
	Ended func(ctx context.Context, jobID string) (bool, error)
	// Appended hears of each log that has grown, and how many bytes it had and
	// has. It must not block; nil: nobody wants to know.
	Appended func(k Key, before, size int64)
}

// Store is a folder of logs. Its methods are safe for concurrent use.
type Store struct {
	dir  string
	now  func() time.Time
	opts Options

	mu       sync.Mutex
	open     map[Key]*file
	watchers map[Key]map[chan struct{}]struct{}
	closed   bool
}

// New returns the log store of a server's folder. It touches no file.
func New(opts Options) *Store {
	s := &Store{dir: opts.Dir, now: opts.Now, opts: opts, open: map[Key]*file{}, watchers: map[Key]map[chan struct{}]struct{}{}}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Close makes everything durable and closes the files. Nobody may be inside
// another method.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for k, f := range s.open {
		delete(s.open, k)
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

func (s *Store) folder(k Key) string {
	return filepath.Join(s.dir, "projects", k.Project, "logs", k.Run, k.JobID)
}

// acquire returns the open log of k; the caller releases it. Without create
// a log that does not exist is fs.ErrNotExist.
func (s *Store) acquire(k Key, create bool) (*file, error) {
	if err := k.valid(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	f, ok := s.open[k]
	if !ok {
		var err error
		// Opening under the lock keeps a log from being opened twice.
		if f, err = openFile(s.folder(k), s.now(), create); err != nil {
			return nil, err
		}
		s.open[k] = f
	}
	f.users++
	return f, nil
}

// release gives a log back and closes idle ones when there are too many.
func (s *Store) release(f *file) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.users--
	f.used = s.now()
	if len(s.open) <= maxOpen {
		return nil
	}
	var oldest Key
	var victim *file
	for k, f := range s.open {
		if f.users == 0 && (victim == nil || f.used.Before(victim.used)) {
			oldest, victim = k, f
		}
	}
	if victim == nil {
		return nil
	}
	delete(s.open, oldest)
	return victim.close()
}

// use runs fn on the log of k.
func (s *Store) use(k Key, create bool, fn func(*file) error) error {
	f, err := s.acquire(k, create)
	if err != nil {
		return err
	}
	return errors.Join(fn(f), s.release(f))
}

// Size is how many bytes of the log are stored; 0 if there is no log yet.
func (s *Store) Size(k Key) (int64, error) {
	var size int64
	err := s.use(k, false, func(f *file) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		size = f.size
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return size, err
}

// Sync makes everything appended so far durable, also against a loss of
// power. It is called before the job's end is recorded.
func (s *Store) Sync(k Key) error {
	err := s.use(k, false, func(f *file) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.sync(s.now())
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Watch returns a channel that gets a value when bytes were appended to the
// log since the last value was taken. The caller calls stop at the end.
func (s *Store) Watch(k Key) (woken <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers[k] == nil {
		s.watchers[k] = map[chan struct{}]struct{}{}
	}
	s.watchers[k][ch] = struct{}{}
	return ch, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers[k], ch)
		if len(s.watchers[k]) == 0 {
			delete(s.watchers, k)
		}
	}
}

func (s *Store) wake(k Key, before, size int64) {
	if s.opts.Appended != nil {
		s.opts.Appended(k, before, size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for ch := range s.watchers[k] {
		select {
		case ch <- struct{}{}:
		default: // a value is waiting already
		}
	}
}

// mkdir makes the folder of a log, readable by this user alone.
func mkdir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return diskError("make folder of log", err)
	}
	return nil
}
