// Package blobs keeps files by content: a blob is named by its SHA-256 in
// lower-case hex, is there whole or not at all, and is never held in memory.
// The controller keeps what users upload, and a shim what its tasks wait for.
package blobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"dstack/durable"
)

// MismatchError says that a blob is not what its name promises.
type MismatchError struct {
	// Want was announced, Got is the SHA-256 of what came.
	Want, Got string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("content with SHA-256 %s was sent as %.80q", e.Got, e.Want)
}

// Store keeps blobs below a folder. It is safe for concurrent use.
type Store struct {
	dir string
	// mu is held while a blob gets its name or a date, and while one is
	// removed, so that none is removed that was just sent again.
	mu sync.Mutex
}

// New makes a store below dir, which is made with the first blob.
func New(dir string) *Store { return &Store{dir: dir} }

// Valid says whether hash may name a blob.
func Valid(hash string) bool { return digest.MatchString(hash) }

var digest = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *Store) path(hash string) string { return filepath.Join(s.dir, hash[:2], hash) }

// incoming is where blobs lie until they are whole.
func (s *Store) incoming() string { return filepath.Join(s.dir, "incoming") }

// Put reads a blob to its end and keeps it as hash. It returns when the blob
// is durable. If the content has another hash, it fails with [*MismatchError].
// An error of r is returned as it is.
func (s *Store) Put(hash string, r io.Reader) (size int64, err error) {
	in, err := s.Receive(hash, r)
	if err != nil {
		return 0, err
	}
	if err := s.adopt(in.path, hash); err != nil {
		return 0, errors.Join(err, in.Discard())
	}
	return in.Size, nil
}

// Incoming is a blob that came whole and is not kept yet.
type Incoming struct {
	// Size is its bytes.
	Size int64
	path string
}

// Receive does what Put does, but for keeping the blob under its name. The
// caller discards it.
func (s *Store) Receive(hash string, r io.Reader) (in *Incoming, err error) {
	if err := os.MkdirAll(s.incoming(), 0o700); err != nil {
		return nil, fmt.Errorf("make folder of uploads: %w", err)
	}
	tmp, err := os.CreateTemp(s.incoming(), "")
	if err != nil {
		return nil, fmt.Errorf("keep upload: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(tmp, sum), r)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return nil, fmt.Errorf("keep upload: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != hash {
		return nil, &MismatchError{Want: hash, Got: got}
	}
	return &Incoming{Size: size, path: tmp.Name()}, nil
}

// Open opens what came.
func (in *Incoming) Open() (*os.File, error) {
	f, err := os.Open(in.path)
	if err != nil {
		return nil, fmt.Errorf("read upload: %w", err)
	}
	return f, nil
}

// Discard removes what came.
func (in *Incoming) Discard() error {
	if err := os.Remove(in.path); err != nil {
		return fmt.Errorf("remove upload: %w", err)
	}
	return nil
}

func (s *Store) adopt(tmp, hash string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.path(hash)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = errors.Join(durable.SyncDir(filepath.Dir(path)), durable.SyncDir(s.dir))
	}
	if err != nil {
		return fmt.Errorf("keep upload: %w", err)
	}
	return nil
}

// Open opens a blob for reading and gives its size. If it is not there, the
// error is [fs.ErrNotExist].
func (s *Store) Open(hash string) (io.ReadCloser, int64, error) {
	if !Valid(hash) {
		return nil, 0, fmt.Errorf("open blob %.80q: %w", hash, fs.ErrNotExist)
	}
	f, err := os.Open(s.path(hash))
	if err != nil {
		return nil, 0, fmt.Errorf("open blob: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open blob: %w", err), f.Close())
	}
	return f, info.Size(), nil
}

// Has says whether a blob is there. Its date becomes now: [Store.Trim] and
// [Store.Sweep] leave it alone for a while.
func (s *Store) Has(hash string) bool {
	if !Valid(hash) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	return os.Chtimes(s.path(hash), now, now) == nil
}

// file is a blob as Trim sees it.
type file struct {
	hash string
	size int64
	used time.Time
}

// Trim removes the blobs that were not used for longest, until the rest have
// no more than limit bytes. Those that are newer than before, and those that
// keep wants, stay in any case.
func (s *Store) Trim(limit int64, before time.Time, keep func(hash string) bool) error {
	var total int64
	var old []file
	err := s.walk(before, func(f file) {
		total += f.size
		if f.used.Before(before) {
			old = append(old, f)
		}
	})
	if err != nil {
		return err
	}
	slices.SortFunc(old, func(a, b file) int { return a.used.Compare(b.used) })
	for _, f := range old {
		if total <= limit {
			break
		}
		if keep(f.hash) {
			continue
		}
		if err := s.remove(s.path(f.hash), before); err != nil {
			return err
		}
		total -= f.size
	}
	return nil
}

// walk calls fn with each blob, and removes rests of uploads older than before.
func (s *Store) walk(before time.Time, fn func(file)) error {
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // nothing was uploaded yet, or it went meanwhile
		}
		if err != nil || d.IsDir() {
			return err
		}
		if filepath.Dir(path) == s.incoming() {
			return s.remove(path, before)
		}
		if info, err := d.Info(); err == nil && Valid(d.Name()) {
			fn(file{d.Name(), info.Size(), info.ModTime()})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	return nil
}

// batch is how many blobs are asked for at once.
const batch = 200

// Sweep removes the blobs, and the rests of broken uploads, that are older
// than before and that used does not name among those it is asked for. before
// must leave an upload the time to be written into the database.
func (s *Store) Sweep(ctx context.Context, before time.Time, used func(ctx context.Context, hashes []string) ([]string, error)) error {
	var old []string
	err := s.walk(before, func(f file) {
		if f.used.Before(before) {
			old = append(old, f.hash)
		}
	})
	if err != nil {
		return err
	}
	for len(old) > 0 {
		n := min(batch, len(old))
		if err := s.sweep(ctx, before, old[:n], used); err != nil {
			return err
		}
		old = old[n:]
	}
	return nil
}

func (s *Store) sweep(
	ctx context.Context, before time.Time, hashes []string, used func(context.Context, []string) ([]string, error),
) error {
	named, err := used(ctx, hashes)
	if err != nil {
		return fmt.Errorf("ask which blobs are used: %w", err)
	}
	keep := make(map[string]bool, len(named))
	for _, hash := range named {
		keep[hash] = true
	}
	for _, hash := range hashes {
		if keep[hash] {
			continue
		}
		if err := s.remove(s.path(hash), before); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a file that is still old.
func (s *Store) remove(path string, before time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(path)
	if err == nil && info.ModTime().Before(before) {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}
