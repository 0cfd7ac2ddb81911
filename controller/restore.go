package controller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dstack/controller/objects"
	"dstack/controller/replication"
	"dstack/controller/store"
)

// Restore puts a database where a server will find it: from the URL of a
// replica, or from a file that Backup made; an empty one means the replica of
// the settings. at is a time whose state is wanted, for a replica; zero means
// the last one. Every error is one sentence for the user, and then nothing was
// changed.
func Restore(ctx context.Context, cfg Config, from string, at time.Time) error {
	s := &Server{cfg: cfg}
	level, err := cfg.Settings.level()
	if err != nil {
		return err
	}
	s.log = newLogger(cfg.Out, cfg.Settings.LogFormat, level, cfg.Now)
	named := "--from"
	if from == "" {
		from, named = cfg.Settings.Replica.URL, replication.Variable
	}
	if from == "" {
		return fmt.Errorf("say from where to restore with --from or %s", replication.Variable)
	}
	path := cfg.Settings.databasePath()
	if err := makeRoom(path); err != nil {
		return err
	}
	file, _, err := s.readConfig()
	if err != nil {
		return err
	}
	check := func(ctx context.Context, made string) error {
		python, err := store.IsPython(ctx, made, from)
		if err != nil || python {
			return err //nolint:wrapcheck // a sentence for the user
		}
		sealer, err := s.sealer(file.keys, false)
		if err != nil {
			return err
		}
		return checkRestored(ctx, made, from, sealer)
	}
	if strings.Contains(from, "://") {
		err = s.restoreReplica(ctx, path, from, named, at, check)
	} else {
		err = restoreFile(ctx, path, from, at, check)
	}
	if err != nil {
		return fmt.Errorf("cannot restore: %w", err)
	}
	s.log.Info().Msgf("Restored %s", shorten(path, cfg.Home))
	return nil
}

// makeRoom refuses to restore over a database. An empty file is none: a start
// that was cut off made it.
func makeRoom(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.Size() > 0 {
		return fmt.Errorf("cannot restore: there is a database at %s: move it away first; nothing was changed", path)
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot restore to %s: %w", path, cause(err))
	}
	return nil
}

// restoreReplica restores from a URL, which was given as named says.
func (s *Server) restoreReplica(ctx context.Context, path, from, named string, at time.Time, check func(context.Context, string) error) error {
	target, err := objects.Parse(from)
	if err != nil {
		return fmt.Errorf("%s: %w", named, err) // the URL may hold a secret
	}
	//nolint:wrapcheck // a sentence for the user
	return replication.Restore(ctx, replication.Options{
		Target: target, Getenv: s.cfg.Getenv, Database: path, Now: s.cfg.Now, Log: s.log,
	}, at, check)
}

// restoreFile copies a backup, or a database that no server uses.
func restoreFile(ctx context.Context, path, from string, at time.Time, check func(context.Context, string) error) (err error) {
	if !at.IsZero() {
		return errors.New("--at needs a replica: a backup has one state only")
	}
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("read %s: %w", from, cause(err))
	}
	if info.Size() == 0 {
		return fmt.Errorf("%s is empty", from)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make folder %s: %w", filepath.Dir(path), cause(err))
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".restore-")
	if err != nil {
		return fmt.Errorf("write to %s: %w", filepath.Dir(path), cause(err))
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	made := filepath.Join(dir, filepath.Base(path))
	// Not a copy of the file: a server that was killed left changes beside it.
	if err := store.Backup(ctx, from, made); err != nil {
		return err //nolint:wrapcheck // a sentence for the user
	}
	if err := check(ctx, made); err != nil {
		return err
	}
	if err := replication.Place(ctx, made, path); err != nil {
		return fmt.Errorf("put the database to %s: %w", path, err)
	}
	return nil
}

// Backup copies the database to a new file, while a server may run. Every
// error is one sentence for the user.
func Backup(ctx context.Context, cfg Config, file string) error {
	path := cfg.Settings.databasePath()
	err := store.Backup(ctx, path, file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("cannot back up: %s or the folder of %s does not exist", path, file)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("cannot back up: %s exists already: choose another name", file)
	case err != nil:
		return fmt.Errorf("cannot back up: %w", err)
	}
	// A terminal that is gone is no reason to fail.
	_, _ = fmt.Fprintf(cfg.Out, "Wrote %s\nIt does not hold the encryption key (%s or DSTACK_SERVER_ENCRYPTION_KEY), config.yml, logs and uploaded files: keep them, too.\n",
		file, shorten(filepath.Join(cfg.Settings.Dir, store.KeyFile), cfg.Home))
	return nil
}
