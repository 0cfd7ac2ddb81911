package legacy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"modernc.org/sqlite"

	"dstack/controller/store"
)

// schema is the one that can be taken over: what 0.22.5
// writes to alembic_version.
const schema = "40f19bea9d2a"

const (
	remedyInUse = "Stop the server of dstack 0.22.5 that uses it, then start again; nothing was changed."
	remedyKept  = "It is of an earlier time: move it away; nothing was changed."
	remedyDisk  = "Check the disk and the space on it; nothing was changed."
	remedyKeys  = "Put the keys of 0.22.5 into encryption.keys of config.yml; nothing was changed."
)

// source is an open database of 0.22.5 that nobody else has open.
type source struct {
	name   string
	db     *sql.DB
	conn   *sql.Conn
	sealer *store.Sealer
}

func openSource(ctx context.Context, path, name string, sealer *store.Sealer) (*source, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, store.Explain(name, err) // SQLite would make it
	}
	// A server of 0.22.5 takes no lock, but it keeps connections open, and then
	// SQLite gives none that wants the database for itself.
	query := url.Values{"_pragma": {"busy_timeout(2000)", "locking_mode(EXCLUSIVE)"}}
	connector, err := sqlite.NewConnector("file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode())
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s := &source{name: name, db: sql.OpenDB(connector), sealer: sealer}
	if s.conn, err = s.db.Conn(ctx); err == nil {
		_, err = s.conn.ExecContext(ctx, "BEGIN EXCLUSIVE")
	}
	if err != nil {
		return nil, errors.Join(s.explain(fmt.Errorf("open database: %w", err)), s.close())
	}
	return s, nil
}

func (s *source) explain(err error) error {
	fault, ok := errors.AsType[*store.Fault](store.Explain(s.name, err))
	if ok && errors.Is(fault, store.ErrInUse) {
		fault.Remedy = remedyInUse
	}
	if ok {
		return fault
	}
	return err
}

// fold ends the reading, and puts all into the one file: closing does not say
// when it could not.
func (s *source) fold(ctx context.Context) error {
	if _, err := s.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		return s.explain(fmt.Errorf("end reading: %w", err))
	}
	var busy, pages, done int
	if err := s.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &done); err != nil {
		return s.explain(fmt.Errorf("fold the log into the old database: %w", err))
	}
	return nil
}

func (s *source) close() error {
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	return s.explain(errors.Join(append(errs, s.db.Close())...))
}

// each calls fn with every row of a table; clause is what follows its name. It
// sorts nothing that is large, which would need room in a temporary folder. Of
// columns with one name the first counts.
func (s *source) each(ctx context.Context, table, clause string, fn func(*record) error) (err error) {
	rows, err := s.conn.QueryContext(ctx, "SELECT * FROM "+table+" "+clause) //nolint:gosec,unqueryvet // both are of this package; who reads a row knows what it needs
	if err != nil {
		return s.explain(fmt.Errorf("read %s: %w", table, err))
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return fmt.Errorf("read columns of %s: %w", table, err)
	}
	for rows.Next() {
		values, refs := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			refs[i] = &values[i]
		}
		if err := rows.Scan(refs...); err != nil {
			return s.explain(fmt.Errorf("read row of %s: %w", table, err))
		}
		r := &record{table: table, values: map[string]any{}, sealer: s.sealer}
		for i, c := range slices.Backward(columns) {
			r.values[c] = values[i]
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return s.explain(rows.Err())
}

// check refuses a database that cannot be taken over.
func (s *source) check(ctx context.Context) error {
	versions := []string{}
	err := s.each(ctx, "alembic_version", "", func(r *record) error {
		if v := r.maybe("version_num"); v != nil {
			versions = append(versions, *v)
		}
		return r.err
	})
	if err != nil {
		return err
	}
	if len(versions) != 1 || versions[0] != schema {
		return &store.Fault{
			Kind: ErrSchema, Path: s.name,
			Remedy: fmt.Sprintf("Its schema is %q, and that of 0.22.5 is %q: if it is of an older version, start dstack 0.22.5 with it once, stop it, then start this one; nothing was changed.",
				strings.Join(versions, ", "), schema),
		}
	}
	if err := s.checkKeys(ctx); err != nil {
		return err
	}
	return s.checkBusy(ctx)
}

// checkKeys decrypts all that is encrypted.
func (s *source) checkKeys(ctx context.Context) error {
	for _, c := range []struct{ table, column string }{
		{"users", "token"}, {"secrets", "value"}, {"repo_creds", "creds"}, {"backends", "source_auth"}, {"backends", "auth"},
	} {
		err := s.each(ctx, c.table, "WHERE "+c.column+" IS NOT NULL", func(r *record) error {
			r.secret(c.column)
			return r.err
		})
		if errors.Is(err, store.ErrWrongKey) {
			return &store.Fault{Kind: store.ErrWrongKey, Path: s.name, Remedy: remedyKeys, Err: err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// blockers are what only 0.22.5 can bring to an end: it runs, or it would be
// paid for and nobody would know of it.
func blockers() []struct{ what, column, table, clause, remedy string } {
	return []struct{ what, column, table, clause, remedy string }{
		{"run", "run_name", "runs", "WHERE status NOT IN ('TERMINATED', 'FAILED', 'DONE')", "Wait for it, or stop it (`dstack stop`)"},
		{"machine", "name", "instances", "WHERE status <> 'TERMINATED' AND coalesce(backend, '') <> 'REMOTE'", "Delete its fleet (`dstack fleet delete`)"},
		{"volume", "name", "volumes", "WHERE NOT deleted AND status IN ('SUBMITTED', 'PROVISIONING')", "Wait until it is active"},
		{"gateway", "name", "gateways", "", "Delete it (`dstack gateway delete`)"},
	}
}

// maxNamed is how many a refusal names.
const maxNamed = 5

func (s *source) checkBusy(ctx context.Context) error {
	projects := map[string]string{}
	err := s.each(ctx, "projects", "", func(r *record) error {
		projects[r.id("id")] = r.text("name")
		return r.err
	})
	if err != nil {
		return err
	}
	for _, b := range blockers() {
		var names []string
		err := s.each(ctx, b.table, b.clause, func(r *record) error {
			names = append(names, fmt.Sprintf("%s %s of project %s (%s)", b.what, r.text(b.column), projects[r.id("project_id")], r.name("status")))
			return r.err
		})
		if err != nil {
			return err
		}
		if len(names) == 0 {
			continue
		}
		if more := len(names) - maxNamed; more > 0 {
			names = append(names[:maxNamed], fmt.Sprintf("%d more", more))
		}
		return &store.Fault{
			Kind: ErrBusy, Path: s.name, Err: errors.New(strings.Join(names, ", ")),
			Remedy: b.remedy + " with dstack 0.22.5, stop that server, then start this one; nothing was changed.",
		}
	}
	return nil
}
