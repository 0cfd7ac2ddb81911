package archives

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"dstack/controller/objects"
	"dstack/durable/blobs"
)

const (
	// grace is how long an archive may wait for the row that names it.
	grace = time.Hour
	// bucketEvery is how often a bucket is listed at most.
	bucketEvery = time.Hour
	// sweepLimit is how long a bucket is swept at most; the rest is for later.
	sweepLimit = 5 * time.Minute
	// batch is how many archives are asked for at once.
	batch = 200
)

// Sweep removes the archives that are older than an hour and that used does
// not name among those it is asked for; those in a bucket at most once an hour.
func (s *Store) Sweep(ctx context.Context, now time.Time, used func(ctx context.Context, hashes []string) ([]string, error)) error {
	if err := s.local.Sweep(ctx, now.Add(-grace), used); err != nil {
		return fmt.Errorf("sweep the disk: %w", err)
	}
	if s.bucket == nil || !s.begin(now) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	return s.sweepBucket(ctx, now, used)
}

// begin says whether it is time to list the bucket, and drops what is known of
// objects that are old enough to be removed.
func (s *Store) begin(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) < bucketEvery {
		return false
	}
	s.swept = now
	for hash, at := range s.put {
		if at.Before(now.Add(-grace)) {
			delete(s.put, hash)
		}
	}
	return true
}

func (s *Store) sweepBucket(ctx context.Context, now time.Time, used func(context.Context, []string) ([]string, error)) error {
	var old []string
	err := s.bucket.List(ctx, s.prefix, func(o objects.Object) {
		if hash := path.Base(o.Key); s.prefix+hash == o.Key && blobs.Valid(hash) && o.Changed.Before(now.Add(-grace)) {
			old = append(old, hash)
		}
	})
	if err != nil {
		return s.failed("list archives in the object storage", err)
	}
	for len(old) > 0 {
		n := min(batch, len(old))
		if err := s.sweep(ctx, old[:n], used); err != nil {
			return err
		}
		old = old[n:]
	}
	return nil
}

func (s *Store) sweep(ctx context.Context, hashes []string, used func(context.Context, []string) ([]string, error)) error {
	named, err := used(ctx, hashes)
	if err != nil {
		return fmt.Errorf("ask which archives are used: %w", err)
	}
	keep := make(map[string]bool, len(named))
	for _, hash := range named {
		keep[hash] = true
	}
	var errs []error
	for _, hash := range hashes {
		if !keep[hash] {
			errs = append(errs, s.remove(ctx, hash))
		}
	}
	return errors.Join(errs...)
}

// remove deletes an object unless it was put again meanwhile; who wants to put
// it waits until it is gone.
func (s *Store) remove(ctx context.Context, hash string) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, fresh := s.put[hash]; fresh {
		return nil
	}
	if err := s.bucket.Delete(ctx, s.prefix+hash); err != nil {
		return s.failed("delete archive from the object storage", err)
	}
	return nil
}
