// Package state keeps the state of the job: on disk for a shim that was away,
// and in memory for those who wait for a change.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"dstack/protocol/jobapi"
)

// reserveSize is what the reserve file occupies, so that the last state can
// be written to a disk that the job has filled.
const reserveSize = 64 << 10

const reserveFile = "reserve"

// Keeper keeps the state of one job.
type Keeper struct {
	dir string

	mu      sync.Mutex
	status  jobapi.Status
	changed chan struct{}
}

// New returns a keeper in the task's folder dir.
func New(dir string) *Keeper { return &Keeper{dir: dir, changed: make(chan struct{})} }

// Reserve sets space aside for the last state. It fails on a full disk.
func (k *Keeper) Reserve() error {
	if err := os.WriteFile(filepath.Join(k.dir, reserveFile), make([]byte, reserveSize), 0o600); err != nil {
		return fmt.Errorf("reserve space for the job's state: %w", err)
	}
	return nil
}

// Get returns the state and a channel that is closed when it is another.
func (k *Keeper) Get() (jobapi.Status, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status, k.changed
}

// Set makes s the state: first on disk, durably if s is final, then for
// everybody who waits. They hear of it even if the disk fails.
func (k *Keeper) Set(s jobapi.Status) error {
	var reserve error
	if s.State.Ended() {
		if err := os.Remove(filepath.Join(k.dir, reserveFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			reserve = err
		}
	}
	err := errors.Join(reserve, save(k.dir, s))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status = s
	close(k.changed)
	k.changed = make(chan struct{})
	if err != nil {
		return fmt.Errorf("save the job's state: %w", err)
	}
	return nil
}

// save replaces the state file so that a reader finds the old or the new one.
func save(dir string, s jobapi.Status) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, jobapi.StateFile)
	file, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(data, '\n'))
	if s.State.Ended() {
		err = errors.Join(err, file.Sync())
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	if !s.State.Ended() {
		return nil // no job outlives a crash of its host
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Load reads the state file in dir; it fails with [os.ErrNotExist] if there is none.
func Load(dir string) (jobapi.Status, error) {
	var s jobapi.Status
	data, err := os.ReadFile(filepath.Join(dir, jobapi.StateFile))
	if err != nil {
		return s, fmt.Errorf("load the job's state: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("load the job's state: %w", err)
	}
	return s, nil
}
