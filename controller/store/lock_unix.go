//go:build unix

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// fileLock keeps a second server away from the database.
type fileLock struct{ f *os.File }

// claimFile makes the folder and the file, readable by this user alone, and
// takes the lock beside the file.
func (s *Store) claimFile() error {
	path := s.opts.Path
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make folder of the database: %w", explainOS(filepath.Dir(path), err))
	}
	var err error
	if s.lock, err = lockFile(path); err != nil {
		return err
	}
	// SQLite gives its own files the mode of this one.
	db, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return errors.Join(explainOS(path, err), s.lock.release())
	}
	return db.Close()
}

// A program that this process starts has the lock, too, until it runs: one that
// was let go a moment ago may not be free yet.
const (
	lockTries = 5
	lockPause = 50 * time.Millisecond
)

func lockFile(path string) (*fileLock, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, explainOS(path, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for tries := 0; err != nil && tries < lockTries; tries++ {
		time.Sleep(lockPause)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		fault := &Fault{Kind: ErrInUse, Path: path, Remedy: remedyInUse}
		return nil, errors.Join(fault, f.Close())
	}
	return &fileLock{f}, nil
}

func (l *fileLock) release() error { return l.f.Close() }
