package engine

import (
	"fmt"
	"slices"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

// simCloud is a cloud with everything that goes wrong in clouds. Several
// servers may have an account in it. Its machines are hosts of the world whose
// server made them.
type simCloud struct {
	fake   *fake.Cloud
	now    time.Time
	worlds []*world
	storms []storm
	// caller is the world whose call is being answered, course what is in store
	// for the machine that the call makes.
	caller *world
	course course
	// lost are the calls whose first answer was lost already.
	lost map[string]bool
	// calls counts them; loseNum, killNum and lateNum are those of which the
	// answer is lost, at which the server is killed before it hears of it, or
	// before which it is killed, the request still being on its way.
	calls, made, loseNum, killNum, lateNum int
}

// storm is a fault that lasts for a while.
type storm struct {
	fault fake.Fault
	until time.Time
}

// course is what becomes of a machine.
type course struct {
	boot time.Duration
	// deaf machines run and are never reached; stillborn ones end as soon as
	// they run.
	deaf, stillborn bool
}

// never is longer than any simulation.
const never = 10000 * time.Hour

func newSimCloud(w *world) *simCloud {
	c := &simCloud{now: w.clock, lost: map[string]bool{}}
	cfg := fake.Config{
		Now: func() time.Time { return c.now }, Regions: []string{"region-1", "region-2"},
		Pace: c.pace, Started: c.started, Ended: c.ended,
	}
	if w.chance(4) {
		cfg.Capacity = 1 + w.pick(3)
	}
	c.fake = fake.New(cfg)
	return c
}

func (w *world) seconds(n int) time.Duration { return time.Duration(w.pick(n)) * time.Second }

// pace decides how a new machine takes its time, and what becomes of it.
func (c *simCloud) pace(backends.MachineSpec) fake.Pace {
	w := c.caller
	p := fake.Pace{Boot: w.seconds(40), Stop: w.seconds(60), Shown: time.Hour}
	if w.chance(3) {
		p.Hidden = w.seconds(20)
	}
	if w.chance(3) {
		p.Shown = 0
	}
	c.course = course{}
	switch {
	case w.fault(12):
		p.Boot = time.Minute + w.seconds(480)
	case w.fault(20):
		p.Boot = never
	case w.fault(20):
		c.course.deaf = true
	case w.fault(20):
		c.course.stillborn = true
	case w.fault(20):
		p.Stop = 30 * time.Minute
	}
	c.course.boot = p.Boot
	return p
}

// world is that of the server to which a machine belongs.
func (c *simCloud) world(m backends.Machine) *world {
	i := slices.IndexFunc(c.worlds, func(w *world) bool { return w.tags[m.Tags[backends.TagServer]] })
	if i < 0 {
		return nil
	}
	return c.worlds[i]
}

func (c *simCloud) started(m backends.Machine, userData string) {
	w := c.world(m)
	if w == nil {
		c.caller.failf("machine %s has no owner: %v", m.ID, m.Tags)
		return
	}
	h := &simHost{name: m.Address, gone: map[string]bool{}, blocks: 1, machine: &m, userData: userData}
	for _, i := range w.instances() {
		if i.Machine != nil && i.Machine.Token == m.Token {
			h.blocks = max(i.BlocksWanted.Count, 1)
		}
	}
	h.boots = c.now.Add(c.course.boot).Add(w.seconds(20))
	if c.course.deaf {
		h.boots = c.now.Add(never)
	}
	if c.course.stillborn {
		h.dies = c.now.Add(c.course.boot)
	}
	w.hosts = append(w.hosts, h)
	c.made++
}

func (c *simCloud) ended(m backends.Machine) {
	w := c.world(m)
	if w == nil {
		return
	}
	for _, h := range w.hosts {
		if h.machine != nil && h.machine.ID == m.ID {
			h.dead = true
			w.drop(h)
		}
	}
}

// call lets a world's server ask the cloud; something may go wrong with it.
func (c *simCloud) call(w *world, op, token string, act func() error) error {
	c.caller = w
	for _, s := range c.storms {
		if !w.calm && c.now.Before(s.until) {
			c.fake.Inject(s.fault)
		}
	}
	if f, wrong := c.mishap(w, op, token); wrong {
		f.Op, f.Times = op, 1
		c.fake.Inject(f)
	}
	if c.calls++; c.calls == c.loseNum {
		c.fake.Inject(fake.Fault{Op: op, Times: 1, Lost: true})
	}
	err := act()
	c.fake.Heal()
	w.killed = w.killed || c.calls == c.killNum
	w.notef("cloud %s %s: %v", op, short(token), err)
	return err
}

// mishap is what goes wrong with one call, if anything does.
func (c *simCloud) mishap(w *world, op, token string) (fake.Fault, bool) {
	if first := op + token; w.loseFirst && !c.lost[first] {
		c.lost[first] = true
		return fake.Fault{Lost: true}, true
	}
	wrong := func(kind backends.Kind) fake.Fault {
		return fake.Fault{Err: backends.Error{Kind: kind, Message: string(kind)}}
	}
	switch {
	case w.fault(12):
		return fake.Fault{Lost: true}, true
	case w.fault(15):
		return wrong(backends.Transient), true
	case w.fault(20):
		return wrong(backends.Throttled), true
	case op == "create" && w.fault(12):
		return wrong(backends.NoCapacity), true
	case op == "create" && w.fault(20):
		return wrong(backends.BadRequest), true
	}
	return fake.Fault{}, false
}

// storm lets something go wrong for a while.
func (c *simCloud) storm(w *world) {
	kinds := []fake.Fault{
		{Op: "create", Err: backends.Error{Kind: backends.NoCapacity}},
		{Op: "create", Region: "region-1", Err: backends.Error{Kind: backends.NoCapacity}},
		{Op: "create", MachineType: "small", Err: backends.Error{Kind: backends.NoCapacity}},
		{Op: "create", Err: backends.Error{Kind: backends.Quota, Family: "small"}},
		{Op: "create", Err: backends.Error{Kind: backends.Permission, Permission: "ec2:RunInstances"}},
		{Op: "create", Lost: true},
		{Op: "create", Err: backends.Error{Kind: backends.Unsupported}},
		{Op: "delete", Err: backends.Error{Kind: backends.Permission, Permission: "ec2:TerminateInstances"}},
		{Op: "delete", Lost: true},
		{Op: "describe", Err: backends.Error{Kind: backends.Throttled}},
		{Err: backends.Error{Kind: backends.Auth}},
		{Err: backends.Error{Kind: backends.Config, Field: []string{"regions"}}},
		{Err: backends.Error{Kind: backends.Throttled}},
		{Err: backends.Error{Kind: backends.Transient}},
	}
	s := storm{fault: kinds[w.pick(len(kinds))], until: c.now.Add(10*time.Second + w.seconds(900))}
	s.fault.Err.Message = string(s.fault.Err.Kind)
	c.storms = append(c.storms, s)
	w.notef("storm until %s: %s%s %s lost=%v", s.until.Format(time.TimeOnly), s.fault.Op, s.fault.Region, s.fault.Err.Kind, s.fault.Lost)
}

func (c *simCloud) disturb(w *world) {
	if w.chance(2) {
		c.storm(w)
	} else {
		c.take(w)
	}
}

// setClock lets all servers and the cloud have the same time.
func (c *simCloud) setClock(at time.Time) {
	c.now = at
	for _, w := range c.worlds {
		w.clock = at
	}
}

// take lets the cloud take a machine back, or a person end it.
func (c *simCloud) take(w *world) {
	var alive []backends.Machine
	for _, m := range c.fake.Alive() {
		if c.world(m) == w {
			alive = append(alive, m)
		}
	}
	if len(alive) == 0 {
		return
	}
	m := alive[w.pick(len(alive))]
	h := w.hostOf(m.ID)
	w.notef("take %s spot=%v", m.ID, m.Spot)
	switch {
	case m.Spot && h.notice == nil && w.chance(2):
		h.dies = c.now.Add(2 * time.Minute)
		h.notice = &hostapi.Notice{Kind: hostapi.NoticeInterruption, Ends: h.dies}
	default:
		c.end(m)
	}
}

func (c *simCloud) end(m backends.Machine) {
	if m.Spot {
		c.fake.Reclaim(m.ID)
	} else {
		c.fake.Kill(m.ID)
	}
}

func (w *world) hostOf(machineID string) *simHost {
	i := slices.IndexFunc(w.hosts, func(h *simHost) bool { return h.machine != nil && h.machine.ID == machineID })
	if i < 0 {
		return nil
	}
	return w.hosts[i]
}

// tellNotice lets the shim say that the cloud takes its machine.
func (w *world) tellNotice(x *wanted) {
	w.arm()
	err := w.engine.HostInfo(w.ctx(), x.target.InstanceID, x.host.info())
	w.disarm()
	w.notef("notice %s: %v", x.host.name, err)
	if err != nil {
		w.guard("notice", err)
		return
	}
	x.noticed = true
}

// lastOrders is how long before the announced end a shim stops its jobs.
const lastOrders = 30 * time.Second

// reachable says whether SSH to the host gets through.
func (w *world) reachable(h *simHost) bool { return !h.cut && !h.dead && !w.clock.Before(h.boots) }

// hostMoves are what happens to a machine by itself.
func (w *world) hostMoves(h *simHost) []func() {
	var m []func()
	if h.dead {
		return nil
	}
	if !h.dies.IsZero() && !w.clock.Before(h.dies) {
		m = append(m, func() {
			w.notef("machine %s ends by itself", h.machine.ID)
			w.cloud.end(*h.machine)
		})
	}
	if h.notice != nil && !w.clock.Before(h.notice.Ends.Add(-lastOrders)) {
		for _, t := range h.live() {
			m = append(m, func() { h.end(t, string(api.ReasonInterrupted), "taken back", nil) })
		}
		return m
	}
	for _, t := range h.tasks {
		if h.movable(t) {
			m = append(m, func() { w.progress(h, t) })
		}
	}
	return m
}

// nextBoot is when the next machine to which a connection is wanted can be
// reached, or ends by itself; zero for none.
func (w *world) nextBoot() (next time.Time) {
	soon := func(at time.Time) {
		if at.After(w.clock) && at.Before(w.clock.Add(never/2)) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, h := range w.hosts {
		if h.dead || h.machine == nil {
			continue
		}
		soon(h.dies)
		if h.notice != nil {
			soon(h.notice.Ends.Add(-lastOrders))
		}
		if slices.ContainsFunc(w.wanted, func(x *wanted) bool { return x.host == h && !x.up }) {
			soon(h.boots)
		}
	}
	return next
}

// facts are what the shim of a machine says of it.
func (h *simHost) facts() hostapi.Host {
	host := hostapi.Host{
		Hostname: h.name, Arch: "amd64", CPUs: 8, MemoryBytes: 32 << 30, DiskBytes: 100 << 30, DiskFree: 80 << 30,
		Addresses: []string{h.machine.Internal + "/16"},
	}
	switch h.machine.Type {
	case "small":
		host.CPUs, host.MemoryBytes = 2, 8<<30
	case "gpu":
		host.MemoryBytes, host.GPUVendor = 64<<30, "nvidia"
		host.GPUs = []hostapi.GPU{{Name: "L4", MemoryBytes: 24 << 30}}
	case "gpus":
		host.CPUs, host.MemoryBytes, host.GPUVendor = 32, 256<<30, "nvidia"
		for n := range 8 {
			host.GPUs = append(host.GPUs, hostapi.GPU{ID: fmt.Sprint(n), Name: "L4", MemoryBytes: 24 << 30})
		}
	}
	return host
}
