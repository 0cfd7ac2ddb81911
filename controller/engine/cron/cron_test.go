package cron

import (
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	t.Parallel()
	const form = "2006-01-02 15:04"
	for _, c := range []struct{ expr, from, want string }{
		{"* * * * *", "2026-11-25 10:00", "2026-11-25 10:01"},
		{"0 8 * * *", "2026-11-25 10:00", "2026-11-26 08:00"},
		{"*/15 * * * *", "2026-11-25 10:07", "2026-11-25 10:15"},
		{"5/20 * * * *", "2026-11-25 10:26", "2026-11-25 10:45"},
		{"0 0 * * 0", "2026-11-25 10:00", "2026-11-30 00:00"}, // 0 is Monday
		{"0 0 * * 6", "2026-11-25 10:00", "2026-11-29 00:00"}, // 6 is Sunday
		{"0 0 * * fri", "2026-11-25 10:00", "2026-11-27 00:00"},
		{"0 0 * * mon-wed", "2026-11-26 10:00", "2026-11-30 00:00"},
		{"0 0 * * FRI/2", "2026-11-25 10:00", "2026-11-27 00:00"}, // "/2" is ignored
		{"0 0 13 * 4", "2026-11-25 10:00", "2027-08-13 00:00"},    // Friday and 13th, not or
		{"0 0 last * *", "2027-02-01 00:00", "2027-02-28 00:00"},
		{"0 0 15,last * *", "2027-02-20 00:00", "2027-02-28 00:00"},
		{"30 6 1 jan,jul *", "2026-11-25 10:00", "2027-01-01 06:30"},
		{"0 0 29 2 *", "2026-11-25 10:00", "2028-02-29 00:00"},
		{"0 0 30 2 *", "2026-11-25 10:00", ""},
		{"1-5/2 0 * * *", "2026-11-25 00:01", "2026-11-25 00:03"},
	} {
		s, err := Parse(c.expr)
		if err != nil {
			t.Errorf("Parse(%q): %v", c.expr, err)
			continue
		}
		from, err := time.Parse(form, c.from)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if n, ok := s.Next(from); ok {
			got = n.Format(form)
		}
		if got != c.want {
			t.Errorf("%q after %s: got %q, want %q", c.expr, c.from, got, c.want)
		}
	}
}

func TestParseRejects(t *testing.T) {
	t.Parallel()
	for _, expr := range []string{
		"", "* * * *", "* * * * * *", "@daily", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *",
		"* * * 13 *", "* * * * 7", "5-1 * * * *", "* * * * fri-mon", "*/0 * * * *", "*/60 * * * *",
		"a * * * *", "* * ? * *", "* * L * *", "-1 * * * *", ", * * * *", "* * * foo *", "+1 * * * *",
	} {
		if _, err := Parse(expr); err == nil {
			t.Errorf("Parse(%q) did not fail", expr)
		}
	}
}

func TestEarliestOfSeveral(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	got, ok := Next([]string{"0 12 * * *", "0 11 * * *"}, from)
	if want := time.Date(2026, 11, 25, 11, 0, 0, 0, time.UTC); !ok || !got.Equal(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("*/5 1-3 last jan-mar mon,0")
	f.Fuzz(func(t *testing.T, expr string) {
		s, err := Parse(expr)
		if err != nil {
			return
		}
		from := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
		if n, ok := s.Next(from); ok && !n.After(from) {
			t.Errorf("%q: next start %v is not after %v", expr, n, from)
		}
	})
}
