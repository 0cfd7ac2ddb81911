// Package archives keeps what users upload, code and files of runs, by its
// SHA-256: in an object storage if the server has one, else on its own disk.
package archives

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"dstack/controller/objects"
	"dstack/durable/blobs"
)

// requestLimit is how long a request without content may take.
const requestLimit = 10 * time.Second

// Store keeps archives. It is safe for concurrent use.
//
// What lies on the disk is read from there, whether there is a bucket or not:
// a server that gets a bucket, or loses it, goes on with what it finds.
type Store struct {
	local  *blobs.Store
	bucket *objects.Bucket // nil: none
	prefix string

	failures atomic.Int64

	mu sync.Mutex
	// put is when this process put which object: it is not swept for a while.
	put map[string]time.Time
	// damaged are the objects that are not what their names promise.
	damaged map[string]bool
	swept   time.Time
}

// New makes a store below dir. With a bucket, which may be nil, new archives
// go there; server is the server's own name there.
func New(dir string, bucket *objects.Bucket, server string) *Store {
	return &Store{
		local: blobs.New(dir), bucket: bucket, prefix: Prefix + server + "/files/",
		put: map[string]time.Time{}, damaged: map[string]bool{},
	}
}

// Prefix is what the keys of all objects begin with.
const Prefix = "data/"

// Failures are how often a bucket could not be used so far.
func (s *Store) Failures() int64 { return s.failures.Load() }

// failed counts what is a fault of the bucket, and says what was being done.
func (s *Store) failed(doing string, err error) error {
	if _, ok := errors.AsType[*objects.Fault](err); ok {
		s.failures.Add(1)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// Put reads an archive to its end and keeps it. It fails with
// [*blobs.MismatchError] if hash is not its SHA-256, with the error of r, or
// with an [*objects.Fault]. Only what came whole and right is put into a
// bucket: until then it is on the disk.
func (s *Store) Put(ctx context.Context, hash string, r io.Reader) (size int64, err error) {
	if s.bucket == nil {
		return s.local.Put(hash, r) //nolint:wrapcheck // the caller looks into it
	}
	in, err := s.local.Receive(hash, r)
	if err != nil {
		return 0, err //nolint:wrapcheck // the caller looks into it
	}
	defer func() { err = errors.Join(err, in.Discard()) }()
	f, err := in.Open()
	if err != nil {
		return 0, err //nolint:wrapcheck // says it all
	}
	defer f.Close() //nolint:errcheck // only read
	s.note(hash)
	if err := s.bucket.Put(ctx, s.prefix+hash, f); err != nil {
		return 0, s.failed("put archive into the object storage", err)
	}
	s.note(hash) // its row is about to come
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.damaged, hash)
	return in.Size, nil
}

func (s *Store) note(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put[hash] = time.Now()
}

// Has says whether an archive is there.
func (s *Store) Has(ctx context.Context, hash string) (bool, error) {
	if s.local.Has(hash) {
		return true, nil
	}
	if s.bucket == nil || !blobs.Valid(hash) || s.isDamaged(hash) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	_, err := s.bucket.Stat(ctx, s.prefix+hash)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, s.failed("look for archive in the object storage", err)
	}
	return true, nil
}

func (s *Store) isDamaged(hash string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damaged[hash]
}

// Open opens an archive for reading and gives its size. If it is not there,
// the error is [fs.ErrNotExist]. What comes from a bucket is checked while it
// is read: the last bytes of a damaged one are a [*blobs.MismatchError].
func (s *Store) Open(ctx context.Context, hash string) (io.ReadCloser, int64, error) {
	content, size, err := s.local.Open(hash)
	if s.bucket == nil || !blobs.Valid(hash) || !errors.Is(err, fs.ErrNotExist) {
		return content, size, err //nolint:wrapcheck // says it all
	}
	content, o, err := s.bucket.Get(ctx, s.prefix+hash)
	if err != nil {
		return nil, 0, s.failed("get archive from the object storage", err)
	}
	return newChecked(content, hash, o.Size, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.damaged[hash] = true
	}), o.Size, nil
}
