package config

import (
	"testing"
	"time"
)

func TestCronNext(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ cron, after, want string }{
		{"* * * * *", "2026-01-31 23:59", "2026-02-01 00:00"},
		{"*/15 * * * *", "2026-11-25 10:07", "2026-11-25 10:15"},
		{"5/20 * * * *", "2026-11-25 10:26", "2026-11-25 10:45"},
		{"1-5/2 0 * * *", "2026-11-25 00:01", "2026-11-25 00:03"},
		{"0 8 * * *", "2026-11-25 10:00", "2026-11-26 08:00"},
		{"59 23 31 12 *", "2026-01-31 23:59", "2026-12-31 23:59"},
		{"30 8 * * 0", "2026-11-25 10:00", "2026-11-30 08:30"}, // 0 is Monday
		{"0 0 * * 6", "2026-11-25 10:00", "2026-11-29 00:00"},  // 6 is Sunday
		{"0 0 * * fri", "2026-11-25 10:00", "2026-11-27 00:00"},
		{"0 0 * * mon-wed", "2026-11-26 10:00", "2026-11-30 00:00"},
		{"0 0 * * FRI/2", "2026-11-25 10:00", "2026-11-27 00:00"}, // "/2" is ignored
		{"0 0 13 * 4", "2026-11-25 10:00", "2027-08-13 00:00"},    // Friday and 13th, not or
		{"0 0 last * *", "2027-02-01 00:00", "2027-02-28 00:00"},
		{"0 0 15,last * *", "2027-02-20 00:00", "2027-02-28 00:00"},
		{"30 6 1 jan,jul *", "2026-11-25 10:00", "2027-01-01 06:30"},
		{"5-10/5 22/1 * jan-MAR *", "2026-01-31 23:59", "2026-02-01 22:05"},
		{"0 0 29 feb *", "2026-11-25 10:00", "2028-02-29 00:00"},
		{"0 0 29 2 sun", "2026-11-25 10:00", "2032-02-29 00:00"},
	} {
		c, err := ParseCron(tt.cron)
		if err != nil {
			t.Errorf("%s: %v", tt.cron, err)
			continue
		}
		const form = "2006-01-02 15:04"
		after, err := time.Parse(form, tt.after)
		if err != nil {
			t.Fatal(err)
		}
		next, ok := c.Next(after)
		if got := next.Format(form); !ok || got != tt.want {
			t.Errorf("%s after %s: next %s, want %s", tt.cron, tt.after, got, tt.want)
		}
	}
}

// TestScheduleNext: the earliest of several, in UTC whatever the zone of the
// clock, and strictly later.
func TestScheduleNext(t *testing.T) {
	t.Parallel()
	after := time.Date(2026, 11, 25, 5, 0, 30, 0, time.FixedZone("", -5*3600)) // 10:00:30 UTC
	both := Schedule{Cron: []string{"0 12 * * *", "0 10,11 * * *"}}
	want := time.Date(2026, 11, 25, 11, 0, 0, 0, time.UTC)
	if got, ok := both.Next(after); !ok || got != want {
		t.Errorf("next %v, want %v", got, want)
	}
	if got, ok := (Schedule{}).Next(after); ok {
		t.Errorf("no expression: next %v", got)
	}
}

func TestParseCronRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *",
		"* * * * 7", "*/0 * * * *", "*/60 * * * *", "5-1 * * * *", "* * * * fri-mon", "* * * foo *", "@daily", "? * * * *",
		"1, * * * *", "-1 * * * *", "0 0 30 2 *", "99999999999999999999 * * * *", "a * * * *", "* * ? * *", "* * L * *", ", * * * *",
		"+1 * * * *"} {
		if _, err := ParseCron(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

// bruteNext tries minute after minute.
func bruteNext(c Cron, t time.Time) time.Time {
	for t = t.Truncate(time.Minute).Add(time.Minute); ; t = t.Add(time.Minute) {
		if c.matchesDay(t) && c.hours&(1<<t.Hour()) != 0 && c.minutes&(1<<t.Minute()) != 0 {
			return t
		}
	}
}

func FuzzCron(f *testing.F) {
	f.Add("15 4,5 * * *", int64(0))
	f.Add("0 8 last * mon-fri", int64(1e9))
	f.Fuzz(func(t *testing.T, s string, unix int64) {
		c, err := ParseCron(s)
		if err != nil {
			return
		}
		after := time.Unix(unix%4e9, 0).UTC()
		next, ok := c.Next(after)
		if !ok || !next.After(after) {
			t.Fatalf("%q: next of %v is %v, %v", s, after, next, ok)
		}
		if next.Sub(after) < 40*24*time.Hour {
			if want := bruteNext(c, after); !want.Equal(next) {
				t.Fatalf("%q: next of %v is %v, want %v", s, after, next, want)
			}
		}
	})
}
