package journal

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// tombSize is the length of one tombstone: the first bytes of the SHA-256 of
// the task's id. Tombstones are kept for ever, so they have to be small.
const tombSize = 16

type tomb [tombSize]byte

func tombOf(id string) tomb {
	sum := sha256.Sum256([]byte(id))
	return tomb(sum[:tombSize])
}

// tombstones is an append-only file of fixed records.
type tombstones struct {
	mu   sync.Mutex
	file *os.File
	set  map[tomb]struct{}
}

func openTombstones(path string) (*tombstones, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read tombstones: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open tombstones: %w", err)
	}
	// A torn last record is overwritten by the next one.
	t := &tombstones{file: f, set: parseTombs(data)}
	return t, nil
}

func parseTombs(data []byte) map[tomb]struct{} {
	set := make(map[tomb]struct{}, len(data)/tombSize)
	for ; len(data) >= tombSize; data = data[tombSize:] {
		set[tomb(data[:tombSize])] = struct{}{}
	}
	return set
}

func (t *tombstones) add(id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := tombOf(id)
	if _, ok := t.set[key]; ok {
		return nil
	}
	// The set never shrinks and holds each record once, so its size is the
	// place of the next one, whatever a failed write left there.
	if _, err := t.file.WriteAt(key[:], int64(len(t.set))*tombSize); err != nil {
		return fmt.Errorf("write tombstone: %w", err)
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("sync tombstones: %w", err)
	}
	t.set[key] = struct{}{}
	return nil
}

func (t *tombstones) has(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.set[tombOf(id)]
	return ok
}

func (t *tombstones) close() error { return t.file.Close() }
