package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	"modernc.org/sqlite"
)

// Mark says which state of a database one has: a later one of the same line has
// more commits. Lines part where a database is restored. The zero Mark is that
// of a database that was never replicated.
type Mark struct {
	Line    string `json:"line"`
	Commits int64  `json:"commits"`
}

// Covers says whether a database with the mark m has all that one had with the
// mark n.
func (m Mark) Covers(n Mark) bool { return m.Line == n.Line && m.Commits >= n.Commits }

const (
	settingLine    = "replicated_line"
	settingCommits = "replicated_commits"
)

// changes counts what a connection changed in its life.
func changes(ctx context.Context, c *conn) (n int64, err error) {
	err = c.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&n) }, "SELECT total_changes()")
	return n, err
}

// count counts a commit: it is part of the transaction.
func count(ctx context.Context, c *conn) error {
	_, err := c.exec(ctx, `INSERT INTO settings (name, value) VALUES ($1, '1')
		ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(settings.value AS BIGINT) + 1 AS TEXT)`, settingCommits)
	return err
}

// ReadMark reads the mark of a database, which may be in use. With folded it is
// that of the file alone, without what is in its log; nobody may fold the log
// into it meanwhile. name is how errors call it.
func ReadMark(ctx context.Context, path, name string, folded bool) (m Mark, err error) {
	err = look(path, name, folded, func(db *sql.DB) error {
		if is, err := ours(ctx, db); err != nil || !is {
			return err
		}
		return db.QueryRowContext(ctx, `SELECT coalesce(max(CASE name WHEN $1 THEN value END), ''), coalesce(max(CASE name WHEN $2 THEN CAST(value AS BIGINT) END), 0)
			FROM settings WHERE name IN ($1, $2)`, settingLine, settingCommits).Scan(&m.Line, &m.Commits)
	})
	return m, err
}

// Branch begins a new line with a database of ours that nobody has open: no
// later state of the old one passes for one of it. Others stay as they are.
// name is how errors call it.
func Branch(ctx context.Context, path, name string) error {
	is := false
	err := look(path, name, false, func(db *sql.DB) (err error) {
		is, err = ours(ctx, db)
		return err
	})
	if err != nil || !is {
		return err
	}
	err = withFile(ctx, path, name, func(c *conn) error {
		_, err := c.exec(ctx, "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", settingLine, rand.Text())
		return err
	})
	if err != nil {
		return explain(name, fmt.Errorf("begin a new line: %w", err))
	}
	return Fold(ctx, path, name)
}

func ours(ctx context.Context, db *sql.DB) (is bool, err error) {
	err = db.QueryRowContext(ctx, "SELECT count(*) > 0 FROM sqlite_master WHERE name = 'schema_versions'").Scan(&is)
	return is, err
}

// look opens a database for reading, outside of any store, and leaves it as it
// is with its log. With folded it does not look into the log.
func look(path, name string, folded bool, fn func(*sql.DB) error) (err error) {
	if _, err := os.Stat(path); err != nil {
		return explainOS(name, err)
	}
	query := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(5000)"}}
	// Without a log the file is all there is; with one it may be in the middle of
	// something.
	if info, err := os.Stat(path + "-wal"); folded || err != nil || info.Size() == 0 {
		query.Set("immutable", "1")
	}
	connector, err := sqlite.NewConnector("file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode())
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	db := sql.OpenDB(connector)
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := fn(db); err != nil {
		return explain(name, fmt.Errorf("look into database: %w", err))
	}
	return nil
}
