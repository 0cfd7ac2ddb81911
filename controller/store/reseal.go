package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// sealedColumns are all encrypted columns and how their rows are found.
func sealedColumns() []struct{ table, column string } {
	return []struct{ table, column string }{
		{"users", "token"}, {"users", "private_key"}, {"projects", "private_key"},
		{"runs", "spec"}, {"jobs", "spec"}, {"fleets", "spec"}, {"instances", "access"}, {"instances", "machine"}, {"repo_creds", "creds"},
		{"backends", "spec"},
		{"secrets", "value"},
	}
}

// reseal encrypts everything again when the first key is a new one, in one
// transaction, so that the old key can be taken away afterwards.
func reseal(ctx context.Context, c *conn, sealer *Sealer) error {
	check, err := readCheck(ctx, c)
	if err != nil {
		return err
	}
	if sealer.current(check) {
		return nil
	}
	if _, err := c.exec(ctx, beginWrite); err != nil {
		return err
	}
	for _, col := range sealedColumns() {
		if err := resealColumn(ctx, c, sealer, col.table, col.column); err != nil {
			return errors.Join(fmt.Errorf("encrypt %s.%s again: %w", col.table, col.column, err), rollback(ctx, c))
		}
	}
	if err := storeCheck(ctx, c, sealer); err != nil {
		return errors.Join(err, rollback(ctx, c))
	}
	_, err = c.exec(ctx, "COMMIT")
	return err
}

// resealColumn goes through a table by rowid, so that its memory is bounded.
func resealColumn(ctx context.Context, c *conn, sealer *Sealer, table, column string) error {
	type cell struct {
		row   int64
		value string
	}
	last := int64(-1)
	for {
		var cells []cell
		err := c.query(ctx, func(rows *sql.Rows) error {
			var x cell
			if err := rows.Scan(&x.row, &x.value); err != nil {
				return fmt.Errorf("read row: %w", err)
			}
			cells = append(cells, x)
			return nil
		}, "SELECT rowid, "+column+" FROM "+table+" WHERE rowid > $1 AND "+column+" IS NOT NULL ORDER BY rowid LIMIT 100", last)
		if err != nil || len(cells) == 0 {
			return err
		}
		for _, x := range cells {
			last = x.row
			text, err := sealer.Unseal(x.value)
			if err != nil {
				return err
			}
			if _, err := c.exec(ctx, "UPDATE "+table+" SET "+column+" = $1 WHERE rowid = $2", sealer.Seal(text), x.row); err != nil {
				return err
			}
		}
	}
}
