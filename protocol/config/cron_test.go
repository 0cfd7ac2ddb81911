package config

import (
	"testing"
	"time"
)

func TestCronNext(t *testing.T) {
	t.Parallel()
	after := time.Date(2026, 1, 31, 23, 59, 30, 0, time.UTC) // a Saturday
	tests := []struct{ cron, want string }{
		{"* * * * *", "2026-02-01T00:00:00Z"},
		{"*/15 * * * *", "2026-02-01T00:00:00Z"},
		{"30 8 * * 0", "2026-02-02T08:30:00Z"}, // 0 is Monday
		{"0 0 last * *", "2026-02-28T00:00:00Z"},
		{"0 0 29 feb *", "2028-02-29T00:00:00Z"},
		{"0 0 13 * fri", "2026-02-13T00:00:00Z"}, // both must match
		{"5-10/5 22/1 * jan-MAR *", "2026-02-01T22:05:00Z"},
		{"0 0 * * tue/9", "2026-02-03T00:00:00Z"},
		{"59 23 31 12 *", "2026-12-31T23:59:00Z"},
	}
	for _, tt := range tests {
		c, err := ParseCron(tt.cron)
		if err != nil {
			t.Errorf("%s: %v", tt.cron, err)
			continue
		}
		got, ok := c.Next(after)
		if !ok || got.Format(time.RFC3339) != tt.want {
			t.Errorf("%s: next %v, want %s", tt.cron, got, tt.want)
		}
	}
	both := Schedule{Cron: []string{"0 8 * * *", "0 6 * * *"}}
	if got, ok := both.Next(after); !ok || got.Hour() != 6 {
		t.Errorf("schedule: next %v, want 6:00", got)
	}
}

func TestParseCronRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *",
		"* * * * 7", "*/0 * * * *", "*/60 * * * *", "5-1 * * * *", "* * * * fri-mon", "* * * foo *", "@daily", "? * * * *",
		"1, * * * *", "-1 * * * *", "0 0 30 2 *", "99999999999999999999 * * * *"} {
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
