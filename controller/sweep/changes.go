package sweep

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"dstack/controller/store"
)

// changes is what a sweep changes of the strays.
type changes struct {
	now, fresh, changed, gone, told []store.Stray
}

func (s *Sweeper) compare(look Look, before []store.Stray) changes {
	var c changes
	strays := Decide(look)
	for i := range strays {
		x := &strays[i]
		n := slices.IndexFunc(before, func(o store.Stray) bool { return o.Backend == x.Backend && o.MachineID == x.ID })
		if n < 0 {
			row := store.Stray{
				ID: s.opts.NewID(), ProjectID: x.ProjectID, Backend: x.Backend, MachineID: x.ID, FoundAt: look.Now, Hold: string(x.Hold), Found: foundOf(x),
			}
			c.fresh, c.told, c.now = append(c.fresh, row), append(c.told, row), append(c.now, row)
			continue
		}
		row := before[n]
		old := row
		row.ProjectID, row.Found, row.Hold = x.ProjectID, foundOf(x), string(x.Hold)
		if row.Found.Price == 0 {
			row.Found.Price = old.Found.Price
		}
		if !reflect.DeepEqual(old, row) {
			c.changed = append(c.changed, row)
		}
		if old.Hold != "" && row.Hold == "" {
			c.told = append(c.told, row)
		}
		c.now = append(c.now, row)
	}
	for _, o := range before {
		switch {
		case slices.ContainsFunc(c.now, func(x store.Stray) bool { return x.ID == o.ID }):
		case !look.answered(o):
			// Nobody knows: what is missing proves nothing.
			if o.ConfirmedAt != nil && o.Hold != "" {
				o.Hold = ""
				c.changed, c.told = append(c.changed, o), append(c.told, o)
			}
			c.now = append(c.now, o)
		default:
			c.gone = append(c.gone, o)
		}
	}
	return c
}

func foundOf(x *Stray) store.StrayMachine {
	return store.StrayMachine{
		Region: x.Region, Zone: x.Zone, Token: x.Token, Data: x.Data, Server: x.Server, Name: x.Name, Type: x.Type, Spot: x.Spot,
		CreatedAt: x.CreatedAt.UTC(), Price: x.Price,
	}
}

// events tell of each stray once that it was found, once that it is being
// ended, once that it is gone.
func (s *Sweeper) events(now time.Time, c changes) []store.Event {
	var out []store.Event
	add := func(x store.Stray, text string) {
		now = now.Add(time.Microsecond)
		out = append(out, s.event(now, &x, text))
	}
	for _, x := range c.told {
		text := Describe(&x) + " is in no fleet. "
		if x.Hold == "" {
			text += "It is being ended"
		} else {
			text += "It goes on, because " + Hold(x.Hold).Sentence() + ". See `dstack server sweep`"
		}
		add(x, text)
	}
	for _, x := range c.gone {
		add(x, Describe(&x)+", which was in no fleet, is gone")
	}
	return out
}

func (s *Sweeper) event(now time.Time, x *store.Stray, text string) store.Event {
	return store.Event{
		ID: s.opts.NewID(), RecordedAt: now, Message: text,
		Targets: []store.EventTarget{{Type: "project", ProjectID: &x.ProjectID, ID: x.ProjectID}},
	}
}

// Describe names a stray with what it costs.
func Describe(x *store.Stray) string {
	f := x.Found
	parts := []string{f.Type}
	if f.Spot {
		parts = append(parts, "spot")
	}
	parts = append(parts, f.Region)
	if f.Price > 0 {
		parts = append(parts, fmt.Sprintf("$%.4g an hour", f.Price))
	}
	if !f.CreatedAt.IsZero() {
		parts = append(parts, "since "+f.CreatedAt.Format(time.RFC3339))
	}
	return fmt.Sprintf("Machine %s of %s (%s)", x.MachineID, x.Backend, strings.Join(parts, ", "))
}
