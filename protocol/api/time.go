package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Time is an instant in UTC with microseconds, written as 0.22.5 writes it:
// no fraction when it is zero, six digits otherwise (spec: rest-api.md 1).
type Time struct{ time.Time }

// At converts t to wire precision.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Microsecond)} }

// MarshalJSON writes RFC 3339 in UTC.
func (t Time) MarshalJSON() ([]byte, error) {
	u := t.UTC().Truncate(time.Microsecond)
	layout := "2006-01-02T15:04:05Z"
	if u.Nanosecond() != 0 {
		layout = "2006-01-02T15:04:05.000000Z"
	}
	return []byte(`"` + u.Format(layout) + `"`), nil
}

// UnmarshalJSON accepts RFC 3339 (a missing zone means UTC) and Unix seconds
// or milliseconds, as 0.22.5 does.
func (t *Time) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02"} {
		if v, err := time.Parse(layout, s); err == nil {
			*t = At(v)
			return nil
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || math.Abs(n) > 1e15 {
		return fmt.Errorf("%s is not a date and time", string(b))
	}
	if n > 2e10 || n < -2e10 {
		n /= 1000
	}
	*t = At(time.UnixMicro(int64(n * 1e6)))
	return nil
}
