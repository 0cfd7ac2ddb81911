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
	}
}
