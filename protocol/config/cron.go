package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Cron is a parsed cron expression of 0.22.5 (spec: configuration.md 2.13):
// weekday 0 is Monday, day and weekday must both match, times are UTC.
type Cron struct {
	minutes, hours, days, months, weekdays uint64
	lastDay                                bool
}

// cronField describes one of the five fields.
type cronField struct {
	name      string
	low, high int
	names     []string // of the values from low on
}

var cronFields = [5]cronField{
	{name: "minute", high: 59},
	{name: "hour", high: 23},
	{name: "day", low: 1, high: 31},
	{name: "month", low: 1, high: 12, names: []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{name: "weekday", high: 6, names: []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}},
}

var (
	cronStar  = regexp.MustCompile(`^\*(?:/(\d+))?$`)
	cronRange = regexp.MustCompile(`^(\d+)(?:-(\d+))?(?:/(\d+))?$`)
	cronNames = regexp.MustCompile(`^(?i:([a-z]+)(?:-([a-z]+))?)`)
)

// ParseCron parses five blank-separated fields. It also rejects an expression
// that never comes due, such as February 30.
func ParseCron(s string) (Cron, error) {
	fields := strings.Fields(s)
	if len(fields) != len(cronFields) {
		return Cron{}, fmt.Errorf("cron needs 5 fields (minute hour day month weekday), got %d", len(fields))
	}
	var c Cron
	sets := [5]*uint64{&c.minutes, &c.hours, &c.days, &c.months, &c.weekdays}
	for i, field := range cronFields {
		for part := range strings.SplitSeq(fields[i], ",") {
			if field.name == "day" && strings.EqualFold(part, "last") {
				c.lastDay = true
				continue
			}
			bits, err := field.parse(part)
			if err != nil {
				return Cron{}, fmt.Errorf("cron %s: %w", field.name, err)
			}
			*sets[i] |= bits
		}
	}
	if _, ok := c.Next(time.Unix(0, 0)); !ok {
		return Cron{}, fmt.Errorf("cron %q never comes due", s)
	}
	return c, nil
}

// parse gives the values of one part of the field as bits.
func (f cronField) parse(part string) (uint64, error) {
	if m := cronStar.FindStringSubmatch(part); m != nil {
		return f.span(f.low, f.high, m[1])
	}
	if m := cronRange.FindStringSubmatch(part); m != nil {
		first, err := f.number(m[1])
		if err != nil {
			return 0, err
		}
		last := first
		switch {
		case m[2] != "":
			if last, err = f.number(m[2]); err != nil {
				return 0, err
			}
		case m[3] != "":
			last = f.high
		}
		return f.span(first, last, m[3])
	}
	if m := cronNames.FindStringSubmatch(part); m != nil && f.names != nil {
		first, err := f.named(m[1])
		if err != nil {
			return 0, err
		}
		last := first
		if m[2] != "" {
			if last, err = f.named(m[2]); err != nil {
				return 0, err
			}
		}
		return f.span(first, last, "")
	}
	return 0, fmt.Errorf("%q is not allowed: use *, */S, N, N-M or N-M/S", part)
}

func (f cronField) number(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < f.low || n > f.high {
		return 0, fmt.Errorf("%s is not in %d-%d", s, f.low, f.high)
	}
	return n, nil
}

func (f cronField) named(s string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(s, name) {
			return f.low + i, nil
		}
	}
	return 0, fmt.Errorf("%q is none of %s", s, join(f.names))
}

// span gives the values from first to last with a step; "" means 1.
func (f cronField) span(first, last int, stepText string) (uint64, error) {
	if last < first {
		return 0, fmt.Errorf("range %d-%d is reversed", first, last)
	}
	step := 1
	if stepText != "" {
		var err error
		if step, err = strconv.Atoi(stepText); err != nil || step < 1 || step > last-first {
			return 0, fmt.Errorf("step %s is not in 1-%d", stepText, last-first)
		}
	}
	var bits uint64
	for n := first; n <= last; n += step {
		bits |= 1 << n
	}
	return bits, nil
}

// cronHorizon is how far Next looks: February 29 on a given weekday comes at
// least once in 40 years.
const cronHorizon = 41 * 366

// Next gives the first minute after t at which the expression is due, in UTC;
// false if there is none.
func (c Cron) Next(t time.Time) (time.Time, bool) {
	t = t.UTC().Truncate(time.Minute).Add(time.Minute)
	for range cronHorizon {
		if c.matchesDay(t) {
			for ; ; t = t.Add(time.Minute) {
				if c.hours&(1<<t.Hour()) == 0 {
					t = t.Truncate(time.Hour).Add(59 * time.Minute) // its last minute is no match either
				} else if c.minutes&(1<<t.Minute()) != 0 {
					return t, true
				}
				if t.Hour() == 23 && t.Minute() == 59 {
					break
				}
			}
		}
		t = time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, time.UTC)
	}
	return time.Time{}, false
}

func (c Cron) matchesDay(t time.Time) bool {
	weekday := (int(t.Weekday()) + 6) % 7
	last := t.AddDate(0, 0, 1).Day() == 1
	return c.months&(1<<t.Month()) != 0 &&
		c.weekdays&(1<<weekday) != 0 &&
		(c.days&(1<<t.Day()) != 0 || c.lastDay && last)
}

// Next gives the first time after t at which the schedule starts a run; false
// if there is none.
func (s Schedule) Next(t time.Time) (time.Time, bool) {
	var first time.Time
	for _, text := range s.Cron {
		cron, err := ParseCron(text)
		if err != nil {
			continue // the decoder refused it; nothing is due
		}
		if next, ok := cron.Next(t); ok && (first.IsZero() || next.Before(first)) {
			first = next
		}
	}
	return first, !first.IsZero()
}
