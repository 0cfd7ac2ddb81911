package controller

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/google/uuid"

	"dstack/controller/sweep"
	"dstack/protocol/hostapi"
)

// tagMachines finds out which tag machines of clouds get from now on: another
// one when the database was restored or copied.
func (s *Server) tagMachines(ctx context.Context) error {
	ground, err := sweep.Ground(filepath.Dir(s.cfg.Settings.databasePath()), uuid.NewString)
	if err != nil {
		return fmt.Errorf("prepare the database: %w", err)
	}
	memory, moved, err := sweep.Begin(ctx, s.store, s.id, ground, s.now(), uuid.NewString)
	if err != nil {
		return fmt.Errorf("prepare the database: %w", err)
	}
	if moved {
		s.log.Warn().Msg("The database was restored or copied from another place. " +
			"Stop the server that it comes from: it keeps the hosts and machines that both know for as long as it is connected to them. " +
			"Machines of clouds that it does not know are left alone: see them with `dstack server sweep`")
	}
	s.tag, s.copied = memory.Tag, memory.Moved
	return nil
}

// hostsName is what hosts know this server by. A copy of a database has the
// name of the original, and its own place.
func (s *Server) hostsName() string {
	if s.tag == s.id {
		return s.id
	}
	return s.id + hostapi.PlaceMark + s.tag
}

// newSweeper finds machines that nobody knows.
func (s *Server) newSweeper() *sweep.Sweeper {
	return sweep.New(sweep.Options{
		Store: s.store, Clouds: s.clouds, Has: s.clouds.Has, Now: s.cfg.Now, NewID: uuid.NewString, Log: s.log,
	})
}
