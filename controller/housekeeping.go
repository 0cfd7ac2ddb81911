package controller

import (
	"context"
	"time"

	"dstack/controller/store"
)

// cleanEvery is how often old events and health checks are deleted.
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
		now := s.now()
		err := s.store.Write(ctx, func(tx *store.Tx) error {
			if _, err := tx.DeleteEvents(now.Add(-seconds(s.cfg.Settings.EventsTTL))); err != nil {
				return err //nolint:wrapcheck // logged below
			}
			return tx.DeleteHealthChecks(now.Add(-seconds(s.cfg.Settings.HealthTTL))) //nolint:wrapcheck // logged below
		})
		if err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("old events and health checks could not be deleted")
		}
		s.sweepFiles(ctx)
	}
}

func seconds(n int) time.Duration { return time.Duration(max(n, 0)) * time.Second }

// sweepFiles removes archives that nobody can use any more.
func (s *Server) sweepFiles(ctx context.Context) {
	err := s.files.Sweep(ctx, time.Now(), func(ctx context.Context, hashes []string) (used []string, err error) {
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
