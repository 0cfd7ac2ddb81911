package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// localTree is a folder of this machine. Nothing leads out of it, whatever
// names and symbolic links the job has.
type localTree struct {
	root *os.Root
}

// openLocal finds a file or folder to read; a symbolic link stands for its
// target, as with `cp -rH`.
func openLocal(_ context.Context, path string) (found, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return found{}, &FileError{path, err}
	}
	root, err := os.OpenRoot(filepath.Dir(real))
	if err != nil {
		return found{}, &FileError{path, err}
	}
	name := filepath.Base(real)
	if filepath.Dir(real) == real { // the root of a drive
		name = "."
	}
	return found{&localTree{root}, name, nameOf(filepath.ToSlash(path), filepath.ToSlash(real))}, nil
}

// createLocal finds where to write: the path itself if it is a folder, else
// the folder that it is to be in.
func createLocal(path string) (*localTree, string, error) {
	dir, name := path, "."
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		clean := filepath.Clean(path)
		dir, name = filepath.Dir(clean), filepath.Base(clean)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, "", &FileError{dir, err}
	}
	return &localTree{root}, name, nil
}

func (t *localTree) close() error {
	if err := t.root.Close(); err != nil {
		return fmt.Errorf("close folder: %w", err)
	}
	return nil
}

func (t *localTree) show(path string) string {
	return filepath.Join(t.root.Name(), filepath.FromSlash(path))
}

func (t *localTree) separator() rune { return filepath.Separator }

func (t *localTree) lstat(_ context.Context, path string) (entry, error) {
	info, err := t.root.Lstat(path)
	if err != nil {
		return entry{}, err
	}
	return localEntry(info), nil
}

func (t *localTree) stat(_ context.Context, path string) (entry, error) {
	info, err := t.root.Stat(path)
	if err != nil {
		return entry{}, err
	}
	return localEntry(info), nil
}

// localEntry gives files of Windows the modes that are usual elsewhere.
func localEntry(info fs.FileInfo) entry {
	e := entryOf(info)
	if runtime.GOOS == "windows" {
		e.perm = 0o644
		if e.kind == folder {
			e.perm = 0o755
		}
	}
	return e
}

func (t *localTree) list(_ context.Context, path string) ([]entry, error) {
	dir, err := t.root.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // it was only read
	infos, err := dir.Readdir(-1)
	out := make([]entry, len(infos))
	for i, info := range infos {
		out[i] = localEntry(info)
	}
	return out, err
}

func (t *localTree) readlink(_ context.Context, path string) (string, error) {
	target, err := t.root.Readlink(path)
	return filepath.ToSlash(target), err
}

func (t *localTree) mkdir(_ context.Context, path string) error { return t.root.Mkdir(path, 0o700) }

func (t *localTree) symlink(_ context.Context, target, path string) error {
	return t.root.Symlink(filepath.FromSlash(target), path)
}

func (t *localTree) dress(_ context.Context, path string, e entry) error {
	return errors.Join(t.root.Chmod(path, e.perm), t.root.Chtimes(path, e.mtime, e.mtime))
}

func (t *localTree) rename(_ context.Context, from, to string) error { return t.root.Rename(from, to) }
func (t *localTree) remove(_ context.Context, path string) error     { return t.root.Remove(path) }

// plainReader hides what else a file can do.
type plainReader struct{ file *os.File }

func (r plainReader) Read(p []byte) (int, error) { return r.file.Read(p) }
func (r plainReader) Close() error               { return r.file.Close() }

func (t *localTree) open(_ context.Context, path string, offset int64) (source, error) {
	f, err := t.root.Open(path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return plainReader{f}, nil
}

func (t *localTree) create(_ context.Context, path string, offset int64) (sink, error) {
	f, err := t.root.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = f.Truncate(offset)
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (t *localTree) sum(ctx context.Context, path string, n int64) ([]byte, error) {
	h, err := t.prefix(ctx, path, n)
	if err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// prefix hashes the first n bytes of a file.
func (t *localTree) prefix(ctx context.Context, path string, n int64) (hash.Hash, error) {
	f, err := t.open(ctx, path, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	h := sha256.New()
	_, err = io.CopyN(h, contextReader{ctx, f}, n)
	if errors.Is(err, io.EOF) {
		err = ErrChecksum
	}
	return h, err
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // of one call
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// isFull says whether an error is that of a full disk, here or there: the
// SFTP of the job has only words for it.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || hasText(err, "no space left on device", "disk quota exceeded")
}
