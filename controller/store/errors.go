package store

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotFound means that no such row exists.
	ErrNotFound = errors.New("not found")
	// ErrConflict means that the row was changed since it was read: read it
	// again and decide again.
	ErrConflict = errors.New("changed by somebody else")
	// ErrExists means that a row with this name or id exists already.
	ErrExists = errors.New("already exists")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("the database is closed")

	// ErrNewer means that the database was written by a newer version.
	ErrNewer = errors.New("the database is from a newer version of dstack")
	// ErrWrongKey means that the database, or a value in it, was encrypted
	// with a key that this server does not have.
	ErrWrongKey = errors.New("the encryption key does not fit the database")
	// ErrBadKey means that an encryption key could not be read or made.
	ErrBadKey = errors.New("the encryption key is not usable")
	// ErrDiskFull means that the disk of the database has no space left.
	ErrDiskFull = errors.New("the disk is full")
	// ErrDisk means that the disk could not be read or written.
	ErrDisk = errors.New("the disk failed")
	// ErrReadOnly means that the database, or its folder, is not writable.
	ErrReadOnly = errors.New("not writable")
	// ErrCorrupt means that the file is damaged or no database.
	ErrCorrupt = errors.New("the database is damaged")
	// ErrForeign means that the file is a database of another program.
	ErrForeign = errors.New("the database belongs to another program")
	// ErrInUse means that another process has the database open.
	ErrInUse = errors.New("another server uses the database")
)

// Fault is something wrong with the place where the data lies: one sentence
// with the path, and what to do. Kind is one of the Err values above.
type Fault struct { //nolint:errname // "fault" says it
	Kind   error
	Path   string
	Remedy string
	Err    error // the cause, may be nil
}

func (f *Fault) Error() string {
	s := fmt.Sprintf("%s: %v", f.Path, f.Kind)
	if f.Err != nil {
		s += fmt.Sprintf(" (%v)", f.Err)
	}
	return s + ". " + f.Remedy
}

// Unwrap lets errors.Is find both the kind and the cause.
func (f *Fault) Unwrap() []error {
	if f.Err == nil {
		return []error{f.Kind}
	}
	return []error{f.Kind, f.Err}
}

const (
	remedyFull     = "Free some space; nothing was changed."
	remedyDisk     = "Check the disk and the space on it; nothing was changed."
	remedyReadOnly = "Make it writable for this user, or choose another folder with DSTACK_SERVER_DIR."
	remedyCorrupt  = "Restore it from a backup, or move it away to start with an empty one."
	remedyForeign  = "Move it away, or choose another folder with DSTACK_SERVER_DIR; nothing was changed."
	remedyInUse    = "Stop the other dstack server, or choose another folder with DSTACK_SERVER_DIR."
)

// explain turns an error of the driver into one of ours; path names the file.
func explain(path string, err error) error {
	if _, explained := errors.AsType[*Fault](err); explained {
		return err
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return explainOS(path, err)
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%w: %w", ErrExists, err)
	case sqlite3.SQLITE_IOERR_SHMSIZE: // how SQLite calls a full disk when it opens a database in WAL mode
		return &Fault{Kind: ErrDiskFull, Path: path, Remedy: remedyFull, Err: err}
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return &Fault{Kind: ErrDiskFull, Path: path, Remedy: remedyFull, Err: err}
	case sqlite3.SQLITE_IOERR:
		return &Fault{Kind: ErrDisk, Path: path, Remedy: remedyDisk, Err: err}
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return &Fault{Kind: ErrReadOnly, Path: path, Remedy: remedyReadOnly, Err: err}
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return &Fault{Kind: ErrCorrupt, Path: path, Remedy: remedyCorrupt, Err: err}
	case sqlite3.SQLITE_BUSY:
		return &Fault{Kind: ErrInUse, Path: path, Remedy: remedyInUse, Err: err}
	}
	return err
}

// explainOS does the same for errors of file operations.
func explainOS(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &Fault{Kind: ErrDiskFull, Path: path, Remedy: remedyFull, Err: err}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return &Fault{Kind: ErrReadOnly, Path: path, Remedy: remedyReadOnly, Err: err}
	}
	return err
}

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }

// Explain turns an error of SQLite or of a file into a [Fault], if it knows it;
// path names the file.
func Explain(path string, err error) error { return explain(path, err) }
