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
	name string
	ref  any
}

// table knows how to read and write rows of one type, so that each column is
// named once.
type table[R any] struct {
	name    string
	cols    func(*R, *Sealer) []column
	list    string // column names, comma-separated
	insert  string
	update  string // by id and version
	replace string // by id alone
}

func newTable[R any](name string, cols func(*R, *Sealer) []column) *table[R] {
	t := &table[R]{name: name, cols: cols}
	var names, marks, sets []string
	var row R
	for i, c := range cols(&row, nil) {
		names = append(names, c.name)
		marks = append(marks, "$"+strconv.Itoa(i+1))
		switch c.name {
		case "id":
		case "version":
			sets = append(sets, "version = version + 1")
		default:
			sets = append(sets, c.name+" = $"+strconv.Itoa(i+1))
		}
	}
	t.list = strings.Join(names, ", ")
	t.insert = "INSERT INTO " + name + " (" + t.list + ") VALUES (" + strings.Join(marks, ", ") + ")"
	// id is always the first column and version, if any, the last one.
	t.replace = "UPDATE " + name + " SET " + strings.Join(sets, ", ") + " WHERE id = $1"
	t.update = t.replace + " AND version = $" + strconv.Itoa(len(marks))
	return t
}

func (t *table[R]) refs(r *R, s *Sealer) []any {
	cols := t.cols(r, s)
	refs := make([]any, len(cols))
	for i, c := range cols {
		refs[i] = c.ref
	}
	return refs
}

func (t *table[R]) add(tx *Tx, r *R) error {
	if _, err := tx.exec(t.insert, t.refs(r, tx.sealer)...); err != nil {
		return fmt.Errorf("insert into %s: %w", t.name, err)
	}
	return nil
}

// change runs update or replace; the caller looks at the number of rows.
func (t *table[R]) change(tx *Tx, query string, r *R) (int64, error) {
	n, err := tx.exec(query, t.refs(r, tx.sealer)...)
	if err != nil {
		return 0, fmt.Errorf("update %s: %w", t.name, err)
	}
	return n, nil
}

// save writes r by id and version and adds one to *version.
func (t *table[R]) save(tx *Tx, r *R, version *int64) error {
	n, err := t.change(tx, t.update, r)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("update %s: %w", t.name, ErrConflict)
	}
	*version++
	return nil
}

// find returns all rows; tail is what follows FROM.
func (t *table[R]) find(tx *Tx, tail string, args ...any) ([]R, error) {
	out := []R{}
	err := tx.query(func(rows *sql.Rows) error {
		var r R
		if err := rows.Scan(t.refs(&r, tx.sealer)...); err != nil {
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
	if err != nil {
		var none R
		return none, err
	}
	if len(rows) == 0 {
		var none R
		return none, fmt.Errorf("select from %s: %w", t.name, ErrNotFound)
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

// jsonCol stores the value behind a pointer as JSON; a nil pointer, slice or
// map is NULL.
type jsonCol struct{ v any }

func (c jsonCol) Value() (driver.Value, error) {
	b, err := json.Marshal(c.v)
	if err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	if string(b) == "null" {
		return nil, nil
	}
	return string(b), nil
}

func (c jsonCol) Scan(src any) error {
	if src == nil {
		return nil
	}
	text, ok := src.(string)
	if !ok {
		return fmt.Errorf("JSON is stored as %T", src)
	}
	return decodeJSON(text, c.v)
}

// sealedText is an encrypted string.
type sealedText struct {
	v *string
	s *Sealer
}

func (c sealedText) Value() (driver.Value, error) { return c.s.Seal(*c.v), nil }

func (c sealedText) Scan(src any) error {
	sealed, ok := src.(string)
	if !ok {
		return fmt.Errorf("an encrypted value is stored as %T", src)
	}
	text, err := c.s.Unseal(sealed)
	if err != nil {
		return err
	}
	*c.v = text
	return nil
}

// sealedJSON is an encrypted struct; v points to it.
type sealedJSON struct {
	v any
	s *Sealer
}

func (c sealedJSON) Value() (driver.Value, error) {
	b, err := json.Marshal(c.v)
	if err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	return c.s.Seal(string(b)), nil
}

func (c sealedJSON) Scan(src any) error {
	var text string
	if err := (sealedText{&text, c.s}).Scan(src); err != nil {
		return err
	}
	return decodeJSON(text, c.v)
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
