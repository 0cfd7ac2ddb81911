package fake

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"dstack/controller/backends"
	"dstack/protocol/api"
)

// Type is the type of the backend on the wire.
const Type = "dstack"

// pageSize is how many machines the cloud lists at once.
const pageSize = 5

// Config is how a cloud behaves. The zero value answers at once and truly.
type Config struct {
	// Now is the cloud's clock.
	Now func() time.Time
	// Boot is how long a machine is pending, Stop how long it is stopping.
	Boot, Stop time.Duration
	// Hidden is how long a new machine is not shown yet, Shown how long one that
	// is gone still is.
	Hidden, Shown time.Duration
	// Pace, if set, decides these four for each new machine.
	Pace func(spec backends.MachineSpec) Pace
	// Regions are the cloud's; the default is one.
	Regions []string
	// Capacity is how many machines of a type a region has; 0 is no limit.
	Capacity int
	// Started is called with each new machine, Ended when it goes: a test puts
	// a real host behind it. Both are called without locks.
	Started func(m backends.Machine, userData string)
	Ended   func(m backends.Machine)
}

// Pace is how long a machine takes for what happens to it: see [Config].
type Pace struct{ Boot, Stop, Hidden, Shown time.Duration }

// Cloud is the provider.
type Cloud struct {
	cfg Config

	mu        sync.Mutex
	seq       int
	machines  map[string]*machine // by id
	volumes   map[string]*volume
	groups    map[string]bool // region/name
	reserved  []backends.Reservation
	addresses []address
	faults    []*Fault
	calls     map[string]int
}

type machine struct {
	backends.Machine

	pace     Pace
	userData string
	group    string
	deleted  time.Time // zero while it lives
}

type volume struct {
	backends.Volume

	server string
	made   time.Time
}

type address struct {
	backends.Address

	server string
}

// New makes a cloud without machines.
func New(cfg Config) *Cloud {
	if len(cfg.Regions) == 0 {
		cfg.Regions = []string{"region-1"}
	}
	return &Cloud{
		cfg: cfg, machines: map[string]*machine{}, volumes: map[string]*volume{}, groups: map[string]bool{}, calls: map[string]int{},
	}
}

// Open is an account of the cloud.
func (c *Cloud) Open() *Account { return &Account{cloud: c} }

// Alive are the machines that cost money now, whatever the cloud shows.
func (c *Cloud) Alive() []backends.Machine {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []backends.Machine
	for _, m := range c.machines {
		if m.deleted.IsZero() {
			out = append(out, m.Machine)
		}
	}
	slices.SortFunc(out, func(a, b backends.Machine) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Left are the machines that are not gone yet, those that are stopping
// included, whatever the cloud shows.
func (c *Cloud) Left() []backends.Machine {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []backends.Machine
	for _, m := range c.machines {
		if seen, _ := c.look(m); m.deleted.IsZero() || c.cfg.Now().Before(m.deleted.Add(m.pace.Stop)) {
			out = append(out, seen)
		}
	}
	slices.SortFunc(out, func(a, b backends.Machine) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Reserve makes a reservation.
func (c *Cloud) Reserve(r backends.Reservation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reserved = append(c.reserved, r)
}

// Leave adds an address that outlived its machine.
func (c *Cloud) Leave(server string, a backends.Address) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addresses = append(c.addresses, address{a, server})
}

// Groups are the placement groups, as REGION/NAME.
func (c *Cloud) Groups() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.groups))
}

// Volumes are those that cost money now.
func (c *Cloud) Volumes() []backends.Volume {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []backends.Volume
	for _, v := range c.volumes {
		seen := v.Volume
		seen.Attached = slices.Clone(v.Attached)
		out = append(out, seen)
	}
	slices.SortFunc(out, func(a, b backends.Volume) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Calls is how often an operation arrived, faults included.
func (c *Cloud) Calls(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[op]
}

// UserData is what a machine was started with.
func (c *Cloud) UserData(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.machines[id]; m != nil {
		return m.userData
	}
	return ""
}

// Reclaim takes a machine away, as a cloud does with spot machines.
func (c *Cloud) Reclaim(id string) { c.take(id, true, "reclaimed") }

// Kill ends a machine as a person does in the cloud's console.
func (c *Cloud) Kill(id string) { c.take(id, false, "ended by a person") }

func (c *Cloud) take(id string, interrupted bool, reason string) {
	c.mu.Lock()
	m := c.machines[id]
	if m == nil || !m.deleted.IsZero() {
		c.mu.Unlock()
		return
	}
	m.Interrupted, m.Reason, m.deleted = interrupted, reason, c.cfg.Now()
	c.detachAll(id)
	gone := m.Machine
	c.mu.Unlock()
	c.ended(gone)
}

func (c *Cloud) ended(m backends.Machine) {
	if c.cfg.Ended != nil {
		c.cfg.Ended(m)
	}
}

// types are what the cloud has, with prices in USD per hour.
func (c *Cloud) types() []backends.Offer {
	var out []backends.Offer
	for _, region := range c.cfg.Regions {
		for _, t := range []struct {
			name        string
			cpus, mem   int
			gpus        int
			price, spot float64
		}{
			{"small", 2, 8, 0, 0.1, 0.03},
			{"large", 8, 32, 0, 0.4, 0.12},
			{"gpu", 8, 64, 1, 1.5, 0.5},
			{"gpus", 32, 256, 8, 12, 4},
		} {
			for _, spot := range []bool{false, true} {
				out = append(out, offer(region, t.name, t.cpus, t.mem, t.gpus, spot, t.price, t.spot))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b backends.Offer) int { return cmp.Compare(a.Price, b.Price) })
	return out
}

func offer(region, name string, cpus, mem, gpus int, spot bool, price, spotPrice float64) backends.Offer {
	arch, vendor := "x86", "nvidia"
	o := backends.Offer{DiskMin: 10, DiskMax: 1000, PriceSource: "the fake cloud"}
	o.Backend, o.Region, o.Price = Type, region, price
	if spot {
		o.Price = spotPrice
	}
	o.Availability, o.AvailabilityZones = "available", []string{region + "a", region + "b"}
	o.InstanceRuntime, o.Blocks, o.TotalBlocks = "shim", 1, 1
	o.BackendData = map[string]any{}
	o.Instance = api.InstanceType{Name: name, Resources: api.Resources{
		CPUs: cpus, MemoryMiB: mem << 10, Spot: spot, CPUArch: &arch, GPUs: []api.GPU{},
	}}
	for range gpus {
		o.Instance.Resources.GPUs = append(o.Instance.Resources.GPUs, api.GPU{Name: "L4", MemoryMiB: 24 << 10, Vendor: &vendor})
	}
	return o
}

// look is what the cloud shows of a machine now; the caller holds the lock.
func (c *Cloud) look(m *machine) (backends.Machine, bool) {
	now, out := c.cfg.Now(), m.Machine
	out.Tags = maps.Clone(m.Tags)
	if now.Before(m.CreatedAt.Add(m.pace.Hidden)) {
		return out, false
	}
	switch {
	case !m.deleted.IsZero() && now.Before(m.deleted.Add(m.pace.Stop)):
		out.State = backends.MachineStopping
	case !m.deleted.IsZero():
		out.State = backends.MachineGone
		return out, now.Before(m.deleted.Add(m.pace.Stop + m.pace.Shown))
	case now.Before(m.CreatedAt.Add(m.pace.Boot)):
		out.State, out.Address, out.Internal = backends.MachinePending, "", ""
	default:
		out.State = backends.MachineRunning
	}
	return out, true
}

func (c *Cloud) nextID(prefix string) string {
	c.seq++
	return fmt.Sprintf("%s-%06d", prefix, c.seq)
}
