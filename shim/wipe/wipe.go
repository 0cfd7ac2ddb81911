// Package wipe removes folders that somebody hostile has filled.
package wipe

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// batch is how many names of a folder are read at a time.
const batch = 1024

// All removes the folder at path with all that is in it; none is no error.
// [os.RemoveAll] keeps a file open for each level, so a job that nests folders
// deeper than the shim may open files could never be removed, and would take
// all files of the shim. Here a folder that is not empty is moved to the top
// before it is emptied.
func All(path string) error {
	root, err := os.OpenRoot(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open folder to remove: %w", err)
	}
	w := wiper{root: root, prefix: rand.Text()}
	if err := errors.Join(w.empty("."), root.Close()); err != nil {
		return fmt.Errorf("empty folder %s: %w", filepath.Base(path), err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove folder: %w", err)
	}
	return nil
}

type wiper struct {
	root *os.Root
	// prefix and moved make names that nobody else has.
	prefix string
	moved  int
}

// empty removes everything in a folder at the top, or in the top itself.
func (w *wiper) empty(dir string) error {
	// For a shim that is not root; where it is of no use, what follows says so.
	_ = w.root.Chmod(dir, 0o700)
	for {
		names, err := w.names(dir)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := w.remove(dir, name); err != nil {
				return err
			}
		}
	}
}

func (w *wiper) remove(dir, name string) error {
	at := path.Join(dir, name)
	err := w.root.Remove(at)
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrExist):
		return err
	case dir == ".":
		if err := w.empty(name); err != nil {
			return err
		}
		return w.root.Remove(name)
	}
	// Its entry ".." changes, for which a shim that is not root needs the right.
	if err := w.root.Chmod(at, 0o700); err != nil {
		return err
	}
	w.moved++
	return w.root.Rename(at, fmt.Sprintf("%s-%d", w.prefix, w.moved))
}

// names are some of the names in a folder.
func (w *wiper) names(dir string) ([]string, error) {
	f, err := w.root.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(batch)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, errors.Join(err, f.Close())
}
