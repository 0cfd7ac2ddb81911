package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"dstack/controller/objects"
	"dstack/controller/store"
	"dstack/durable"
)

// ErrEmpty means that a replica holds nothing that could be restored.
var ErrEmpty = errors.New("the replica holds no database")

// position is the last change that a replica has: its file of level 0.
type position struct {
	info *ltx.FileInfo // nil: there is none
	tail []byte        // the end of that file: its checksum among others
}

// last finds the position of a replica.
func last(ctx context.Context, client litestream.ReplicaClient) (position, error) {
	var p position
	files, err := client.LTXFiles(ctx, 0, 0, false)
	if err != nil {
		return p, fmt.Errorf("list replica: %w", err)
	}
	for files.Next() {
		if f := files.Item(); p.info == nil || f.MaxTXID > p.info.MaxTXID {
			p.info = f
		}
	}
	if err := files.Close(); err != nil {
		return p, fmt.Errorf("list replica: %w", err)
	}
	if p.info == nil || p.info.Size < ltx.TrailerSize {
		return p, nil
	}
	r, err := client.OpenLTXFile(ctx, 0, p.info.MinTXID, p.info.MaxTXID, p.info.Size-ltx.TrailerSize, ltx.TrailerSize)
	if err != nil {
		return p, fmt.Errorf("read replica: %w", err)
	}
	p.tail, err = io.ReadAll(io.LimitReader(r, ltx.TrailerSize))
	err = errors.Join(err, r.Close())
	if err != nil {
		return p, fmt.Errorf("read replica: %w", err)
	}
	return p, nil
}

// folder is what Litestream keeps beside a database: changes on their way.
type folder struct{ db *litestream.DB }

func beside(path string) folder { return folder{litestream.NewDB(path)} }

// leads says whether the database has all changes up to a position, and
// whether all that follow it are there to be uploaded.
func (f folder) leads(p position) (ours, whole bool, err error) {
	end, err := tail(f.db.LTXPath(0, p.info.MinTXID, p.info.MaxTXID))
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("read replication state: %w", err)
	}
	if !bytes.Equal(end, p.tail) || len(end) == 0 {
		return false, false, nil
	}
	_, newest, err := f.db.MaxLTX()
	if err != nil {
		return false, false, fmt.Errorf("read replication state: %w", err)
	}
	for id := p.info.MaxTXID + 1; id <= newest; id++ {
		if _, err := os.Stat(f.db.LTXPath(0, id, id)); err != nil {
			return true, false, nil //nolint:nilerr // a file that is missing or unreadable is not there
		}
	}
	return true, true, nil
}

// tail reads the end of a file of changes.
func tail(path string) (end []byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil || info.Size() < ltx.TrailerSize {
		return nil, err
	}
	end = make([]byte, ltx.TrailerSize)
	_, err = file.ReadAt(end, info.Size()-ltx.TrailerSize)
	return end, err
}

// follow makes the database the successor of a position: its next upload is a
// whole copy, under the number that follows. What was on its way is dropped:
// the copy holds it.
func (f folder) follow(ctx context.Context, client litestream.ReplicaClient, p position) error {
	if err := os.RemoveAll(f.db.LTXDir()); err != nil {
		return fmt.Errorf("clear replication state: %w", err)
	}
	if p.info == nil {
		return nil
	}
	r, err := client.OpenLTXFile(ctx, 0, p.info.MinTXID, p.info.MaxTXID, 0, 0)
	if err != nil {
		return fmt.Errorf("read replica: %w", err)
	}
	path := f.db.LTXPath(0, p.info.MinTXID, p.info.MaxTXID)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return errors.Join(fmt.Errorf("make folder of replication state: %w", err), r.Close())
	}
	if err := errors.Join(write(path+".new", r), r.Close()); err != nil {
		return fmt.Errorf("keep replication state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("keep replication state: %w", err)
	}
	return durable.SyncDir(filepath.Dir(path))
}

// succeeding is a check that makes the database follow a position if it may be
// used. That comes before it is put in its place: a start that is cut off then
// restores it again.
func (f folder) succeeding(t objects.Target, client litestream.ReplicaClient, p position, check func(context.Context, string) error) func(context.Context, string) error {
	return func(ctx context.Context, made string) error {
		if err := check(ctx, made); err != nil {
			return err
		}
		if err := f.branch(ctx, made, t.String()); err != nil {
			return restoreFault(t, f.db.Path(), time.Time{}, err)
		}
		if err := f.follow(ctx, client, p); err != nil {
			return restoreFault(t, f.db.Path(), time.Time{}, err)
		}
		return nil
	}
}

// write makes a file durable, but not its name.
func write(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close())
}

// restore puts the database of a replica at path, where none is: the last
// state, or the one at a time. check looks at it before it is put there, and
// can refuse it. On an error nothing is there. The replica is not changed.
func restore(ctx context.Context, t objects.Target, client litestream.ReplicaClient, path string, at time.Time, logs *slog.Logger, check func(context.Context, string) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return placeFault(t, filepath.Dir(path), err)
	}
	if err := sweep(filepath.Dir(path)); err != nil {
		return placeFault(t, filepath.Dir(path), err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".restore-")
	if err != nil {
		return placeFault(t, filepath.Dir(path), err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	made := filepath.Join(dir, filepath.Base(path))
	db := litestream.NewDB(made)
	db.SetLogger(logs)
	opt := litestream.NewRestoreOptions()
	opt.OutputPath, opt.Timestamp, opt.IntegrityCheck = made, at, litestream.IntegrityCheckQuick
	if err := litestream.NewReplicaWithClient(db, client).Restore(ctx, opt); err != nil {
		return restoreFault(t, path, at, err)
	}
	if err := os.Chmod(made, 0o600); err != nil {
		return placeFault(t, path, err)
	}
	if err := check(ctx, made); err != nil {
		return err
	}
	if err := place(made, path); err != nil {
		return placeFault(t, path, err)
	}
	return nil
}

// sweep removes what a start that was cut off left.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".restore-") {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// Place moves a database that does not come from a replica to where none is:
// it must not pass for what a replica has.
func Place(ctx context.Context, made, path string) error {
	if err := store.Branch(ctx, made, path); err != nil {
		return err //nolint:wrapcheck // a sentence for the user
	}
	if err := beside(path).forget(); err != nil {
		return err
	}
	return place(made, path)
}

// place moves a database to where none is. The log of one that was there would
// be played into it.
func place(made, path string) error {
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if err := os.Rename(path+suffix, path+suffix+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(os.Rename(made, path), durable.SyncDir(filepath.Dir(path)))
}

// restoreFault makes a sentence of why a database could not be restored.
func restoreFault(t objects.Target, path string, at time.Time, err error) error {
	switch {
	case errors.Is(err, litestream.ErrTxNotAvailable), errors.Is(err, litestream.ErrNoSnapshots):
		if !at.IsZero() {
			return fmt.Errorf("%w: %w", ErrEmpty, &objects.Fault{Target: t, Problem: "the replica does not reach back to " + at.UTC().Format(time.RFC3339),
				Remedy: "choose a later time", Err: err})
		}
		return fmt.Errorf("%w: %w", ErrEmpty, &objects.Fault{Target: t, Problem: "there is nothing to restore", Remedy: "correct the URL", Err: err})
	case errors.Is(err, litestream.ErrChecksumMismatch), errors.Is(err, litestream.ErrLTXCorrupted):
		return t.Fault("the replica is damaged", "restore an earlier state with `dstack server restore --at TIME`", err)
	case isLocal(err):
		return placeFault(t, path, err)
	}
	return explain(t, err)
}

// placeFault is something wrong with the disk that a database is restored to.
func placeFault(t objects.Target, path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return t.Fault("the disk of "+path+" is full", "free some space; nothing was changed", nil)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return t.Fault("this user can't write to "+path, "make the folder writable, or choose another one with DSTACK_SERVER_DIR", nil)
	}
	return t.Fault("the database can't be restored to "+path, "see the cause; nothing was changed", err)
}

// isLocal says whether an error comes from the disk, not from the storage.
func isLocal(err error) bool {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return true
	}
	_, isPath := errors.AsType[*fs.PathError](err)
	return isPath
}
