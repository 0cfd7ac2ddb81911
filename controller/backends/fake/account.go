package fake

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"dstack/controller/backends"
)

// Account is a customer of the cloud. It implements [backends.Backend] and all
// powers.
type Account struct{ cloud *Cloud }

var (
	_ backends.Backend         = (*Account)(nil)
	_ backends.Volumes         = (*Account)(nil)
	_ backends.PlacementGroups = (*Account)(nil)
	_ backends.Reservations    = (*Account)(nil)
	_ backends.Remains         = (*Account)(nil)
)

func fail(kind backends.Kind, op, region, format string, args ...any) error {
	return &backends.Error{Kind: kind, Backend: Type, Op: op, Region: region, Message: fmt.Sprintf(format, args...)}
}

// act is one call: its faults, then what it does, under the lock.
func (a *Account) act(ctx context.Context, op, region, machineType string, do func() error) error {
	if err := ctx.Err(); err != nil {
		return &backends.Error{Kind: backends.Transient, Backend: Type, Op: op, Region: region, Message: "the call was given up", Err: err}
	}
	before, after := a.cloud.strike(op, region, machineType)
	if before != nil {
		return before
	}
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	if err := do(); err != nil {
		return err
	}
	return after
}

// Offers is that of [backends.Backend].
func (a *Account) Offers(ctx context.Context) (out []backends.Offer, err error) {
	err = a.act(ctx, "offers", "", "", func() error {
		out = a.cloud.types()
		return nil
	})
	return out, err
}

// Create is that of [backends.Backend].
func (a *Account) Create(ctx context.Context, spec backends.MachineSpec) (out backends.Machine, err error) {
	var started *backends.Machine
	err = a.act(ctx, "create", spec.Region, spec.Type, func() error {
		if m := a.byToken(spec.Token); m != nil {
			out, _ = a.cloud.look(m)
			return nil
		}
		if err := a.cloud.check(spec); err != nil {
			return err
		}
		out = a.cloud.start(spec).Machine
		m := out
		started = &m
		out.State, out.Address, out.Internal = backends.MachinePending, "", ""
		return nil
	})
	if started != nil && a.cloud.cfg.Started != nil {
		a.cloud.cfg.Started(*started, spec.UserData)
	}
	if err != nil {
		return backends.Machine{}, err
	}
	return out, nil
}

func (c *Cloud) check(spec backends.MachineSpec) error {
	if !slices.Contains(c.cfg.Regions, spec.Region) {
		return fail(backends.Config, "create", spec.Region, "region %q does not exist", spec.Region)
	}
	if !slices.ContainsFunc(c.types(), func(o backends.Offer) bool { return o.Instance.Name == spec.Type }) {
		return fail(backends.BadRequest, "create", spec.Region, "machine type %q does not exist", spec.Type)
	}
	if spec.PlacementGroup != "" && !c.groups[spec.Region+"/"+spec.PlacementGroup] {
		return fail(backends.NotFound, "create", spec.Region, "placement group %q does not exist", spec.PlacementGroup)
	}
	same := 0
	for _, m := range c.machines {
		if m.deleted.IsZero() && m.Type == spec.Type && m.Region == spec.Region {
			same++
		}
	}
	if c.cfg.Capacity > 0 && same >= c.cfg.Capacity {
		return fail(backends.NoCapacity, "create", spec.Region, "no %s is free", spec.Type)
	}
	return nil
}

func (c *Cloud) start(spec backends.MachineSpec) *machine {
	m := &machine{userData: spec.UserData, group: spec.PlacementGroup, pace: Pace{c.cfg.Boot, c.cfg.Stop, c.cfg.Hidden, c.cfg.Shown}}
	if c.cfg.Pace != nil {
		m.pace = c.cfg.Pace(spec)
	}
	m.ID, m.Token, m.Region = c.nextID("machine"), spec.Token, spec.Region
	m.Name, m.Type, m.Spot, m.Tags = spec.Name, spec.Type, spec.Spot, maps.Clone(spec.Tags)
	m.Zone = spec.Region + "a"
	if len(spec.Zones) > 0 {
		m.Zone = spec.Zones[0]
	}
	m.Address, m.Internal = fmt.Sprintf("192.0.2.%d", c.seq%250+1), fmt.Sprintf("10.0.%d.%d", c.seq/250, c.seq%250+1)
	m.SSHPort, m.User = 22, "ubuntu"
	m.CreatedAt = c.cfg.Now()
	c.machines[m.ID] = m
	return m
}

// byToken is the machine of a token; the caller holds the lock.
func (a *Account) byToken(token string) *machine {
	for _, m := range a.cloud.machines {
		if m.Token == token {
			return m
		}
	}
	return nil
}

func (a *Account) byRef(ref backends.Ref) *machine {
	if ref.ID == "" {
		return a.byToken(ref.Token)
	}
	return a.cloud.machines[ref.ID]
}

// Describe is that of [backends.Backend].
func (a *Account) Describe(ctx context.Context, ref backends.Ref) (out backends.Machine, err error) {
	err = a.act(ctx, "describe", ref.Region, "", func() error {
		if m := a.byRef(ref); m != nil {
			seen, shown := a.cloud.look(m)
			if shown {
				out = seen
				return nil
			}
		}
		return fail(backends.NotFound, "describe", ref.Region, "machine %s does not exist", cmp.Or(ref.ID, ref.Token))
	})
	return out, err
}

// Delete is that of [backends.Backend].
func (a *Account) Delete(ctx context.Context, ref backends.Ref) error {
	var gone *backends.Machine
	err := a.act(ctx, "delete", ref.Region, "", func() error {
		if m := a.byRef(ref); m != nil && m.deleted.IsZero() {
			m.deleted = a.cloud.cfg.Now()
			a.cloud.detachAll(m.ID)
			copied := m.Machine
			gone = &copied
		}
		return nil
	})
	if gone != nil {
		a.cloud.ended(*gone)
	}
	return err
}

// List is that of [backends.Backend]. It asks page by page, so a fault may
// strike in the middle.
func (a *Account) List(ctx context.Context, server string) ([]backends.Machine, error) {
	var out []backends.Machine
	for _, region := range a.cloud.cfg.Regions {
		for from, more := "", true; more; {
			var page []backends.Machine
			err := a.act(ctx, "list", region, "", func() error {
				page, more = a.cloud.page(region, server, from)
				return nil
			})
			if err != nil {
				return out, err
			}
			if len(page) > 0 {
				from = page[len(page)-1].ID
			}
			out = append(out, page...)
		}
	}
	return out, nil
}

// page is the machines of a region behind the id from; the caller holds the lock.
func (c *Cloud) page(region, server, from string) (page []backends.Machine, more bool) {
	for _, id := range slices.Sorted(maps.Keys(c.machines)) {
		m := c.machines[id]
		if id <= from || m.Region != region || m.Tags[backends.TagServer] != server {
			continue
		}
		seen, shown := c.look(m)
		if !shown {
			continue
		}
		if len(page) == pageSize {
			return page, true
		}
		page = append(page, seen)
	}
	return page, false
}
