package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxStatements bounds the prepared statements of one connection. The texts
// are few; the bound is there so that a mistake cannot eat memory.
const maxStatements = 512

// conn is one connection with its prepared statements. One goroutine at a
// time uses it.
type conn struct {
	name  string // what errors call the database
	raw   *sql.Conn
	stmts map[string]*sql.Stmt
	codec *codec
	// noEvents is Options.NoEvents.
	noEvents bool
}

func (c *conn) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if st, ok := c.stmts[query]; ok {
		return st, nil
	}
	if len(c.stmts) >= maxStatements {
		for q, st := range c.stmts {
			delete(c.stmts, q)
			if err := st.Close(); err != nil {
				return nil, explain(c.name, fmt.Errorf("close statement: %w", err))
			}
		}
	}
	st, err := c.raw.PrepareContext(ctx, query)
	if err != nil {
		return nil, explain(c.name, fmt.Errorf("prepare %q: %w", query, err))
	}
	c.stmts[query] = st
	return st, nil
}

// exec returns how many rows changed.
func (c *conn) exec(ctx context.Context, query string, args ...any) (int64, error) {
	st, err := c.stmt(ctx, query) //nolint:sqlclosecheck // kept for the next time, closed with the connection
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(ctx, args...)
	if err != nil {
		return 0, explain(c.name, fmt.Errorf("execute statement: %w", err))
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("count changed rows: %w", err)
	}
	return n, nil
}

// query calls each with every row.
func (c *conn) query(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) (err error) {
	st, err := c.stmt(ctx, query) //nolint:sqlclosecheck // kept for the next time, closed with the connection
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return explain(c.name, fmt.Errorf("query: %w", err))
	}
	defer func() {
		if cerr := rows.Close(); cerr != nil && err == nil {
			err = fmt.Errorf("close rows: %w", cerr)
		}
	}()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return explain(c.name, fmt.Errorf("read rows: %w", err))
	}
	return nil
}

func (c *conn) close() error {
	var errs []error
	for _, st := range c.stmts {
		errs = append(errs, st.Close())
	}
	return errors.Join(append(errs, c.raw.Close())...)
}

// where collects conditions; "?" in them becomes $1, $2, ...
type where struct {
	conds []string
	args  []any
}

func (w *where) add(cond string, args ...any) {
	w.conds = append(w.conds, w.bind(cond, args...))
}

// bind numbers the placeholders of a piece of SQL and keeps its arguments.
func (w *where) bind(text string, args ...any) string {
	var b strings.Builder
	for _, r := range text {
		if r != '?' {
			b.WriteRune(r)
			continue
		}
		w.args = append(w.args, args[0])
		args = args[1:]
		b.WriteString("$" + strconv.Itoa(len(w.args)))
	}
	return b.String()
}

func (w *where) String() string {
	if len(w.conds) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conds, " AND ")
}

// in adds "col is one of list"; a nil list adds nothing, an empty one
// matches nothing.
func (w *where) in(col string, list []string) {
	if list != nil {
		w.add(inList(col), jsonArg{&list})
	}
}

// inEither adds "col is one of list, or also is one of more"; a nil list adds
// nothing.
func (w *where) inEither(col string, list []string, also string, more []string) {
	switch {
	case list == nil:
	case len(more) == 0:
		w.in(col, list)
	default:
		w.add("("+inList(col)+" OR "+inList(also)+")", jsonArg{&list}, jsonArg{&more})
	}
}

// Page is a keyset cursor (spec: rest-api.md 6): descending time and
// ascending id by default, both reversed when Ascending.
type Page struct {
	PrevTime  *time.Time
	PrevID    string // only with PrevTime; may be empty
	Ascending bool
	Limit     int // 0 means no limit
}

// page adds the cursor and returns the ORDER BY and LIMIT clauses. ts is the
// name of the time's column.
func (w *where) page(p Page, ts string) string {
	timeOp, idOp, order := "<", ">", " ORDER BY "+ts+" DESC, id ASC"
	if p.Ascending {
		timeOp, idOp, order = ">", "<", " ORDER BY "+ts+" ASC, id DESC"
	}
	if p.PrevTime != nil {
		at := p.PrevTime.UnixMicro()
		if p.PrevID == "" {
			w.add(ts+" "+timeOp+" ?", at)
		} else {
			w.add("("+ts+" "+timeOp+" ? OR ("+ts+" = ? AND id "+idOp+" ?))", at, at, p.PrevID)
		}
	}
	return order + limit(p.Limit)
}

func limit(n int) string {
	if n <= 0 {
		return ""
	}
	return " LIMIT " + strconv.Itoa(n)
}

// likePattern finds text anywhere; its own wildcards are taken literally.
func likePattern(text string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(text)) + "%"
}
