// Package unpack puts the archives of users into place. An archive never
// writes outside of its destination, whatever names and links it has.
package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Owner is whom what was unpacked belongs to; nil leaves it to this process.
type Owner struct{ UID, GID int }

// Into unpacks a tar file below the existing folder dir.
func Into(ctx context.Context, r io.Reader, dir string, owner *Owner) error {
	return unpack(ctx, r, dir, owner, func(name string) (string, error) { return name, nil })
}

// As unpacks a tar file with one file or folder at its root, whatever its
// name, as dest. The folder that dest is in exists. What is there before is
// removed unless merge says that both are to be there.
func As(ctx context.Context, r io.Reader, dest string, merge bool, owner *Owner) error {
	dir, base := filepath.Dir(dest), filepath.Base(dest)
	if base == string(filepath.Separator) {
		base = "."
	} else if !merge {
		if err := os.RemoveAll(dest); err != nil {
			return fmt.Errorf("replace %s: %w", dest, cause(err))
		}
	}
	first := ""
	return unpack(ctx, r, dir, owner, func(name string) (string, error) {
		root, rest, _ := strings.Cut(name, "/")
		if first == "" {
			first = root
		}
		if root != first {
			return "", fmt.Errorf("the archive has %s beside %s at its root", root, first)
		}
		return path.Join(base, rest), nil
	})
}

// unpacker writes one archive.
type unpacker struct {
	root   *os.Root
	owner  *Owner
	rename func(string) (string, error)
	// dirs get their mode and time when nothing is written into them any more.
	dirs []dir
}

type dir struct {
	name string
	mode fs.FileMode
	time time.Time
}

func unpack(ctx context.Context, r io.Reader, to string, owner *Owner, rename func(string) (string, error)) (err error) {
	root, err := os.OpenRoot(to)
	if err != nil {
		return fmt.Errorf("open %s: %w", to, cause(err))
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	u := &unpacker{root: root, owner: owner, rename: rename}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if err := u.entry(h, tr); err != nil {
			return err
		}
	}
}

// place is where an entry goes: a path with no way up.
func (u *unpacker) place(name string) (string, error) {
	clean := path.Clean(strings.TrimSuffix(name, "/"))
	if !filepath.IsLocal(clean) || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("the archive has an entry %.100q, which leads out of it", name)
	}
	return u.rename(clean)
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name, err := u.place(h.Name)
	if err != nil {
		return err
	}
	mode := h.FileInfo().Mode().Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		err = u.makeDir(name)
		u.dirs = append(u.dirs, dir{name, mode, h.ModTime})
	case tar.TypeReg:
		err = u.file(name, mode, content)
		if err == nil {
			err = u.root.Chtimes(name, h.ModTime, h.ModTime)
		}
	case tar.TypeSymlink:
		if err = u.clear(name); err == nil {
			err = u.root.Symlink(h.Linkname, name)
		}
	case tar.TypeLink:
		var target string
		if target, err = u.place(h.Linkname); err == nil {
			if err = u.clear(name); err == nil {
				err = u.root.Link(target, name)
			}
		}
	default:
		return nil // devices and pipes are nothing that a job gets from a user
	}
	if err == nil && u.owner != nil {
		err = u.root.Lchown(name, u.owner.UID, u.owner.GID)
	}
	if err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Join(u.root.Name(), name), cause(err))
	}
	return nil
}

// clear makes room for an entry that is no folder, and the folders above it.
func (u *unpacker) clear(name string) error {
	if up := path.Dir(name); up != "." {
		if _, err := u.root.Stat(up); errors.Is(err, fs.ErrNotExist) {
			if err := u.makeDir(up); err != nil {
				return err
			}
		}
	}
	return u.root.RemoveAll(name)
}

// makeDir makes a folder and those above it, owned by the owner.
func (u *unpacker) makeDir(name string) error {
	if name == "." {
		return nil
	}
	info, err := u.root.Lstat(name)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		if err := u.root.Remove(name); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := u.makeDir(path.Dir(name)); err != nil {
		return err
	}
	if err := u.root.Mkdir(name, 0o755); err != nil {
		return err
	}
	if u.owner == nil {
		return nil
	}
	return u.root.Lchown(name, u.owner.UID, u.owner.GID)
}

func (u *unpacker) file(name string, mode fs.FileMode, content io.Reader) (err error) {
	if err := u.clear(name); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	return f.Chmod(mode) // whatever the umask is
}

func (u *unpacker) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		d := u.dirs[i]
		if d.name == "." {
			continue // it was there before
		}
		if err := errors.Join(u.root.Chmod(d.name, d.mode), u.root.Chtimes(d.name, d.time, d.time)); err != nil {
			return fmt.Errorf("unpack %s: %w", filepath.Join(u.root.Name(), d.name), cause(err))
		}
	}
	return nil
}

// cause is the error without the path, which the sentence has.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}
