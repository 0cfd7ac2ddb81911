package legacy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"dstack/controller/store"
)

// errValue means that a column does not hold what 0.22.5 puts there.
var errValue = errors.New("unexpected value")

// record is a row of 0.22.5. Its first error sticks: a mapping asks for all that
// it needs and looks at err once.
type record struct {
	table  string
	values map[string]any
	sealer *store.Sealer
	err    error
}

func (r *record) fail(column string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%s.%s: %w", r.table, column, err)
	}
}

// has says whether a column is there and not NULL.
func (r *record) has(column string) bool { return r.values[column] != nil }

func (r *record) text(column string) string {
	switch v := r.values[column].(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	r.fail(column, errValue)
	return ""
}

// maybe is the text of a column that may be NULL.
func (r *record) maybe(column string) *string {
	if !r.has(column) {
		return nil
	}
	text := r.text(column)
	return &text
}

// id is a UUID, which 0.22.5 stores without dashes.
func (r *record) id(column string) string {
	id, err := uuid.Parse(r.text(column))
	if err != nil {
		r.fail(column, errValue)
		return ""
	}
	return id.String()
}

func (r *record) maybeID(column string) *string {
	if !r.has(column) {
		return nil
	}
	id := r.id(column)
	return &id
}

// name is the value of an enumeration, which 0.22.5 stores by the name of its
// member: that one in capitals, wherever it matters here.
func (r *record) name(column string) string { return strings.ToLower(r.text(column)) }

func (r *record) number(column string) int {
	n, ok := r.values[column].(int64)
	if !ok {
		r.fail(column, errValue)
	}
	return int(n)
}

// count is a number that may be NULL, which is 0.
func (r *record) count(column string) int {
	if !r.has(column) {
		return 0
	}
	return r.number(column)
}

func (r *record) maybeNumber(column string) *int {
	if !r.has(column) {
		return nil
	}
	n := r.number(column)
	return &n
}

func (r *record) price(column string) float64 {
	switch v := r.values[column].(type) {
	case nil:
		return 0
	case float64:
		return v
	case int64:
		return float64(v)
	}
	r.fail(column, errValue)
	return 0
}

// flag is a boolean; NULL is false.
func (r *record) flag(column string) bool {
	switch v := r.values[column].(type) {
	case nil:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	}
	r.fail(column, errValue)
	return false
}

// time is a time in UTC without a zone.
func (r *record) time(column string) time.Time {
	switch v := r.values[column].(type) {
	case time.Time:
		return v.UTC()
	case string:
		if t, err := time.Parse("2006-01-02 15:04:05.999999", v); err == nil {
			return t
		}
	}
	r.fail(column, errValue)
	return time.Time{}
}

func (r *record) maybeTime(column string) *time.Time {
	if !r.has(column) {
		return nil
	}
	t := r.time(column)
	return &t
}

// secret is an encrypted text.
func (r *record) secret(column string) string {
	text, err := r.sealer.Unseal(r.text(column))
	if err != nil {
		r.fail(column, err)
	}
	return text
}

// json decodes a column; NULL leaves out as it is.
func (r *record) json(column string, out any) {
	if r.has(column) {
		r.decode(column, r.text(column), out)
	}
}

func (r *record) decode(column, text string, out any) {
	if r.err != nil {
		return
	}
	if err := json.Unmarshal([]byte(text), out); err != nil {
		r.fail(column, fmt.Errorf("%w: %w", errValue, err))
	}
}

// title is how an error calls the row: its id, and its name if it has one.
func (r *record) title() string {
	title := fmt.Sprint(r.values["id"])
	for _, column := range []string{"name", "run_name"} {
		if name, is := r.values[column].(string); is {
			title += " (" + name + ")"
		}
	}
	return title
}
