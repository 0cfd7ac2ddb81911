package transfer

import (
	"context"
	"io"
)

// tree is a file system: this machine's or the job's. Paths have "/" between
// names.
type tree interface {
	// show is a path as the user knows it.
	show(path string) string
	// separator is what the system has between names.
	separator() rune
	lstat(ctx context.Context, path string) (entry, error)
	// stat follows symbolic links.
	stat(ctx context.Context, path string) (entry, error)
	list(ctx context.Context, path string) ([]entry, error)
	readlink(ctx context.Context, path string) (string, error)
	// mkdir makes a folder that only its owner may enter.
	mkdir(ctx context.Context, path string) error
	symlink(ctx context.Context, target, path string) error
	// dress sets the mode and the time.
	dress(ctx context.Context, path string, e entry) error
	// rename replaces what is there.
	rename(ctx context.Context, from, to string) error
	remove(ctx context.Context, path string) error
	// open reads a file from an offset on; create writes one from there on,
	// which cuts off the rest.
	open(ctx context.Context, path string, offset int64) (source, error)
	create(ctx context.Context, path string, offset int64) (sink, error)
	// sum is the SHA-256 of the first n bytes.
	sum(ctx context.Context, path string, n int64) ([]byte, error)
}

// source is a file that is read. It is a WriterTo if that is the quick way.
type source interface{ io.ReadCloser }

// sink is a file that is written. It is a ReaderFrom if that is the quick way.
type sink interface{ io.WriteCloser }
