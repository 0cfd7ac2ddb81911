package fake

import (
	"context"
	"maps"
	"slices"

	"dstack/controller/backends"
)

// device is the name under which machines see the first volume.
const device = "/dev/sdf"

// CreateVolume is that of [backends.Volumes].
func (a *Account) CreateVolume(ctx context.Context, spec backends.VolumeSpec) (out backends.Volume, err error) {
	err = a.act(ctx, "create volume", spec.Region, "", func() error {
		for _, v := range a.cloud.volumes {
			if v.Token == spec.Token {
				out = v.Volume
				return nil
			}
		}
		v := &volume{made: a.cloud.cfg.Now()}
		v.ID, v.Token, v.Region, v.Zone = a.cloud.nextID("volume"), spec.Token, spec.Region, spec.Zone
		if v.Zone == "" {
			v.Zone = spec.Region + "a"
		}
		v.SizeGB, v.Price, v.Name, v.CreatedAt, v.server = spec.SizeGB, float64(spec.SizeGB)/10, spec.Name, v.made, spec.Tags[backends.TagServer]
		a.cloud.volumes[v.ID] = v
		out = v.Volume
		return nil
	})
	return out, err
}

// find is a volume; the caller holds the lock.
func (a *Account) find(op string, ref backends.VolumeRef) (*volume, error) {
	for _, v := range a.cloud.volumes {
		if ref.ID != "" && v.ID == ref.ID || ref.ID == "" && v.Token == ref.Token {
			return v, nil
		}
	}
	return nil, fail(backends.NotFound, op, ref.Region, "volume %s does not exist", ref.ID)
}

// DescribeVolume is that of [backends.Volumes].
func (a *Account) DescribeVolume(ctx context.Context, ref backends.VolumeRef) (out backends.Volume, err error) {
	err = a.act(ctx, "describe volume", ref.Region, "", func() error {
		v, err := a.find("describe volume", ref)
		if err == nil {
			out = v.Volume
			out.Attached = slices.Clone(v.Attached)
		}
		return err
	})
	return out, err
}

// ListVolumes is that of [backends.Remains].
func (a *Account) ListVolumes(ctx context.Context, server string) (out []backends.Volume, err error) {
	for _, region := range a.cloud.cfg.Regions {
		err := a.act(ctx, "list volumes", region, "", func() error {
			for _, id := range slices.Sorted(maps.Keys(a.cloud.volumes)) {
				if v := a.cloud.volumes[id]; v.Region == region && v.server == server {
					out = append(out, v.Volume)
				}
			}
			return nil
		})
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// LooseAddresses is that of [backends.Remains].
func (a *Account) LooseAddresses(ctx context.Context, server string) (out []backends.Address, err error) {
	err = a.act(ctx, "list addresses", "", "", func() error {
		for _, x := range a.cloud.addresses {
			if m := a.cloud.machines[x.Machine]; x.server == server && (m == nil || !m.deleted.IsZero()) {
				out = append(out, x.Address)
			}
		}
		return nil
	})
	return out, err
}

// ReleaseAddress is that of [backends.Remains].
func (a *Account) ReleaseAddress(ctx context.Context, ref backends.Address) error {
	return a.act(ctx, "release address", ref.Region, "", func() error {
		a.cloud.addresses = slices.DeleteFunc(a.cloud.addresses, func(x address) bool { return x.ID == ref.ID })
		return nil
	})
}

// DeleteVolume is that of [backends.Volumes].
func (a *Account) DeleteVolume(ctx context.Context, ref backends.VolumeRef) error {
	return a.act(ctx, "delete volume", ref.Region, "", func() error {
		v, err := a.find("delete volume", ref)
		if err != nil {
			return nil //nolint:nilerr // it is gone
		}
		if len(v.Attached) > 0 {
			return fail(backends.NotReady, "delete volume", ref.Region, "volume %s is attached", v.ID)
		}
		delete(a.cloud.volumes, v.ID)
		return nil
	})
}

// AttachVolume is that of [backends.Volumes].
func (a *Account) AttachVolume(ctx context.Context, ref backends.VolumeRef, to backends.Ref) (string, error) {
	err := a.act(ctx, "attach volume", ref.Region, "", func() error {
		v, err := a.find("attach volume", ref)
		if err != nil {
			return err
		}
		m := a.byRef(to)
		switch {
		case m == nil || !m.deleted.IsZero():
			return fail(backends.NotFound, "attach volume", ref.Region, "machine %s does not exist", to.ID)
		case slices.Contains(v.Attached, m.ID):
			return nil
		case len(v.Attached) > 0:
			return fail(backends.NotReady, "attach volume", ref.Region, "volume %s is attached to another machine", v.ID)
		case m.Zone != v.Zone:
			return fail(backends.BadRequest, "attach volume", ref.Region, "volume %s is in another zone than machine %s", v.ID, m.ID)
		}
		v.Attached = []string{m.ID}
		return nil
	})
	if err != nil {
		return "", err
	}
	return device, nil
}

// DetachVolume is that of [backends.Volumes].
func (a *Account) DetachVolume(ctx context.Context, ref backends.VolumeRef, from backends.Ref, _ bool) error {
	return a.act(ctx, "detach volume", ref.Region, "", func() error {
		v, err := a.find("detach volume", ref)
		if err != nil {
			return nil //nolint:nilerr // it is gone
		}
		v.Attached = slices.DeleteFunc(v.Attached, func(id string) bool { return id == from.ID })
		return nil
	})
}

// detachAll is what a cloud does when a machine goes; the caller holds the lock.
func (c *Cloud) detachAll(id string) {
	for _, v := range c.volumes {
		v.Attached = slices.DeleteFunc(v.Attached, func(other string) bool { return other == id })
	}
}

// CreatePlacementGroup is that of [backends.PlacementGroups].
func (a *Account) CreatePlacementGroup(ctx context.Context, name, region, machineType string, _ map[string]string) error {
	return a.act(ctx, "create placement group", region, machineType, func() error {
		if machineType == "small" {
			return fail(backends.Unsupported, "create placement group", region, "machines of type small cannot be in a placement group")
		}
		a.cloud.groups[region+"/"+name] = true
		return nil
	})
}

// DeletePlacementGroup is that of [backends.PlacementGroups].
func (a *Account) DeletePlacementGroup(ctx context.Context, name, region string) error {
	return a.act(ctx, "delete placement group", region, "", func() error {
		for _, m := range a.cloud.machines {
			if m.group == name && m.Region == region && m.deleted.IsZero() {
				return fail(backends.NotReady, "delete placement group", region, "machine %s is in placement group %s", m.ID, name)
			}
		}
		delete(a.cloud.groups, region+"/"+name)
		return nil
	})
}

// FindReservation is that of [backends.Reservations].
func (a *Account) FindReservation(ctx context.Context, id string) (out backends.Reservation, err error) {
	err = a.act(ctx, "find reservation", "", "", func() error {
		i := slices.IndexFunc(a.cloud.reserved, func(r backends.Reservation) bool { return r.ID == id })
		if i < 0 {
			return fail(backends.NotFound, "find reservation", "", "reservation %s does not exist", id)
		}
		out = a.cloud.reserved[i]
		return nil
	})
	return out, err
}
