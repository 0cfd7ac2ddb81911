package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// checkText is what the check value in the database decrypts to.
const checkText = "dstack"

// migration is one step of the schema; its version is its file's number.
type migration struct {
	version int
	sql     string
}

// migrations returns all steps of this build in order. Their numbers rise, and
// may have gaps: what two branches add at the same time keeps its number.
func migrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	var out []migration
	for _, name := range names { // Glob sorts
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version < 1 || len(out) > 0 && version <= out[len(out)-1].version {
			return nil, fmt.Errorf("migration %s: its name must begin with a number of its own", name)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		out = append(out, migration{version, string(text)})
	}
	return out, nil
}

// usable checks that the database is one that this build and its keys can use;
// it returns all steps of this build, and how far the database has come: 0 if
// it is empty.
func usable(ctx context.Context, c *conn, sealer *Sealer) ([]migration, int, error) {
	steps, err := migrations(migrationFiles)
	if err != nil {
		return nil, 0, err
	}
	version, err := schemaVersion(ctx, c)
	if err != nil {
		return nil, 0, err
	}
	if newest := steps[len(steps)-1].version; version > newest {
		return nil, 0, &Fault{
			Kind: ErrNewer, Path: c.name,
			Remedy: fmt.Sprintf("Its schema has version %d, this build knows versions up to %d: start the newer dstack; nothing was changed.",
				version, newest),
		}
	}
	if version > 0 {
		if err := checkKey(ctx, c, sealer); err != nil {
			return nil, 0, err
		}
	}
	return steps, version, nil
}

// prepare writes only after those checks: WAL, schema, check value.
func prepare(ctx context.Context, c *conn, sealer *Sealer, memory bool) error {
	steps, version, err := usable(ctx, c, sealer)
	if err != nil {
		return err
	}
	if !memory {
		if _, err := c.exec(ctx, "PRAGMA journal_mode = WAL"); err != nil {
			return err
		}
	}
	if version > 0 {
		if steps, err = missing(ctx, c, steps); err != nil {
			return err
		}
	}
	if err := migrate(ctx, c, steps, sealer, version == 0); err != nil {
		return err
	}
	return reseal(ctx, c, sealer)
}

func schemaVersion(ctx context.Context, c *conn) (int, error) {
	version, objects, ours := 0, 0, 0
	err := c.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&objects, &ours) },
		"SELECT count(*), count(CASE WHEN name = 'schema_versions' THEN 1 END) FROM sqlite_master")
	if err != nil || objects == 0 {
		return 0, err
	}
	if ours == 0 {
		return 0, &Fault{Kind: ErrForeign, Path: c.name, Remedy: remedyForeign}
	}
	scan := func(rows *sql.Rows) error { return rows.Scan(&version) }
	if err := c.query(ctx, scan, "SELECT coalesce(max(version), 0) FROM schema_versions"); err != nil {
		return 0, err
	}
	return version, nil
}

// missing are the steps that the database has not seen.
func missing(ctx context.Context, c *conn, steps []migration) ([]migration, error) {
	done := map[int]bool{}
	err := c.query(ctx, func(rows *sql.Rows) error {
		version := 0
		if err := rows.Scan(&version); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		done[version] = true
		return nil
	}, "SELECT version FROM schema_versions")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(steps, func(m migration) bool { return done[m.version] }), nil
}

// migrate runs the steps in one transaction: all of them or none.
func migrate(ctx context.Context, c *conn, steps []migration, sealer *Sealer, fresh bool) error {
	if len(steps) == 0 {
		return nil
	}
	if _, err := c.exec(ctx, beginWrite); err != nil {
		return err
	}
	err := func() error {
		for _, m := range steps {
			if _, err := c.raw.ExecContext(ctx, m.sql); err != nil {
				return fmt.Errorf("bring the schema to version %d: %w", m.version, err)
			}
			if _, err := c.exec(ctx, "INSERT INTO schema_versions (version) VALUES ($1)", m.version); err != nil {
				return err
			}
		}
		if fresh {
			return storeCheck(ctx, c, sealer)
		}
		return nil
	}()
	if err != nil {
		return errors.Join(err, rollback(ctx, c))
	}
	_, err = c.exec(ctx, "COMMIT")
	return err
}

func storeCheck(ctx context.Context, c *conn, sealer *Sealer) error {
	_, err := c.exec(ctx, `INSERT INTO settings (name, value) VALUES ('encryption_check', $1)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, sealer.Seal(checkText))
	return err
}

func readCheck(ctx context.Context, c *conn) (string, error) {
	value := ""
	err := c.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&value) },
		"SELECT value FROM settings WHERE name = 'encryption_check'")
	return value, err
}

func checkKey(ctx context.Context, c *conn, sealer *Sealer) error {
	value, err := readCheck(ctx, c)
	if err != nil {
		return err
	}
	if _, err := sealer.Unseal(value); err != nil {
		return &Fault{
			Kind: err, Path: c.name,
			Remedy: "Start with the key that the database was made with: encryption.keys in config.yml, " +
				"DSTACK_SERVER_ENCRYPTION_KEY or the file encryption.key; nothing was changed.",
		}
	}
	return nil
}
