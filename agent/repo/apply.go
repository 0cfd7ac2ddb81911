package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// symlinkMode is the mode of a symbolic link in Git, submoduleMode that of a
// commit of another repo.
const (
	modeType      = 0o170000
	symlinkMode   = 0o120000
	submoduleMode = 0o160000
)

// applyDiff changes the files below dir as a diff of Git says. Nothing
// outside of dir is touched.
func applyDiff(diff io.Reader, dir string) (err error) {
	files, _, err := gitdiff.Parse(diff)
	if err != nil {
		return fmt.Errorf("read diff: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open repo: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	results := make([]result, 0, len(files))
	for _, f := range files {
		r, err := change(root, f)
		if err != nil {
			return fmt.Errorf("%s: %w", fileName(f), err)
		}
		results = append(results, r)
	}
	// All that goes first: a folder may become a file.
	for _, r := range results {
		if r.removes != "" {
			if err := remove(root, r.removes); err != nil {
				return fmt.Errorf("%s: %w", r.removes, err)
			}
		}
	}
	for _, r := range results {
		if err := r.write(root); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

// result is what becomes of one file; an empty name is nothing.
type result struct {
	removes, name string
	isNew         bool
	mode          os.FileMode // as Git has it
	data          []byte
}

func fileName(f *gitdiff.File) string {
	if f.NewName != "" {
		return f.NewName
	}
	return f.OldName
}

// change works out one file's change.
func change(root *os.Root, f *gitdiff.File) (result, error) {
	switch {
	case isType(f.NewMode, submoduleMode), isType(f.OldMode, submoduleMode):
		return result{}, nil // git apply leaves these alone, too
	case f.IsDelete:
		return result{removes: f.OldName}, nil
	}
	before, mode, err := content(root, f)
	if err != nil {
		return result{}, err
	}
	var after bytes.Buffer
	if err := gitdiff.Apply(&after, bytes.NewReader(before), f); err != nil {
		return result{}, fmt.Errorf("it does not fit: %w", err)
	}
	if f.NewMode != 0 {
		mode = f.NewMode
	}
	r := result{name: f.NewName, isNew: f.IsNew, mode: mode, data: after.Bytes()}
	if f.IsRename || !f.IsNew && !f.IsCopy {
		r.removes = f.OldName
	}
	return r, nil
}

func isType(mode os.FileMode, typ uint32) bool { return uint32(mode)&modeType == typ }

// content is the file before the change, with its mode as Git has it.
func content(root *os.Root, f *gitdiff.File) ([]byte, os.FileMode, error) {
	if f.IsNew {
		return nil, 0o100644, nil
	}
	info, err := root.Lstat(f.OldName)
	if err != nil {
		return nil, 0, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := root.Readlink(f.OldName)
		return []byte(target), symlinkMode, err
	}
	data, err := root.ReadFile(f.OldName)
	return data, 0o100000 | info.Mode().Perm(), err
}

func remove(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil {
		return err
	}
	// Git knows no empty folders.
	for up := path.Dir(name); up != "." && root.Remove(up) == nil; up = path.Dir(up) {
	}
	return nil
}

func (r result) write(root *os.Root) error {
	if r.name == "" {
		return nil
	}
	if _, err := root.Lstat(r.name); err == nil {
		return errors.New("it exists already")
	}
	if err := root.MkdirAll(filepath.Dir(r.name), 0o755); err != nil {
		return err
	}
	if isType(r.mode, symlinkMode) {
		return root.Symlink(string(r.data), r.name)
	}
	perm := os.FileMode(0o644)
	if r.mode&0o111 != 0 {
		perm = 0o755
	}
	return root.WriteFile(r.name, r.data, perm)
}
