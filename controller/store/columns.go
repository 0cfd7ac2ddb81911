package store

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// column ties a column to the field that it is read into and written from.
// ref is a pointer to the field, or one of the wrappers below.
type column struct {
	name  string
	ref   any
	fixed bool // set by INSERT, left alone by UPDATE
}

func col(name string, ref any) column { return column{name: name, ref: ref} }

// fixed is a column that never changes. Leaving it out of UPDATE saves
// SQLite the work on its indexes and foreign keys.
func fixed(name string, ref any) column { return column{name: name, ref: ref, fixed: true} }

// table knows how to read and write rows of one type, so that each column is
// named once. The first column identifies the row.
type table[R any] struct {
	name   string
	cols   func(*R, *codec) []column
	list   string // column names, comma-separated
	insert string
	update string // by id, and by version if there is one
}

func newTable[R any](name string, cols func(*R, *codec) []column) *table[R] {
	t := &table[R]{name: name, cols: cols}
	var row R
	var names, marks, sets []string
	mark := func(list []string) string { return "$" + strconv.Itoa(len(list)+1) }
	bound := []string{"id"}
	version := ""
	for _, c := range cols(&row, nil) {
		marks = append(marks, mark(marks))
		names = append(names, c.name)
		switch {
		case c.name == "id", c.fixed:
		case c.name == "version":
			sets = append(sets, "version = version + 1")
			version = " AND version = " + mark(bound)
			bound = append(bound, c.name)
		default:
			sets = append(sets, c.name+" = "+mark(bound))
			bound = append(bound, c.name)
		}
	}
	t.list = strings.Join(names, ", ")
	t.insert = "INSERT INTO " + name + " (" + t.list + ") VALUES (" + strings.Join(marks, ", ") + ")"
	t.update = "UPDATE " + name + " SET " + strings.Join(sets, ", ") + " WHERE id = $1" + version
	return t
}

// refs are the places that a row is read into, or with change only those that
// UPDATE writes.
func (t *table[R]) refs(r *R, c *codec, change bool) []any {
	cols := t.cols(r, c)
	refs := make([]any, 0, len(cols))
	for _, c := range cols {
		if !change || !c.fixed {
			refs = append(refs, c.ref)
		}
	}
	return refs
}

func (t *table[R]) add(tx *Tx, r *R) error {
	if _, err := tx.exec(t.insert, t.refs(r, tx.c.codec, false)...); err != nil {
		return fmt.Errorf("insert into %s: %w", t.name, err)
	}
	return nil
}

// change writes r; missing is the error when there is no such row.
func (t *table[R]) change(tx *Tx, r *R, missing error) error {
	n, err := tx.exec(t.update, t.refs(r, tx.c.codec, true)...)
	if err == nil && n == 0 {
		err = missing
	}
	if err != nil {
		return fmt.Errorf("update %s: %w", t.name, err)
	}
	return nil
}

// save writes r if it still has the version, and adds one to that.
func (t *table[R]) save(tx *Tx, r *R, version *int64) error {
	if err := t.change(tx, r, ErrConflict); err != nil {
		return err
	}
	*version++
	return nil
}

// find returns all rows; tail is what follows FROM.
func (t *table[R]) find(tx *Tx, tail string, args ...any) ([]R, error) {
	out := []R{}
	err := tx.query(func(rows *sql.Rows) error {
		var r R
		if err := rows.Scan(t.refs(&r, tx.c.codec, false)...); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		out = append(out, r)
		return nil
	}, "SELECT "+t.list+" FROM "+t.name+tail, args...)
	if err != nil {
		return nil, fmt.Errorf("select from %s: %w", t.name, err)
	}
	return out, nil
}

// one returns the first row or [ErrNotFound].
func (t *table[R]) one(tx *Tx, tail string, args ...any) (R, error) {
	rows, err := t.find(tx, tail, args...)
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("select from %s: %w", t.name, ErrNotFound)
	}
	if err != nil {
		var none R
		return none, err
	}
	return rows[0], nil
}

func (t *table[R]) count(tx *Tx, tail string, args ...any) (int, error) {
	n := 0
	err := tx.query(func(rows *sql.Rows) error { return rows.Scan(&n) },
		"SELECT count(*) FROM "+t.name+tail, args...)
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", t.name, err)
	}
	return n, nil
}

// instant stores a time as Unix microseconds.
type instant struct{ t *time.Time }

func (c instant) Value() (driver.Value, error) { return c.t.UnixMicro(), nil }

func (c instant) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("a time is stored as %T", src)
	}
	*c.t = time.UnixMicro(n).UTC()
	return nil
}

// maybeInstant is an instant that may be NULL.
type maybeInstant struct{ t **time.Time }

func (c maybeInstant) Value() (driver.Value, error) {
	if *c.t == nil {
		return nil, nil
	}
	return (*c.t).UnixMicro(), nil
}

func (c maybeInstant) Scan(src any) error {
	if src == nil {
		*c.t = nil
		return nil
	}
	t := new(time.Time)
	*c.t = t
	return instant{t}.Scan(src)
}

// jsonArg is an argument of a query: the value behind a pointer as JSON.
type jsonArg struct{ v any }

func (c jsonArg) Value() (driver.Value, error) { return encodeJSON(c.v) }

// codec turns encrypted columns into values and back.
type codec struct {
	sealer *Sealer
	// memo, if not nil, keeps what stored JSON was decoded to. The values are
	// then shared between rows, so only a store that runs inline has it: a
	// simulator reads the same few specs ten thousand times.
	memo map[string]any
}

// maxMemo bounds codec.memo.
const maxMemo = 4096

// sealedText is an encrypted string.
type sealedText struct {
	v *string
	c *codec
}

func (c sealedText) Value() (driver.Value, error) { return c.c.sealer.Seal(*c.v), nil }

func (c sealedText) Scan(src any) error {
	sealed, ok := src.(string)
	if !ok {
		return fmt.Errorf("an encrypted value is stored as %T", src)
	}
	text, err := c.c.sealer.Unseal(sealed)
	if err != nil {
		return err
	}
	*c.v = text
	return nil
}

// jsonColumn stores the value behind a pointer as JSON.
type jsonColumn[T any] struct {
	v      *T
	c      *codec
	secret bool // encrypted; NULL stands for null
}

func plain[T any](v *T, c *codec) jsonColumn[T]  { return jsonColumn[T]{v, c, false} }
func sealed[T any](v *T, c *codec) jsonColumn[T] { return jsonColumn[T]{v, c, true} }

func (c jsonColumn[T]) Value() (driver.Value, error) {
	text, err := encodeJSON(c.v)
	switch {
	case err != nil:
		return nil, err
	case text == "null":
		return nil, nil
	case c.secret:
		return c.c.sealer.Seal(text), nil
	}
	return text, nil
}

func (c jsonColumn[T]) Scan(src any) error {
	if src == nil {
		return nil
	}
	text, ok := src.(string)
	if !ok {
		return fmt.Errorf("JSON is stored as %T", src)
	}
	if v, ok := c.c.memo[text].(T); ok {
		*c.v = v
		return nil
	}
	plain := text
	if c.secret {
		var err error
		if plain, err = c.c.sealer.Unseal(text); err != nil {
			return err
		}
	}
	if err := json.Unmarshal([]byte(plain), c.v); err != nil {
		return fmt.Errorf("decode stored value: %w", err)
	}
	c.c.remember(text, *c.v)
	return nil
}

func (c *codec) remember(text string, v any) {
	if c.memo == nil {
		return
	}
	if len(c.memo) >= maxMemo {
		clear(c.memo)
	}
	c.memo[text] = v
}

func encodeJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode value: %w", err)
	}
	return string(b), nil
}

// tokenHash is derived from the token: written, never read.
type tokenHash struct{ token *string }

func (c tokenHash) Value() (driver.Value, error) { return TokenHash(*c.token), nil }
func (c tokenHash) Scan(any) error               { return nil }

// rawText stores bytes that are text already.
type rawText struct{ v *[]byte }

func (c rawText) Value() (driver.Value, error) { return string(*c.v), nil }

func (c rawText) Scan(src any) error {
	text, ok := src.(string)
	if !ok {
		return fmt.Errorf("text is stored as %T", src)
	}
	*c.v = []byte(text)
	return nil
}
