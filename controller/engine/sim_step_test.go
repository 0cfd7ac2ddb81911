package engine

import (
	"errors"
	"slices"
	"time"

	"dstack/controller/store"
	"dstack/protocol/hostapi"
)

// moves lists everything that could happen now.
func (w *world) moves() []func() {
	var m []func()
	e := w.engine
	for i := range min(e.queue.len(), 4) {
		m = append(m, func() { w.read(i) })
	}
	for i := range w.plans {
		m = append(m, func() { w.commit(i) })
	}
	for i := range w.flights {
		m = append(m, func() { w.deliver(i) })
	}
	for i := range w.answers {
		m = append(m, func() { w.reply(i) })
	}
	for _, x := range w.wanted {
		m = append(m, w.linkMoves(x)...)
	}
	for i := range w.late {
		m = append(m, func() { w.arriveLate(i) })
	}
	if w.sweeper != nil && !w.clock.Before(w.nextSweep) {
		m = append(m, w.sweep)
	}
	if w.clouds != nil && !w.clouds.arrived {
		m = append(m, w.clouds.arrive)
	}
	for _, h := range w.hosts {
		m = append(m, w.hostMoves(h)...)
	}
	return m
}

func (w *world) linkMoves(x *wanted) []func() {
	switch {
	case x.down:
		return []func(){func() { w.tellDown(x) }}
	case x.hello != nil:
		return []func(){func() { w.tellHello(x) }}
	case !x.up && w.reachable(x.host):
		return []func(){func() { w.connect(x) }}
	case !x.up && !x.told:
		x.down = true
		return []func(){func() { w.tellDown(x) }}
	case x.up && x.host.notice != nil && !x.noticed:
		return []func(){func() { w.tellNotice(x) }}
	case x.up && !x.host.cut && slices.ContainsFunc(x.host.journal, func(ev hostapi.Event) bool { return ev.Seq > x.seq }):
		return []func(){func() { w.event(x) }}
	}
	return nil
}

// read takes a key and decides; the commit comes later, maybe after others'.
func (w *world) read(i int) {
	key, ok := w.engine.queue.take(i)
	if !ok {
		return
	}
	p, err := w.engine.plan(w.ctx(), key)
	if err != nil {
		w.guard("plan", err)
		return
	}
	w.notef("decide %s %s", key.Kind, key.ID[30:])
	if next := p.decision.next; !next.IsZero() && !next.After(w.clock) {
		w.failf("%s %s is to be looked at again at once, for ever", key.Kind, short(key.ID))
	}
	w.plans = append(w.plans, p)
	if !w.chance(4) {
		w.commit(len(w.plans) - 1)
	}
}

func (w *world) commit(i int) {
	p := w.plans[i]
	w.plans = slices.Delete(w.plans, i, i+1)
	w.arm()
	err := w.engine.commit(w.ctx(), p)
	w.disarm()
	w.notef("commit %s %s: %v", p.key.Kind, p.key.ID[30:], err)
	if errors.Is(err, store.ErrConflict) {
		w.engine.queue.push(p.key) // what Step does: decide again
		err = nil
	}
	if err != nil {
		w.guard("commit", err)
		return
	}
	w.engine.queue.done(p.key)
}

// deliver brings an effect to its host. The request or its answer may be lost.
func (w *world) deliver(i int) {
	f := w.flights[i]
	w.flights = slices.Delete(w.flights, i, i+1)
	a := answer{effect: f.effect, outcome: Outcome{Err: errLost}}
	stale := f.effect.needsHost() && f.epoch != w.epoch(f.effect.InstanceID)
	switch {
	case w.delays(f.effect):
		w.notef("late request %s", f.effect.Kind)
	case stale || w.fault(12):
		w.notef("lost request %s %s", f.effect.Kind, short(f.effect.TaskID))
	default:
		a.outcome = w.engine.Perform(w.ctx(), f.effect)
		w.notef("do %s %s: %v", f.effect.Kind, short(f.effect.TaskID), a.outcome.Err)
		if w.fault(8) {
			w.notef("lost answer")
			a.outcome = Outcome{Err: errLost}
		}
	}
	w.answers = append(w.answers, a)
}

func short(id string) string {
	if len(id) < 30 {
		return id
	}
	return id[30:]
}

func (w *world) reply(i int) {
	a := w.answers[i]
	w.answers = slices.Delete(w.answers, i, i+1)
	if w.mistake != nil && a.effect.onCloud() {
		a.outcome = w.mistake(w, a.effect, a.outcome)
	}
	w.arm()
	w.engine.Finish(w.ctx(), a.effect, a.outcome)
	crashed := w.crashes.before || w.crashes.after || w.crashes.struck
	w.disarm()
	w.notef("answer %s %s: %v", a.effect.Kind, short(a.effect.TaskID), a.outcome.Err)
	if crashed {
		w.notef("crash in answer")
		w.boot()
	}
}

func (w *world) connect(x *wanted) {
	h := x.host
	w.checkKey(x)
	if !h.installed {
		h.installed = true
		h.installs++
	}
	if !x.known {
		x.seq, x.hostID, x.known = x.target.Seq, x.target.HostID, true
	}
	if x.hostID != h.hostID() {
		x.seq, x.hostID = 0, h.hostID()
	}
	hello := h.hello()
	x.hello = &hello
	x.epoch++
	w.notef("connect %s", h.name)
}

func (w *world) tellHello(x *wanted) {
	hello := *x.hello
	x.hello = nil
	w.arm()
	err := w.engine.HostUp(w.ctx(), x.target.InstanceID, hello)
	w.disarm()
	w.notef("up %s %d tasks: %v", x.host.name, len(hello.Tasks), err)
	if err != nil {
		w.guard("host up", err)
		return
	}
	x.up, x.told = true, false
}

func (w *world) tellDown(x *wanted) {
	x.down = false
	w.arm()
	err := w.engine.HostDown(w.ctx(), x.target.InstanceID, &hostapi.Problem{Code: "unreachable", Message: "no route", Remedy: "look"})
	w.disarm()
	w.notef("down %s: %v", x.host.name, err)
	if err != nil {
		w.guard("host down", err)
		return
	}
	x.told = true
}

// event hands over the next event, sometimes once more one that is known.
func (w *world) event(x *wanted) {
	next := slices.IndexFunc(x.host.journal, func(ev hostapi.Event) bool { return ev.Seq > x.seq })
	if next > 0 && w.fault(5) {
		next = w.pick(next)
	}
	ev := x.host.journal[next]
	w.arm()
	err := w.engine.TaskChanged(w.ctx(), x.target.InstanceID, ev.Seq, *ev.Task)
	w.disarm()
	w.notef("event %s %d %s %s: %v", x.host.name, ev.Seq, short(ev.Task.ID), ev.Task.State, err)
	if err != nil {
		w.guard("event", err)
		return
	}
	x.seq = max(x.seq, ev.Seq)
	if w.chance(2) { // the acknowledgement may come late
		acked := x.seq
		x.host.journal = slices.DeleteFunc(x.host.journal, func(ev hostapi.Event) bool { return ev.Seq <= acked })
	}
}

func (w *world) progress(h *simHost, t *simTask) {
	started := h.progress(t)
	w.notef("task %s %s", short(t.ID), t.State)
	if started && t.job != "" {
		w.starts[t.job] = append(w.starts[t.job], h)
		w.checkOrder(t.job)
	}
}

// breakSomething lets something fail.
func (w *world) breakSomething() {
	if w.cloud != nil && w.chance(2) {
		w.cloud.disturb(w)
		return
	}
	h := w.someHost()
	switch w.pick(6) {
	case 0:
		w.notef("server killed")
		w.boot()
		return
	case 1, 2:
		w.notef("cut %s", h.name)
		h.cut = true
	case 3:
		w.notef("reboot %s", h.name)
		h.reboot()
	case 4:
		w.notef("shim of %s killed", h.name)
	case 5:
		if w.chance(2) {
			w.notef("shim of %s reinstalled", h.name)
			h.wipe()
		}
	}
	w.drop(h)
}

// someHost is one that is there, maybe only for the sake of the argument.
func (w *world) someHost() *simHost {
	alive := slices.DeleteFunc(slices.Clone(w.hosts), func(h *simHost) bool { return h.dead })
	if len(alive) == 0 {
		return &simHost{name: "none", gone: map[string]bool{}}
	}
	return alive[w.pick(len(alive))]
}

// drop ends the connection to a host.
func (w *world) drop(h *simHost) {
	for _, x := range w.wanted {
		if x.host == h && (x.up || x.hello != nil) {
			x.down, x.up, x.hello = true, false, nil
			x.epoch++
		}
	}
}

// pass lets time go by: to the next timer, or a while.
func (w *world) pass(limit time.Duration) {
	e := w.engine
	due, next, _ := e.timers.due(w.clock)
	if len(due) == 0 {
		to := w.clock.Add(limit)
		if !next.IsZero() && next.Before(to) {
			to = next
		}
		if boot := w.nextBoot(); !boot.IsZero() && boot.Before(to) {
			to = boot
		}
		w.clock = to
		if w.cloud != nil {
			w.cloud.setClock(to)
		}
		due, _, _ = e.timers.due(w.clock)
	}
	e.queue.push(due...)
	w.notef("time, %d due", len(due))
}

// step lets one thing happen.
func (w *world) step() {
	w.steps++
	if w.fault(25) {
		w.breakSomething()
		return
	}
	if !w.calm && w.chance(10) {
		for _, h := range w.hosts {
			h.cut = false
		}
	}
	m := w.moves()
	if len(m) == 0 || !w.calm && w.chance(20) {
		w.pass(time.Duration(1+w.pick(60)) * time.Second)
		return
	}
	m[w.pick(len(m))]()
}
