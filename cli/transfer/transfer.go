// Package transfer copies files and folders between this machine and a job,
// over SFTP. Each file arrives under another name beside its target, is
// compared by SHA-256 with what was sent, and only then renamed: nobody sees
// half a file. A copy that broke off goes on where it stopped, also in a
// later run.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"
)

// Job is where the other side is.
type Job struct {
	// Name is how messages call it.
	Name string
	// Connect gives the connection of the moment. It waits while a lost one is
	// being made again, and fails when that will not happen.
	Connect func(ctx context.Context) (*ssh.Client, error)
}

// Progress is how far a copy is. Totals grow while folders are looked into.
type Progress struct {
	Files, FilesDone int64
	Bytes, BytesDone int64
	// Resumed is how much of BytesDone was there from an earlier try.
	Resumed int64
	// Name is a file that is being copied now.
	Name string
}

// Copier copies between this machine and a job. It is for one copy at a time.
type Copier struct {
	remote   *remoteTree
	warn     func(string)
	counters struct{ files, filesDone, bytes, bytesDone, resumed atomic.Int64 }
	current  atomic.Pointer[string]
}

// New makes a copier. warn is told what is left out; calls come one at a time.
func New(job Job, warn func(string)) *Copier {
	return &Copier{remote: &remoteTree{job: job}, warn: warn}
}

// Close frees what the copier holds of the connection.
func (c *Copier) Close() error { return c.remote.close() }

// Progress tells how far the copy is. It may be called meanwhile.
func (c *Copier) Progress() Progress {
	n := &c.counters
	p := Progress{
		Files: n.files.Load(), FilesDone: n.filesDone.Load(), Bytes: n.bytes.Load(), BytesDone: n.bytesDone.Load(), Resumed: n.resumed.Load(),
	}
	if name := c.current.Load(); name != nil {
		p.Name = printable(*name)
	}
	return p
}

// Upload copies local files and folders to a path in the job, as `cp -r` does:
// into it if it is a folder or ends in "/".
func (c *Copier) Upload(ctx context.Context, sources []string, target string) error {
	return c.copyAll(ctx, sources, c.remote, cleanRemote(target), strings.HasSuffix(target, "/"), openLocal)
}

// Download copies files and folders of the job to a local path, as Upload.
func (c *Copier) Download(ctx context.Context, sources []string, target string) error {
	to, base, err := createLocal(target)
	if err != nil {
		return err
	}
	defer closeTree(to)
	return c.copyAll(ctx, sources, to, base, strings.HasSuffix(filepath.ToSlash(target), "/"), c.findRemote)
}

// found is a source: where it is, and what it is called in the folder that it
// is copied into.
type found struct {
	tree tree
	path string
	name string
}

// FileError is a file that could not be copied.
type FileError struct {
	// File is its path, as the user knows it.
	File string
	Err  error
}

func (e *FileError) Error() string { return printable(e.File + ": " + reason(e.Err)) }

// Unwrap gives the cause.
func (e *FileError) Unwrap() error { return e.Err }

// printable is a text for the user's terminal: a job may give its files names
// that control it.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// reason says in words why a file could not be copied.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "no such file or folder"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	case isFull(err):
		return "the disk is full"
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err.Error()
	}
	return err.Error()
}

// Errors of files.
var (
	ErrFolderOverFile = errors.New("a folder can't replace this file")
	ErrFileOverFolder = errors.New("a file can't replace this folder")
	ErrNotFolder      = errors.New("is not a folder")
	ErrChecksum       = errors.New("the copy differs from the file: it changed meanwhile, or its data were damaged on the way")
	ErrEscape         = errors.New("the job tells a name that leads out of the folder")
)

// kind is what something in a folder is.
type kind int

const (
	file kind = iota
	folder
	link
	other // devices, sockets, pipes
)

// entry is a file, a folder or a symbolic link.
type entry struct {
	name  string
	kind  kind
	size  int64
	perm  fs.FileMode
	mtime time.Time
}

func entryOf(info fs.FileInfo) entry {
	e := entry{name: info.Name(), size: info.Size(), perm: info.Mode().Perm(), mtime: info.ModTime()}
	switch {
	case info.Mode().IsRegular():
		e.kind = file
	case info.IsDir():
		e.kind = folder
	case info.Mode()&fs.ModeSymlink != 0:
		e.kind = link
	default:
		e.kind = other
	}
	return e
}

// same says whether two files look alike.
func (e entry) same(f entry) bool {
	return e.kind == f.kind && e.size == f.size && e.mtime.Truncate(time.Second).Equal(f.mtime.Truncate(time.Second))
}

// failed says which file an operation failed for.
func failed(t tree, path string, err error) error {
	if err == nil {
		return nil
	}
	if _, known := errors.AsType[*FileError](err); known || errors.Is(err, context.Canceled) {
		return err
	}
	if lost, ok := errors.AsType[*LostError](err); ok {
		return lost
	}
	return &FileError{t.show(path), err}
}

// LostError says that the connection was lost for good.
type LostError struct{ Err error }

func (e *LostError) Error() string { return fmt.Sprintf("the connection was lost: %v", e.Err) }

// Unwrap gives the cause.
func (e *LostError) Unwrap() error { return e.Err }
