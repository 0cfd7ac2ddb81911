package controller

import (
	"context"
	"time"

	"dstack/controller/store"
)

// cleanEvery is how often old events are deleted.
const cleanEvery = 7 * time.Minute

// housekeeping deletes what is too old until ctx ends.
func (s *Server) housekeeping(ctx context.Context) error {
	ticker := time.NewTicker(cleanEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		before := s.now().Add(-time.Duration(max(s.cfg.Settings.EventsTTL, 0)) * time.Second)
		err := s.store.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.DeleteEvents(before)
			return err //nolint:wrapcheck // logged below
		})
		if err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("old events could not be deleted")
		}
		s.sweepFiles(ctx)
	}
}

// uploadGrace is how long a blob may wait for the row that names it.
const uploadGrace = time.Hour

// sweepFiles removes blobs that nobody can use any more.
func (s *Server) sweepFiles(ctx context.Context) {
	err := s.files.Sweep(ctx, time.Now().Add(-uploadGrace), func(ctx context.Context, hashes []string) (used []string, err error) {
		err = s.store.Read(ctx, func(tx *store.Tx) error {
			used, err = tx.UsedBlobs(hashes)
			return err //nolint:wrapcheck // logged below
		})
		return used, err
	})
	if err != nil && ctx.Err() == nil {
		s.log.Warn().Err(err).Msg("unused uploads could not be removed")
	}
}
