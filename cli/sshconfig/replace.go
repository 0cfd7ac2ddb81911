package sshconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dstack/durable"
)

const (
	folderMode = 0o700
	fileMode   = 0o600
	ownerWrite = 0o200
)

// makeFolder makes a folder that is missing, and those above it.
func makeFolder(path string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err //nolint:wrapcheck // names the path
	}
	parent := filepath.Dir(path)
	if err := makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err //nolint:wrapcheck // names the path
	}
	return giveTo(path, parent)
}

// edit replaces a file by what change makes of it: written aside, synced,
// renamed. A link stays a link, its target keeps mode and owner. A missing
// file is empty. Mode is of a new file.
func edit(path string, change func(old []byte) []byte) error {
	target, err := followLinks(path)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(target) //nolint:gosec // the user's own file, wherever the user's links lead
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err //nolint:wrapcheck // names the path
	}
	missing := err != nil
	changed := change(old)
	if string(changed) == string(old) {
		return nil
	}
	mode, like := fs.FileMode(fileMode), filepath.Dir(target)
	if !missing {
		info, err := os.Stat(target) //nolint:gosec // as above
		if err != nil {
			return err //nolint:wrapcheck // names the path
		}
		if mode, like = info.Mode().Perm(), target; mode&ownerWrite == 0 {
			return fmt.Errorf("write %s: %w (it is read-only)", path, fs.ErrPermission)
		}
	}
	return replace(target, changed, mode, like)
}

// asideOf is the name under which a file is written before it is renamed. It
// is always the same, so that a process that was killed leaves one file at
// most, which the next one takes away.
func asideOf(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".dstack")
}

// removeAside takes away what a killed process wrote aside. Under the lock.
func removeAside(path string) error {
	if err := os.Remove(asideOf(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err //nolint:wrapcheck // names the path
	}
	return nil
}

// replace writes a file aside, gives it the owner of like and puts it in the
// place of path.
func replace(path string, data []byte, mode fs.FileMode, like string) error {
	if err := removeAside(path); err != nil {
		return err
	}
	aside, err := os.OpenFile(asideOf(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err //nolint:wrapcheck // names the path
	}
	_, err = aside.Write(data)
	if err == nil {
		err = errors.Join(aside.Chmod(mode), giveTo(aside.Name(), like), aside.Sync())
	}
	if err = errors.Join(err, aside.Close()); err == nil {
		err = os.Rename(aside.Name(), path) //nolint:gosec // the path of the user's own file
	}
	if err != nil {
		return errors.Join(err, os.Remove(aside.Name()))
	}
	return durable.SyncDir(filepath.Dir(path)) //nolint:wrapcheck // names the path
}

// maxLinks is how many links may follow one another.
const maxLinks = 40

// followLinks gives the file that a path means; the last link may lead to a
// file that does not exist yet.
func followLinks(path string) (string, error) {
	for range maxLinks {
		link, err := os.Readlink(path)
		if err != nil {
			return path, nil //nolint:nilerr // no link: a file, or nothing yet
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(path), link)
		}
		path = link
	}
	return "", fmt.Errorf("write %s: %w: too many links", path, fs.ErrInvalid)
}
