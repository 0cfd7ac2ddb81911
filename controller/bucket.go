package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dstack/controller/archives"
	"dstack/controller/objects"
)

// bucketLimit is how long a start waits for the storage of archives.
const bucketLimit = 10 * time.Second

// openBucket opens the bucket of archives, if there is one, and tries whether
// it can be used. A storage that does not answer is no reason not to serve.
func (s *Server) openBucket(ctx context.Context) error {
	target := s.cfg.Settings.Archives.Bucket
	if target == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, bucketLimit)
	defer cancel()
	var err error
	if s.bucket, err = objects.Open(ctx, *target, s.cfg.Getenv); err != nil {
		return fmt.Errorf("cannot start: archives: %w", err)
	}
	err = s.bucket.Check(ctx, archives.Prefix)
	if fault, ok := errors.AsType[*objects.Fault](err); ok && fault.Kind == objects.KindUnreachable {
		s.log.Warn().Err(err).Msg("Archives can't be stored or read now; the server starts meanwhile")
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot start: archives: %w", err)
	}
	return nil
}
