package ignore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The kinds of lists, the strongest first: what a stronger one says of a file
// counts, wherever in the tree it stands.
const (
	ofDstack = iota
	ofTools
	ofGit
	ofGitInfo
	kinds
)

// names are the files of each kind in a folder.
var names = [kinds]string{".dstackignore", ".ignore", ".gitignore", ".git/info/exclude"}

// Dir is a folder with the ignore files that hold in it.
type Dir struct {
	path   string
	parent *Dir
	lists  [kinds]rules
	// isRepo says that Git's files above do not hold here.
	isRepo bool
	global rules
}

// Open reads the ignore files of the folder at the absolute path and of all
// folders above it. global is the file of Git's excludes for the user; it may
// be empty or missing.
func Open(path, global string) (*Dir, error) {
	var dir *Dir
	general, err := load(global)
	if err != nil {
		return nil, err
	}
	path = filepath.Clean(path)
	for _, above := range ancestors(path) {
		if dir, err = read(above, dir, general); err != nil {
			return nil, err
		}
	}
	return dir, nil
}

// ancestors are path and the folders above it, the highest first.
func ancestors(path string) []string {
	if up := filepath.Dir(path); up != path {
		return append(ancestors(up), path)
	}
	return []string{path}
}

// Enter reads the ignore files of a folder in d.
func (d *Dir) Enter(name string) (*Dir, error) { return read(filepath.Join(d.path, name), d, d.global) }

func read(path string, parent *Dir, global rules) (*Dir, error) {
	d := &Dir{path: path, parent: parent, global: global}
	for kind, name := range names {
		var err error
		if d.lists[kind], err = load(filepath.Join(path, name)); err != nil {
			return nil, err
		}
	}
	_, err := os.Lstat(filepath.Join(path, ".git"))
	d.isRepo = err == nil
	return d, nil
}

// maxSize bounds an ignore file in bytes.
const maxSize = 1 << 20

func load(path string) (rules, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.Mode().IsRegular():
		return nil, nil
	case err == nil && info.Size() > maxSize:
		return nil, fmt.Errorf("read %s: it is larger than %d bytes", path, maxSize)
	case err != nil && (filepath.Base(filepath.Dir(path)) == "info" || errors.Is(err, fs.ErrPermission)):
		return nil, nil // .git is a file in a worktree; what is above us may be closed
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ignore file: %w", err)
	}
	return parse(string(data)), nil
}

// Ignores says whether a file or folder in d is to be left out.
func (d *Dir) Ignores(name string, isDir bool) bool {
	path := filepath.Join(d.path, name)
	for kind := range kinds {
		for level := d; level != nil; level = level.parent {
			switch level.lists[kind].match(level.relative(path), isDir) {
			case ignored:
				return true
			case kept:
				return false
			case silent:
			}
			if level.isRepo && (kind == ofGit || kind == ofGitInfo) {
				break
			}
		}
	}
	return d.global.match(name, isDir) == ignored
}

// relative is a path below d with slashes.
func (d *Dir) relative(path string) string {
	rel := strings.TrimPrefix(strings.TrimPrefix(path, d.path), string(filepath.Separator))
	return filepath.ToSlash(rel)
}
