package controller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dstack/controller/legacy"
	"dstack/controller/store"
	"dstack/protocol/config"
)

// takeOver turns a database of 0.22.5 into one of ours, if there is one.
func (s *Server) takeOver(ctx context.Context, keys []config.EncryptionKey) error {
	path := s.cfg.Settings.databasePath()
	python, err := isPython(ctx, path)
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	if !python {
		return nil
	}
	if err := s.checkLegacy(ctx, path, path, keys); err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	sealer, err := s.sealer(keys, true)
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	if s.replica != nil {
		if err := s.replica.Anew(ctx); err != nil {
			return fmt.Errorf("cannot start: %w", err)
		}
	}
	s.log.Info().Msg("Taking over the database of dstack 0.22.5...")
	report, err := legacy.Import(ctx, legacy.Options{Path: path, Dir: s.cfg.Settings.Dir, Sealer: sealer, Now: s.cfg.Now(), NoEvents: s.cfg.Settings.EventsTTL <= 0})
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	for _, text := range report.LeftOut {
		s.log.Warn().Msg(text)
	}
	s.log.Info().Any("rows", report.Rows).Msgf("Took over the database of dstack 0.22.5, which is kept as %s", shorten(report.Kept, s.cfg.Home))
	return nil
}

// takeOverLogs makes ours of the logs that were there with a database of 0.22.5,
// or goes on with it.
func (s *Server) takeOverLogs(ctx context.Context) error {
	report, err := legacy.ConvertLogs(ctx, s.cfg.Settings.Dir)
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	if report != (legacy.LogsReport{}) {
		s.log.Info().Any("logs", report).Msgf("Took over the logs of dstack 0.22.5, which are kept in the folders %s", legacy.KeptLogs)
	}
	return nil
}

// checkLegacy refuses a database of 0.22.5 that cannot be taken over. No key is
// made for it yet: without keys, 0.22.5 encrypted nothing.
func (s *Server) checkLegacy(ctx context.Context, path, name string, keys []config.EncryptionKey) error {
	sealer, err := s.sealer(keys, false)
	if errors.Is(err, fs.ErrNotExist) {
		sealer, err = store.PlainSealer(), nil
	}
	if err != nil {
		return err
	}
	return legacy.Check(ctx, path, name, sealer) //nolint:wrapcheck // a sentence for the user
}

// checkKeyKept refuses to take over a replica of 0.22.5 that is not encrypted in
// a new folder without keys: all would be encrypted with a key that is made there
// and nowhere else, and that a container without a volume takes with it.
func (s *Server) checkKeyKept(from string, keys []config.EncryptionKey) error {
	_, err := s.sealer(keys, false)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%s: what dstack 0.22.5 kept there would be encrypted with a key that only this new folder has: "+
		"set DSTACK_SERVER_ENCRYPTION_KEY (to `openssl rand -base64 32`, and keep it) or, if the folder is kept, write that to %s; nothing was changed",
		from, shorten(filepath.Join(s.cfg.Settings.Dir, store.KeyFile), s.cfg.Home))
}

// isPython says whether there is a database of 0.22.5 or older. An empty file
// is none: a start that was cut off made it.
func isPython(ctx context.Context, path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false, nil //nolint:nilerr // who opens it says more
	}
	is, err := store.IsPython(ctx, path, path)
	if errors.Is(err, store.ErrCorrupt) {
		return false, nil // who opens it says more
	}
	return is, err //nolint:wrapcheck // a sentence for the user
}
