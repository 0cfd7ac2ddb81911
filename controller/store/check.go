package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"modernc.org/sqlite"
)

// Check says whether Open could use a database that nobody has open: ours, not
// newer than this build, and readable with the keys. Nothing is changed. name
// is how errors, [Fault]s, call it.
func Check(ctx context.Context, path, name string, sealer *Sealer) error {
	if _, err := os.Stat(path); err != nil {
		return explainOS(name, err) // SQLite would make it
	}
	return withFile(ctx, path, name, func(c *conn) error {
		_, _, err := usable(ctx, c, sealer)
		return explain(name, err)
	})
}

// IsPython says whether a database is one of dstack for Python, 0.22 or older.
// It only looks, so that one of ours stays as it is with its log. name is how
// errors call it.
func IsPython(ctx context.Context, path, name string) (is bool, err error) {
	err = look(path, name, false, func(db *sql.DB) error {
		return db.QueryRowContext(ctx, "SELECT count(*) > 0 FROM sqlite_master WHERE name = 'alembic_version'").Scan(&is)
	})
	return is, err
}

// Lock keeps every server away from a database until it is released; a server
// that has it already is a [Fault].
func Lock(path string) (release func() error, err error) {
	lock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	return lock.release, nil
}

// Backup writes a whole and consistent copy of a database to a new file; a
// server may use the database meanwhile. An error leaves no file.
func Backup(ctx context.Context, path, target string) (err error) {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("read database: %w", err) // SQLite would make it
	}
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make file: %w", explainOS(target, err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(target))
		}
	}()
	err = withFile(ctx, path, path, func(c *conn) error {
		if _, err := c.raw.ExecContext(ctx, "VACUUM INTO $1", target); err != nil {
			err = explain(target, err)
			if f, ok := errors.AsType[*Fault](err); ok && errors.Is(f.Kind, ErrCorrupt) {
				f.Path = path
			}
			return fmt.Errorf("copy database: %w", err)
		}
		return nil
	})
	return errors.Join(err, f.Sync(), f.Close())
}

// Fold puts all of a database that nobody has open into its one file, which can
// then be moved alone, and looks whether it is sound. Closing does the first,
// too, but does not say so when the disk is full. name is how errors call it.
func Fold(ctx context.Context, path, name string) error {
	return withFile(ctx, path, name, func(c *conn) error {
		var busy, pages, done int
		if err := c.raw.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &done); err != nil {
			return explain(name, fmt.Errorf("fold the log into the database: %w", err))
		}
		if busy != 0 {
			return &Fault{Kind: ErrInUse, Path: name, Remedy: remedyInUse}
		}
		var verdict string
		if err := c.raw.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
			return explain(name, fmt.Errorf("check database: %w", err))
		}
		if verdict != "ok" {
			return &Fault{Kind: ErrCorrupt, Path: name, Remedy: remedyCorrupt, Err: errors.New(verdict)}
		}
		return nil
	})
}

// withFile gives a connection to a database file, outside of any store.
func withFile(ctx context.Context, path, name string, fn func(*conn) error) (err error) {
	connector, err := sqlite.NewConnector(dataSource(path, true))
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	db := sql.OpenDB(connector)
	defer func() { err = errors.Join(err, db.Close()) }()
	raw, err := db.Conn(ctx)
	if err != nil {
		return explain(name, fmt.Errorf("open database: %w", err))
	}
	c := &conn{name: name, raw: raw, stmts: map[string]*sql.Stmt{}}
	defer func() { err = errors.Join(err, c.close()) }()
	return fn(c)
}
