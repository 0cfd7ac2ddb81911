package sweep_test

import (
	"fmt"
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/controller/sweep"
)

func now() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }

func machine(n int, change ...func(*sweep.Machine)) sweep.Machine {
	m := sweep.Machine{Backend: "aws", ProjectID: "p", Server: "me"}
	m.ID, m.Token = fmt.Sprint("i-", n), fmt.Sprint("token-", n)
	m.State, m.CreatedAt = backends.MachineRunning, now().Add(-time.Hour)
	for _, f := range change {
		f(&m)
	}
	return m
}

func age(d time.Duration) func(*sweep.Machine) {
	return func(m *sweep.Machine) { m.CreatedAt = now().Add(-d) }
}

// look has twenty machines that are known, and others.
func look(others ...sweep.Machine) sweep.Look {
	l := sweep.Look{Now: now(), Server: "me", GivenUp: map[string]bool{"given up": true}, Strays: map[sweep.Key]sweep.Earlier{}}
	for n := range 20 {
		m := machine(100 + n)
		l.Machines = append(l.Machines, m)
		l.Known = append(l.Known, sweep.Known{ProjectID: "p", Backend: "aws", ID: m.ID, Token: m.Token})
	}
	l.Machines = append(l.Machines, others...)
	return l
}

func of(project string) func(*sweep.Machine) {
	return func(m *sweep.Machine) { m.ProjectID = project }
}

func silent(l sweep.Look, project string) sweep.Look {
	l.Silent = []store.Slot{{ProjectID: project, Backend: "aws"}}
	return l
}

// earlier adds a stray of earlier sweeps that is not seen now.
func earlier(l sweep.Look, e sweep.Earlier) sweep.Look {
	l.Strays[sweep.Key{Backend: "aws", ID: "i-earlier"}] = e
	return l
}

func TestDecide(t *testing.T) {
	t.Parallel()
	former := func(m *sweep.Machine) { m.Server = "before" }
	given := func(m *sweep.Machine) { m.Token = "given up" }
	for name, c := range map[string]struct {
		look sweep.Look
		want map[string]sweep.Hold
	}{
		"nothing unknown":    {look(), nil},
		"known by token":     {func() sweep.Look { l := look(); l.Known[3].ID = ""; return l }(), nil},
		"another cloud's":    {look(machine(100, func(m *sweep.Machine) { m.Backend = "gcp" })), map[string]sweep.Hold{"i-100": ""}},
		"one":                {look(machine(1)), map[string]sweep.Hold{"i-1": ""}},
		"two":                {look(machine(1), machine(2)), map[string]sweep.Hold{"i-1": "", "i-2": ""}},
		"one seen twice":     {look(machine(1), machine(1)), map[string]sweep.Hold{"i-1": ""}},
		"three are too many": {look(machine(1), machine(2), machine(3)), map[string]sweep.Hold{"i-1": sweep.HoldMany, "i-2": sweep.HoldMany, "i-3": sweep.HoldMany}},
		"more than a tenth": {func() sweep.Look {
			l := look(machine(1))
			l.Known = l.Known[:9]
			l.Machines = append(l.Machines[:9], l.Machines[20])
			return l
		}(), map[string]sweep.Hold{"i-1": sweep.HoldMany}},
		"gone":                {look(machine(1, func(m *sweep.Machine) { m.State = backends.MachineGone })), nil},
		"young":               {look(machine(1, age(14*time.Minute))), nil},
		"of the future":       {look(machine(1, age(-time.Hour))), nil},
		"of no age":           {look(machine(1, func(m *sweep.Machine) { m.CreatedAt = time.Time{} })), map[string]sweep.Hold{"i-1": sweep.HoldAge}},
		"former tag":          {look(machine(1, former), machine(2)), map[string]sweep.Hold{"i-1": sweep.HoldFormer, "i-2": sweep.HoldOthers}},
		"given up":            {look(machine(1, given), machine(2, given, age(0)), machine(3, given, former)), map[string]sweep.Hold{"i-1": "", "i-2": "", "i-3": ""}},
		"given up counts not": {look(machine(1, given), machine(2), machine(3)), map[string]sweep.Hold{"i-1": "", "i-2": "", "i-3": ""}},
		"confirmed": {func() sweep.Look {
			l := look(machine(1, former), machine(2, former))
			l.Strays[sweep.Key{Backend: "aws", ID: "i-1"}] = sweep.Earlier{ProjectID: "p", Hold: sweep.HoldFormer, Confirmed: true}
			l.Strays[sweep.Key{Backend: "aws", ID: "i-2"}] = sweep.Earlier{Hold: sweep.HoldFormer}
			return l
		}(), map[string]sweep.Hold{"i-1": "", "i-2": sweep.HoldFormer}},
		"blind time": {func() sweep.Look {
			l := look(machine(1), machine(2, age(30*time.Hour)))
			l.Blind = []sweep.Blind{{From: now().Add(-24 * time.Hour), To: now().Add(-time.Minute)}}
			return l
		}(), map[string]sweep.Hold{"i-1": sweep.HoldBlind, "i-2": sweep.HoldOthers}},
		"before the blind time": {func() sweep.Look {
			l := look(machine(2, age(30*time.Hour)))
			l.Blind = []sweep.Blind{{From: now().Add(-24 * time.Hour), To: now().Add(-time.Minute)}}
			return l
		}(), map[string]sweep.Hold{"i-2": ""}},
		"once blind, always blind": {func() sweep.Look {
			l := look(machine(1))
			l.Strays[sweep.Key{Backend: "aws", ID: "i-1"}] = sweep.Earlier{Hold: sweep.HoldBlind}
			return l
		}(), map[string]sweep.Hold{"i-1": sweep.HoldBlind}},
		"once many": {func() sweep.Look {
			l := look(machine(1))
			l.Strays[sweep.Key{Backend: "aws", ID: "i-1"}] = sweep.Earlier{Hold: sweep.HoldMany}
			return l
		}(), map[string]sweep.Hold{"i-1": ""}},
		"its own account is silent": {
			silent(look(machine(1), machine(2, given)), "p"), map[string]sweep.Hold{"i-1": sweep.HoldPartial, "i-2": ""},
		},
		"another account is silent": {silent(look(machine(1), machine(2, of("q"))), "q"), map[string]sweep.Hold{"i-1": "", "i-2": sweep.HoldPartial}},
		"too many with those of a silent account": {
			silent(look(machine(1), machine(2), machine(3, of("q"))), "q"),
			map[string]sweep.Hold{"i-1": sweep.HoldMany, "i-2": sweep.HoldMany, "i-3": sweep.HoldPartial},
		},
		"too many with those that a silent account had": {
			silent(earlier(look(machine(1), machine(2)), sweep.Earlier{ProjectID: "q", Hold: sweep.HoldMany}), "q"),
			map[string]sweep.Hold{"i-1": sweep.HoldMany, "i-2": sweep.HoldMany},
		},
		"a silent account hides a former tag": {
			silent(earlier(look(machine(1)), sweep.Earlier{ProjectID: "q", Hold: sweep.HoldFormer}), "q"), map[string]sweep.Hold{"i-1": sweep.HoldOthers},
		},
		"a silent account had one that is to end": {
			silent(earlier(look(machine(1), machine(2)), sweep.Earlier{ProjectID: "q", Hold: sweep.HoldFormer, Confirmed: true}), "q"),
			map[string]sweep.Hold{"i-1": "", "i-2": ""},
		},
		"known machines of a silent account raise no limit": {func() sweep.Look {
			l := silent(look(machine(1)), "q")
			for i := range 11 {
				l.Known[i].ProjectID = "q"
			}
			return l
		}(), map[string]sweep.Hold{"i-1": sweep.HoldMany}},
		"shared with a project whose account is silent": {
			silent(look(machine(1, of("q")), machine(1)), "q"), map[string]sweep.Hold{"i-1": ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := sweep.Decide(c.look)
			if len(got) != len(c.want) {
				t.Fatalf("%d strays: %+v", len(got), got)
			}
			for _, s := range got {
				if want, there := c.want[s.ID]; !there || s.Hold != want {
					t.Errorf("%s: held because of %q, want %q", s.ID, s.Hold, want)
				}
			}
		})
	}
}
