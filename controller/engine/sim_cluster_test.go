package engine

import (
	"fmt"
	"slices"
	"time"

	"dstack/controller/store"
)

// cluster is one or more servers with accounts in one cloud, and one clock.
type cluster struct {
	*simCloud
	// each looks at everything after each step of a server.
	each func(*world)
}

func (c cluster) failed() bool {
	for _, w := range c.worlds {
		if w.failure != nil {
			return true
		}
	}
	return false
}

// story lets users and faults do their work for a while, then everything calm
// down and end.
func (c cluster) story(acts int) {
	for _, w := range c.worlds {
		w.createCloudFleet()
		if w.chance(2) {
			w.createVolume()
		}
	}
	if c.acts(acts); !c.failed() {
		c.calmDown()
	}
}

// acts lets users do so many things, and the servers a part of what follows.
func (c cluster) acts(acts int) {
	dice := c.worlds[0]
	for range acts {
		c.worlds[dice.pick(len(c.worlds))].cloudAct()
		for range 10 + dice.pick(80) {
			if c.step(c.worlds[dice.pick(len(c.worlds))]); c.failed() {
				return
			}
			if c.quiet() {
				break
			}
		}
	}
}

// quiet says that nothing will happen for a while.
func (c cluster) quiet() bool {
	for _, w := range c.worlds {
		_, next, _ := w.engine.timers.due(time.Time{})
		if len(w.moves()) > 0 || !next.IsZero() && next.Before(w.clock.Add(5*time.Minute)) {
			return false
		}
	}
	return true
}

// step lets one thing happen to a server.
func (c cluster) step(w *world) {
	w.step()
	if w.crashes.struck || w.killed {
		w.notef("crash")
		w.boot()
	}
	w.check()
	for _, o := range c.worlds {
		o.checkMachines()
	}
	c.each(w)
}

func (c cluster) all(do func(*world)) {
	for _, w := range c.worlds {
		before := w.boots
		do(w)
		if w.crashes.struck {
			w.notef("crash")
			w.boot()
		}
		if w.boots > before {
			do(w) // a user would try again
		}
	}
}

func (c cluster) calmDown() {
	c.all(func(w *world) {
		w.calm = true
		for _, h := range w.hosts {
			h.cut = false
		}
		w.notef("calm")
	})
	if !c.settle("after the faults") {
		return
	}
	c.all(func(w *world) {
		w.checkServices(true)
		w.checkRest()
		w.checkHeld()
		w.checkSizes()
	})
	c.all(func(w *world) { w.endAll() })
	if !c.settle("after all runs were stopped") {
		return
	}
	c.all(func(w *world) {
		w.checkEnd()
		w.checkHeld()
		w.checkIdle()
		w.checkPlaces()
	})
	c.all((*world).sweepOut)
	c.all(func(w *world) { w.deleteVolumes() })
	c.all(func(w *world) { w.deleteFleets() })
	if !c.settle("after all fleets were deleted") {
		return
	}
	c.all(func(w *world) { w.checkGone() })
	for _, v := range c.fake.Volumes() {
		if !c.strayVolume(v) {
			c.worlds[0].failf("volume %s is left when all is over", v.ID)
		}
	}
	for _, m := range c.fake.Left() {
		c.worlds[0].failf("machine %s (%s) is left when all is over", m.ID, m.State)
	}
}

func (w *world) deleteFleets() {
	for n := range w.fleets {
		name := fmt.Sprintf("fleet-%d", n+1)
		w.guard("delete "+name, w.engine.DeleteFleets(w.ctx(), w.user, w.project, []string{name}))
	}
}

// settle runs until nothing happens any more but the passing of time.
func (c cluster) settle(when string) bool {
	const most = 6000
	until := c.now.Add(30 * 24 * time.Hour)
	for n := 0; !c.failed(); n++ {
		if n == most {
			c.worlds[0].failf("does not come to rest %s", when)
			break
		}
		busy := false
		for _, w := range c.worlds {
			if len(w.moves()) > 0 {
				busy = true
				c.step(w)
			}
		}
		switch {
		case busy:
			continue
		case !slices.ContainsFunc(c.worlds, (*world).waiting):
			return true
		case c.now.After(until):
			c.worlds[0].failf("something waits for ever %s", when)
		}
		c.pass(time.Hour)
	}
	return false
}

// pass lets time go by for all: to what happens next, or a while.
func (c cluster) pass(limit time.Duration) {
	to := c.now.Add(limit)
	for _, w := range c.worlds {
		_, next, _ := w.engine.timers.due(time.Time{})
		for _, at := range []time.Time{next, w.nextBoot()} {
			if !at.IsZero() && at.Before(to) {
				to = at
			}
		}
	}
	if to.After(c.now) {
		c.setClock(to)
	}
	for _, w := range c.worlds {
		due, _, _ := w.engine.timers.due(w.clock)
		w.engine.queue.push(due...)
		w.notef("time, %d due", len(due))
	}
}

// instances are the rows of all instances, those of deleted fleets included.
func (w *world) instances() []store.Instance {
	var list []store.Instance
	err := w.store.Read(w.ctx(), func(tx *store.Tx) (err error) {
		list, err = tx.Instances(store.InstanceFilter{})
		return err
	})
	if err != nil {
		w.failf("list instances: %w", err)
	}
	return list
}
