package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"dstack/controller/objects"
	"dstack/controller/store"
)

// marks are what a database has at least to which the files of changes beside
// it belong: they do not tell it from an older copy.
type marks struct {
	// Whole is what the database had, with its log, before the last upload.
	Whole store.Mark `json:"whole"`
	// Folded is what its file alone had then: a log of the newer database would
	// be played into an older one, and hide its age.
	Folded store.Mark `json:"folded"`
}

// marksPath is where they are kept.
func (f folder) marksPath() string { return filepath.Join(f.db.MetaPath(), "dstack-marks.json") }

// noted are the marks that were kept; false: none, or what a machine left that
// lost its power.
func (f folder) noted() (m marks, is bool, err error) {
	data, err := os.ReadFile(f.marksPath())
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, fmt.Errorf("read replication state: %w", err)
	}
	return m, json.Unmarshal(data, &m) == nil, nil
}

// keep replaces the marks. It does not wait for the disk, for uploads wait for
// it: marks that are too old or gone keep no server from its own database.
func (f folder) keep(m marks) error {
	data, err := json.Marshal(m)
	if err == nil {
		err = os.MkdirAll(f.db.MetaPath(), 0o700)
	}
	if err == nil {
		err = os.WriteFile(f.marksPath()+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(f.marksPath()+".new", f.marksPath())
	}
	if err != nil {
		return fmt.Errorf("keep replication state: %w", err)
	}
	return nil
}

// forget drops all that is beside the database, which then passes for none
// that a replica has.
func (f folder) forget() error {
	if err := os.RemoveAll(f.db.MetaPath()); err != nil {
		return fmt.Errorf("clear replication state: %w", err)
	}
	return nil
}

// replaced says whether the database is not the one that the files of changes
// belong to but an older one. Where a server without marks left them nobody
// knows.
func (f folder) replaced(ctx context.Context) (bool, error) {
	want, is, err := f.noted()
	if err != nil || !is {
		return false, err
	}
	path := f.db.Path()
	// An error means half folded, by a server that was killed: the log has the rest.
	folded, err := store.ReadMark(ctx, path, path, true)
	if err == nil && !folded.Covers(want.Folded) {
		return true, nil // with a log that is not its own it is not even sound
	}
	whole, err := store.ReadMark(ctx, path, path, false)
	return err == nil && !whole.Covers(want.Whole), err //nolint:wrapcheck // a sentence for the user
}

// branch begins a new line with a database that is about to be put in its
// place, which no other one passes for then.
func (f folder) branch(ctx context.Context, made, name string) error {
	if err := store.Branch(ctx, made, name); err != nil {
		return err //nolint:wrapcheck // a sentence for the user
	}
	m, err := store.ReadMark(ctx, made, name, true)
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the user
	}
	return f.keep(marks{Whole: m, Folded: m})
}

// marker keeps the marks of a database in use.
type marker struct {
	target objects.Target
	folder folder

	mu   sync.Mutex
	last marks
	is   bool
}

// note keeps the marks of now. What Litestream has read was committed before,
// so after that nothing may be uploaded that an older database passes for.
func (m *marker) note(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	path := m.folder.db.Path()
	whole, err := store.ReadMark(ctx, path, path, false)
	if err != nil {
		return fmt.Errorf("read mark: %w", err)
	}
	next := marks{Whole: whole, Folded: store.Mark{Line: whole.Line}}
	folded, err := store.ReadMark(ctx, path, path, true)
	switch {
	case err == nil && whole.Covers(folded):
		next.Folded = folded
	case m.is: // the log is on its way into the file
		next.Folded = m.last.Folded
	}
	if m.is && next == m.last {
		return nil
	}
	if err := m.folder.keep(next); err != nil {
		return placeFault(m.target, path, err)
	}
	m.last, m.is = next, true
	return nil
}
