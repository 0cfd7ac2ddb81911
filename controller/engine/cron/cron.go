// Package cron evaluates the schedules of runs: five fields in UTC, in the
// dialect of 0.22.5 (spec: configuration.md 2.13), which is not Vixie's.
// Weekday 0 is Monday, day of month and weekday must both match, and there
// are no aliases.
package cron

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Schedule is one parsed expression. Bit n of a field says that n matches.
type Schedule struct {
	minute, hour, day, month, weekday uint64
	// lastDay adds the last day of each month.
	lastDay bool
}

type field struct {
	name   string
	lo, hi int
	names  []string
	first  int // value of names[0]
}

func fields() []field {
	return []field{
		{name: "minute", lo: 0, hi: 59},
		{name: "hour", lo: 0, hi: 23},
		{name: "day", lo: 1, hi: 31},
		{name: "month", lo: 1, hi: 12, first: 1, names: []string{
			"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
		}},
		{name: "weekday", lo: 0, hi: 6, names: []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}},
	}
}

// Parse reads one expression of five blank-separated fields.
func Parse(expr string) (Schedule, error) {
	words := strings.Fields(expr)
	if len(words) != 5 {
		return Schedule{}, fmt.Errorf("cron %q: has %d fields instead of 5", expr, len(words))
	}
	var s Schedule
	for i, into := range []*uint64{&s.minute, &s.hour, &s.day, &s.month, &s.weekday} {
		f := fields()[i]
		for part := range strings.SplitSeq(words[i], ",") {
			if f.name == "day" && strings.EqualFold(part, "last") {
				s.lastDay = true
				continue
			}
			bits, err := f.parse(part)
			if err != nil {
				return Schedule{}, fmt.Errorf("cron %q: %s %q: %w", expr, f.name, part, err)
			}
			*into |= bits
		}
	}
	return s, nil
}

// parse reads `*`, `*/S`, `N`, `N-M`, `N/S`, `N-M/S` or names.
func (f field) parse(part string) (uint64, error) {
	if f.names != nil && part != "" && (part[0]|0x20) >= 'a' && (part[0]|0x20) <= 'z' {
		return f.parseNames(part)
	}
	span, stepText, stepped := strings.Cut(part, "/")
	lo, hi, step := f.lo, f.hi, 1
	if span != "*" {
		from, to, isRange := strings.Cut(span, "-")
		var err error
		if lo, err = f.number(from); err != nil {
			return 0, err
		}
		switch {
		case isRange:
			if hi, err = f.number(to); err != nil {
				return 0, err
			}
		case !stepped:
			hi = lo
		}
	}
	if stepped {
		n, err := strconv.Atoi(stepText)
		if err != nil || n < 1 {
			return 0, errors.New("the step is not a positive number")
		}
		if n > f.hi-f.lo {
			return 0, fmt.Errorf("the step is more than %d", f.hi-f.lo)
		}
		step = n
	}
	if lo > hi {
		return 0, errors.New("the range ends before it starts")
	}
	return bits(lo, hi, step), nil
}

// parseNames reads a name or a range of names; what follows a name other
// than a range is ignored, as 0.22.5 does.
func (f field) parseNames(part string) (uint64, error) {
	from, rest := cutName(part)
	lo, err := f.name2num(from)
	if err != nil {
		return 0, err
	}
	hi := lo
	if after, ok := strings.CutPrefix(rest, "-"); ok {
		to, _ := cutName(after)
		if hi, err = f.name2num(to); err != nil {
			return 0, err
		}
	}
	if lo > hi {
		return 0, errors.New("the range ends before it starts")
	}
	return bits(lo, hi, 1), nil
}

func cutName(s string) (name, rest string) {
	n := 0
	for n < len(s) && (s[n]|0x20) >= 'a' && (s[n]|0x20) <= 'z' {
		n++
	}
	return strings.ToLower(s[:n]), s[n:]
}

func (f field) name2num(name string) (int, error) {
	for i, n := range f.names {
		if n == name {
			return f.first + i, nil
		}
	}
	return 0, fmt.Errorf("unknown name, allowed: %s", strings.Join(f.names, " "))
}

func (f field) number(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || s[0] == '+' || s[0] == '-' {
		return 0, errors.New("not a number")
	}
	if n < f.lo || n > f.hi {
		return 0, fmt.Errorf("not in %d-%d", f.lo, f.hi)
	}
	return n, nil
}

func bits(lo, hi, step int) uint64 {
	var b uint64
	for n := lo; n <= hi; n += step {
		b |= 1 << n
	}
	return b
}

// Next is the first matching minute after t, in UTC; false if there is none
// (such as 30 February).
func (s Schedule) Next(t time.Time) (time.Time, bool) {
	t = t.UTC().Truncate(time.Minute).Add(time.Minute)
	// The calendar repeats its pattern of weekdays and leap days in 28 years;
	// around a century without a leap day it takes up to 40.
	end := t.AddDate(40, 0, 0)
	for t.Before(end) {
		switch {
		case s.month>>int(t.Month())&1 == 0:
			t = time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		case !s.matchesDay(t):
			t = time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, time.UTC)
		case s.hour>>t.Hour()&1 == 0:
			t = t.Truncate(time.Hour).Add(time.Hour)
		case s.minute>>t.Minute()&1 == 0:
			t = t.Add(time.Minute)
		default:
			return t, true
		}
	}
	return time.Time{}, false
}

func (s Schedule) matchesDay(t time.Time) bool {
	weekday := (int(t.Weekday()) + 6) % 7 // 0 is Monday
	if s.weekday>>weekday&1 == 0 {
		return false
	}
	return s.day>>t.Day()&1 == 1 || s.lastDay && t.AddDate(0, 0, 1).Day() == 1
}

// Next is the earliest start after t over all expressions; an expression that
// cannot be read or never matches counts for nothing.
func Next(exprs []string, t time.Time) (time.Time, bool) {
	var first time.Time
	for _, e := range exprs {
		s, err := Parse(e)
		if err != nil {
			continue
		}
		if n, ok := s.Next(t); ok && (first.IsZero() || n.Before(first)) {
			first = n
		}
	}
	return first, !first.IsZero()
}
