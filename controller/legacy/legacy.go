// Package legacy takes over the database of a server of dstack 0.22.5: it reads
// that one, and writes one of ours. What its tables hold was learned from
// databases that the real program made; the rest is in the shared spec,
// server-operations.md 4 and 5. Besides controller/store it is the only package
// with SQL, and that only reads.
package legacy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dstack/controller/store"
	"dstack/durable"
)

// KeptName is what the database of 0.22.5 is called from then on, in the same
// folder.
const KeptName = "sqlite-0.22.5.db"

// Errors that callers tell apart with errors.Is.
var (
	// ErrSchema means that the database is not of 0.22.5 but of another version.
	ErrSchema = errors.New("the database is of a version of dstack other than 0.22.5")
	// ErrBusy means that something goes on that only 0.22.5 can end.
	ErrBusy = errors.New("the database of dstack 0.22.5 cannot be taken over yet")
	// ErrRow means that a row is not one that ours could have.
	ErrRow = errors.New("a row of the database of dstack 0.22.5 cannot be taken over")
	// ErrKept means that something has the name of what is to be kept.
	ErrKept = errors.New("something is in the way of what is kept of dstack 0.22.5")
)

// Options says what is taken over, and how.
type Options struct {
	// Path is the database; ours is there afterwards.
	Path string
	// Dir is the server's folder, with the logs.
	Dir string
	// Sealer knows the keys that the old values are encrypted with; its first
	// one encrypts the new ones.
	Sealer *store.Sealer
	// Now is when it is taken over.
	Now time.Time
	// NoEvents leaves the old events out.
	NoEvents bool
}

// Report is what was taken over.
type Report struct {
	// Kept is where the old database is.
	Kept string
	// Rows counts the rows of each of our tables.
	Rows map[string]int
	// LeftOut are sentences about what was not taken over.
	LeftOut []string
}

// Check says whether Import could take over a database. Nothing is changed.
// name is how errors, [store.Fault]s, call it.
func Check(ctx context.Context, path, name string, sealer *store.Sealer) error {
	src, err := openSource(ctx, path, name, sealer)
	if err != nil {
		return err
	}
	return errors.Join(src.check(ctx), src.close())
}

// Import replaces a database of 0.22.5 by one of ours, and keeps it as
// [KeptName] beside it. Ours is made in a folder of its own and takes the old
// one's place in one step: whenever the process ends, the old database or the
// whole new one is at Path. The logs in Dir wait for [ConvertLogs] then. Errors
// are sentences for the user; then the old database is as it was.
func Import(ctx context.Context, o Options) (report Report, err error) {
	dir := filepath.Dir(o.Path)
	release, err := store.Lock(o.Path)
	if err != nil {
		return report, err //nolint:wrapcheck // a sentence for the user
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := clearOld(dir); err != nil {
		return report, err
	}
	src, err := openSource(ctx, o.Path, o.Path, o.Sealer)
	if err != nil {
		return report, err
	}
	temp, ready := "", filepath.Join(dir, readyName)
	defer func() {
		if temp != "" {
			err = errors.Join(err, os.RemoveAll(temp), remove(ready))
		}
	}()
	report = Report{Kept: filepath.Join(dir, KeptName), Rows: map[string]int{}}
	err = func() error {
		if err := src.check(ctx); err != nil {
			return err
		}
		if err := room(o.Path, report.Kept); err != nil {
			return err
		}
		if _, err := homesOfLogs(o.Dir); err != nil {
			return err
		}
		if temp, err = os.MkdirTemp(dir, tempPrefix); err != nil {
			return store.Explain(dir, err)
		}
		made := filepath.Join(temp, "sqlite.db")
		if err := src.copyTo(ctx, made, o, &report); err != nil {
			return err
		}
		// Files that are to be moved alone must hold all.
		if err := store.Fold(ctx, made, o.Path); err != nil {
			return err //nolint:wrapcheck // a sentence for the user
		}
		if err := src.fold(ctx); err != nil {
			return err
		}
		return moveOut(made, ready)
	}()
	if err = errors.Join(err, src.close()); err != nil {
		return report, err
	}
	// The logs come first: who finds our database makes ours of them.
	undo, err := setLogsAside(o.Dir)
	if err != nil {
		return report, err
	}
	if err := replace(o.Path, report.Kept, ready, os.Link); err != nil {
		return report, errors.Join(err, undo())
	}
	return report, durable.SyncDir(dir) //nolint:wrapcheck // says what it did
}

const (
	// tempPrefix begins the names of folders in which databases are made.
	tempPrefix = ".import-"
	// readyName is a database that is made, and not yet in its place.
	readyName = ".import.db"
)

// moveOut takes a database that is made out of its folder, which goes: once
// ours is in place, nobody looks for what an import left.
func moveOut(made, ready string) error {
	if hasLog(made) {
		return &store.Fault{Kind: store.ErrDisk, Path: filepath.Dir(ready), Remedy: remedyDisk}
	}
	if err := os.Rename(made, ready); err != nil {
		return store.Explain(ready, err)
	}
	dir := filepath.Dir(made)
	if err := os.RemoveAll(dir); err != nil {
		return store.Explain(dir, err)
	}
	return nil
}

// remove removes a file that may not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return store.Explain(path, err)
	}
	return nil
}

// clearOld removes what an import left that was cut off.
func clearOld(dir string) error {
	names, err := folders(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if !strings.HasPrefix(name, tempPrefix) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return store.Explain(path, fmt.Errorf("remove an import that was cut off: %w", err))
		}
	}
	return remove(filepath.Join(dir, readyName))
}

// room makes sure that the old database can be kept. One that is the same was
// put there by an import that was cut off.
func room(path, kept string) error {
	there, err := os.Stat(kept)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	now, err2 := os.Stat(path)
	if err := errors.Join(err, err2); err != nil {
		return store.Explain(kept, err)
	}
	if os.SameFile(now, there) {
		return nil
	}
	if same, err := sameContent(path, kept); same && err == nil {
		return nil
	}
	return &store.Fault{Kind: ErrKept, Path: kept, Remedy: remedyKept}
}

func sameContent(a, b string) (bool, error) {
	var sums [2][sha256.Size]byte
	for i, path := range []string{a, b} {
		f, err := os.Open(path)
		if err != nil {
			return false, err //nolint:wrapcheck // looked at by room alone
		}
		hash := sha256.New()
		_, err = io.Copy(hash, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return false, err
		}
		hash.Sum(sums[i][:0])
	}
	return sums[0] == sums[1], nil
}

// replace keeps the old database and puts the new one in its place.
func replace(path, kept, ready string, link func(from, to string) error) error {
	if hasLog(path) {
		return &store.Fault{Kind: store.ErrInUse, Path: path, Remedy: remedyInUse}
	}
	// What is left of the old log would be played into the new database.
	if err := errors.Join(remove(path+"-wal"), remove(path+"-shm")); err != nil {
		return err
	}
	if err := keep(path, kept, link); err != nil {
		return store.Explain(kept, fmt.Errorf("keep the old database: %w", err))
	}
	if err := os.Rename(ready, path); err != nil {
		return store.Explain(path, fmt.Errorf("put the new database in place: %w", err))
	}
	return nil
}

// hasLog says that a part of a closed database is in its log: whoever closed it
// could not fold it into the file, which SQLite does not tell, or somebody else
// has it open.
func hasLog(path string) bool {
	info, err := os.Stat(path + "-wal")
	return err == nil && info.Size() > 0
}

// keep gives the old database its second name or, where a file cannot have
// two, copies it.
func keep(path, kept string, link func(from, to string) error) error {
	err := link(path, kept)
	if errors.Is(err, fs.ErrExist) {
		return nil // room looked at it
	}
	if err == nil {
		// 0.22.5 lets everybody read it. Of another user's file that stays so.
		_ = os.Chmod(kept, 0o600)
	}
	if err != nil {
		if err := copyFile(path, kept+".new"); err != nil {
			return errors.Join(err, os.Remove(kept+".new"))
		}
		if err := os.Rename(kept+".new", kept); err != nil {
			return err //nolint:wrapcheck // wrapped by the caller
		}
	}
	return durable.SyncDir(filepath.Dir(kept)) //nolint:wrapcheck // wrapped by the caller
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // wrapped by the caller
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}
