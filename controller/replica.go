package controller

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"dstack/controller/api"
	"dstack/controller/objects"
	"dstack/controller/replication"
	"dstack/controller/store"
	"dstack/protocol/config"
)

// joinReplica takes the lease of the replica, if there is one: from then on no
// other server writes there.
func (s *Server) joinReplica(ctx context.Context) error {
	set := s.cfg.Settings.Replica
	if set.URL == "" {
		return nil
	}
	target, err := objects.Parse(set.URL)
	if err != nil {
		return fmt.Errorf("%s: %w", replication.Variable, err)
	}
	s.replica, err = replication.Open(ctx, replication.Options{
		Target: target, Getenv: s.cfg.Getenv, Database: s.cfg.Settings.databasePath(),
		Monitor: set.Monitor, Sync: set.Sync, Now: s.cfg.Now, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	if err := s.replica.Acquire(ctx, set.Wait); err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	return nil
}

// prepareReplica restores the database where it is missing, or makes sure that
// it is the one that the replica has.
func (s *Server) prepareReplica(ctx context.Context, keys []config.EncryptionKey) error {
	if s.replica == nil {
		return nil
	}
	_, err := s.replica.Prepare(ctx, func(ctx context.Context, path string) error {
		return s.checkFetched(ctx, path, s.cfg.Settings.Replica.URL, keys)
	})
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	return nil
}

// checkFetched refuses what a replica holds if this server cannot go on with it.
func (s *Server) checkFetched(ctx context.Context, path, from string, keys []config.EncryptionKey) error {
	python, err := store.IsPython(ctx, path, from)
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the user
	}
	if python {
		if err := s.checkLegacy(ctx, path, from, keys); err != nil {
			return err
		}
		return s.checkKeyKept(from, keys)
	}
	sealer, err := s.sealer(keys, false)
	if err != nil {
		return err
	}
	return checkRestored(ctx, path, from, sealer)
}

// checkRestored refuses a database that no server of ours can use.
func checkRestored(ctx context.Context, path, from string, sealer *store.Sealer) error {
	err := store.Check(ctx, path, from, sealer)
	if errors.Is(err, store.ErrForeign) {
		return fmt.Errorf("%s: the replica holds a database of another program: choose another path for the replica; nothing was changed", from)
	}
	return err //nolint:wrapcheck // a sentence for the user
}

// sealer loads the encryption keys; create allows making one.
func (s *Server) sealer(keys []config.EncryptionKey, create bool) (*store.Sealer, error) {
	//nolint:wrapcheck // a sentence for the user
	return store.LoadSealer(store.KeySource{
		Config: keys, Env: s.cfg.Settings.EncryptionKey, Dir: s.cfg.Settings.Dir, Create: create,
	})
}

// warnOfKey says that the key must be kept elsewhere: a replica is worth
// nothing without it, and it is never written there.
func (s *Server) warnOfKey(keys []config.EncryptionKey) {
	if s.replica == nil || len(keys) > 0 || s.cfg.Settings.EncryptionKey != "" {
		return
	}
	s.log.Warn().Msgf("The replica does not hold the encryption key: keep a copy of %s, or set DSTACK_SERVER_ENCRYPTION_KEY to its content",
		shorten(filepath.Join(s.cfg.Settings.Dir, store.KeyFile), s.cfg.Home))
}

// beforeCommit stops writes once another server has the replica.
func (s *Server) beforeCommit() error {
	if s.replica == nil {
		return nil
	}
	return s.replica.Allow() //nolint:wrapcheck // a sentence for the user
}

// committed tells those who wait for changes.
func (s *Server) committed(changes *api.Changes) error {
	changes.Notify()
	if s.replica != nil {
		s.replica.Committed()
	}
	return nil
}

// settleLimit is how long a start waits for the first upload to the replica.
const settleLimit = 10 * time.Second

// settleReplica holds requests back until the replica has what is here now.
func (s *Server) settleReplica(ctx context.Context) {
	if s.replica != nil && !s.replica.Settle(ctx, settleLimit) && ctx.Err() == nil {
		s.log.Warn().Msg("The first upload to the replica takes long; the server starts meanwhile")
	}
}

// replicate runs until ctx ends or the lease is lost.
func (s *Server) replicate(ctx context.Context) error {
	if s.replica == nil {
		return nil
	}
	return s.replica.Run(ctx) //nolint:wrapcheck // a sentence for the user
}

// closeReplica uploads the rest. The store must be closed.
func (s *Server) closeReplica(ctx context.Context) error {
	if s.replica == nil {
		return nil
	}
	return s.replica.Close(ctx) //nolint:wrapcheck // a sentence for the user
}

// replication tells the health check how the replication stands; nil if there
// is none.
func (s *Server) replication() func() *api.Replication {
	if s.replica == nil {
		return nil
	}
	return func() *api.Replication {
		st := s.replica.Status()
		return &api.Replication{LagSeconds: st.Lag.Seconds(), Failing: st.Failing}
	}
}
