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
	var strays []store.Stray
	for _, x := range Decide(look) {
		strays = append(strays, rowOf(&x))
	}
	strays = append(strays, DecideRemains(look)...)
	for _, x := range strays {
		n := slices.IndexFunc(before, func(o store.Stray) bool { return o.Backend == x.Backend && o.MachineID == x.MachineID })
		if n < 0 {
			x.ID, x.FoundAt = s.opts.NewID(), look.Now
			c.fresh, c.told, c.now = append(c.fresh, x), append(c.told, x), append(c.now, x)
			continue
		}
		row := before[n]
		old := row
		row.ProjectID, row.Found, row.Hold = x.ProjectID, x.Found, x.Hold
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

func rowOf(x *Stray) store.Stray {
	return store.Stray{ProjectID: x.ProjectID, Backend: x.Backend, MachineID: x.ID, Hold: string(x.Hold), Found: store.StrayMachine{
		Region: x.Region, Zone: x.Zone, Token: x.Token, Data: x.Data, Server: x.Server, Name: x.Name, Type: x.Type, Spot: x.Spot,
		CreatedAt: x.CreatedAt.UTC(), Price: x.Price,
	}}
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
		text := Describe(&x) + " " + wordsOf(&x).lost + ". "
		if x.Hold == "" {
			text += "It is being " + wordsOf(&x).ended
		} else {
			text += "It goes on, because " + Hold(x.Hold).Sentence() + ". See `dstack server sweep`"
		}
		add(x, text)
	}
	for _, x := range c.gone {
		add(x, Describe(&x)+", which "+wordsOf(&x).was+", is gone")
	}
	return out
}

func (s *Sweeper) event(now time.Time, x *store.Stray, text string) store.Event {
	return store.Event{
		ID: s.opts.NewID(), RecordedAt: now, Message: text,
		Targets: []store.EventTarget{{Type: "project", ProjectID: &x.ProjectID, ID: x.ProjectID}},
	}
}

// words are how a kind of stray is spoken of.
type words struct{ name, lost, was, ended string }

func wordsOf(x *store.Stray) words {
	switch x.Found.Kind {
	case KindVolume:
		return words{"Volume", "is in no project", "was in no project", "deleted"}
	case KindAddress:
		return words{"Address", "outlived its machine", "outlived its machine", "given back"}
	}
	return words{"Machine", "is in no fleet", "was in no fleet", "ended"}
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
	return fmt.Sprintf("%s %s of %s (%s)", wordsOf(x).name, x.MachineID, x.Backend, strings.Join(parts, ", "))
}
