package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"dstack/durable"
)

// Put writes the whole log of a job that has ended; of events only At and Data
// count. Whenever the process ends, the log is there whole or not at all, and
// the same call may be repeated: a log that is there already stays as it is.
func (s *Store) Put(ctx context.Context, k Key, events iter.Seq2[Event, error]) (err error) {
	if err := k.valid(); err != nil {
		return err
	}
	dir := s.folder(k)
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	part := dir + ".part" // no valid name: nobody takes it for a log
	if err := os.RemoveAll(part); err != nil {
		return fmt.Errorf("remove a log that was cut off: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(part))
		}
	}()
	if err := s.fill(ctx, part, events); err != nil {
		return err
	}
	if err := os.Rename(part, dir); err != nil {
		return diskError("write log", err)
	}
	return durable.SyncDir(filepath.Dir(dir)) //nolint:wrapcheck // says what it did
}

func (s *Store) fill(ctx context.Context, dir string, events iter.Seq2[Event, error]) (err error) {
	start := s.now()
	f, err := openFile(dir, start, true)
	if err != nil {
		return err
	}
	last := start
	for e, failed := range events {
		if err = errors.Join(failed, context.Cause(ctx)); err == nil {
			err = f.append(f.size, e.At, start, e.Data)
		}
		if err != nil {
			break
		}
		last = e.At
	}
	if err = errors.Join(err, f.close()); err != nil {
		return err
	}
	// It is as old as what is in it.
	if err := os.Chtimes(filepath.Join(dir, "job.log"), last, last); err != nil {
		return diskError("write log", err)
	}
	return nil
}
