package backends

import "context"

// Powers are the names of what a backend can do besides the core, for the
// table of capabilities in the documentation.
func Powers(b Backend) []string {
	var out []string
	if _, ok := VolumesOf(b); ok {
		out = append(out, "volumes")
	}
	if _, ok := PlacementGroupsOf(b); ok {
		out = append(out, "placement groups")
	}
	if _, ok := ReservationsOf(b); ok {
		out = append(out, "reservations")
	}
	if _, ok := RemainsOf(b); ok {
		out = append(out, "remains")
	}
	return out
}

// VolumesOf is the power of a backend to keep volumes, if it has it. That of a
// guarded one is guarded, too.
func VolumesOf(b Backend) (Volumes, bool) {
	return power(b, func(g *Guarded, v Volumes) Volumes { return guardedVolumes{g, v} })
}

// PlacementGroupsOf is the power to place machines, as [VolumesOf].
func PlacementGroupsOf(b Backend) (PlacementGroups, bool) {
	return power(b, func(g *Guarded, p PlacementGroups) PlacementGroups { return guardedGroups{g, p} })
}

// ReservationsOf is the power to use reservations, as [VolumesOf].
func ReservationsOf(b Backend) (Reservations, bool) {
	return power(b, func(g *Guarded, r Reservations) Reservations { return guardedReservations{g, r} })
}

// RemainsOf is the power to find what outlived its machine, as [VolumesOf].
func RemainsOf(b Backend) (Remains, bool) {
	return power(b, func(g *Guarded, r Remains) Remains { return guardedRemains{g, r} })
}

// power is what a backend can do besides the core, if it can; guard guards that
// of a guarded one.
func power[P any](b Backend, guard func(*Guarded, P) P) (P, bool) {
	g, guarded := b.(*Guarded)
	if !guarded {
		p, ok := b.(P)
		return p, ok
	}
	p, ok := g.inner.(P)
	return guard(g, p), ok
}

type guardedVolumes struct {
	guard *Guarded
	inner Volumes
}

func (v guardedVolumes) CreateVolume(ctx context.Context, spec VolumeSpec) (out Volume, err error) {
	err = v.guard.call(ctx, "create volume", spec.Region, func(ctx context.Context) (err error) {
		out, err = v.inner.CreateVolume(ctx, spec)
		return err
	})
	return out, err
}

func (v guardedVolumes) DescribeVolume(ctx context.Context, ref VolumeRef) (out Volume, err error) {
	err = v.guard.call(ctx, "describe volume", ref.Region, func(ctx context.Context) (err error) {
		out, err = v.inner.DescribeVolume(ctx, ref)
		return err
	})
	return out, err
}

func (v guardedVolumes) DeleteVolume(ctx context.Context, ref VolumeRef) error {
	return v.guard.call(ctx, "delete volume", ref.Region, func(ctx context.Context) error {
		return v.inner.DeleteVolume(ctx, ref)
	})
}

func (v guardedVolumes) AttachVolume(ctx context.Context, ref VolumeRef, machine Ref) (device string, err error) {
	err = v.guard.call(ctx, "attach volume", ref.Region, func(ctx context.Context) (err error) {
		device, err = v.inner.AttachVolume(ctx, ref, machine)
		return err
	})
	return device, err
}

func (v guardedVolumes) DetachVolume(ctx context.Context, ref VolumeRef, machine Ref, force bool) error {
	return v.guard.call(ctx, "detach volume", ref.Region, func(ctx context.Context) error {
		return v.inner.DetachVolume(ctx, ref, machine, force)
	})
}

type guardedGroups struct {
	guard *Guarded
	inner PlacementGroups
}

func (p guardedGroups) CreatePlacementGroup(ctx context.Context, name, region, machineType string, tags map[string]string) error {
	return p.guard.call(ctx, "create placement group", region, func(ctx context.Context) error {
		return p.inner.CreatePlacementGroup(ctx, name, region, machineType, tags)
	})
}

func (p guardedGroups) DeletePlacementGroup(ctx context.Context, name, region string) error {
	return p.guard.call(ctx, "delete placement group", region, func(ctx context.Context) error {
		return p.inner.DeletePlacementGroup(ctx, name, region)
	})
}

type guardedReservations struct {
	guard *Guarded
	inner Reservations
}

func (r guardedReservations) FindReservation(ctx context.Context, id string) (out Reservation, err error) {
	err = r.guard.call(ctx, "find reservation", "", func(ctx context.Context) (err error) {
		out, err = r.inner.FindReservation(ctx, id)
		return err
	})
	return out, err
}

type guardedRemains struct {
	guard *Guarded
	inner Remains
}

func (r guardedRemains) ListVolumes(ctx context.Context, server string) (out []Volume, err error) {
	err = r.guard.call(ctx, "list volumes", "", func(ctx context.Context) (err error) {
		out, err = r.inner.ListVolumes(ctx, server)
		return err
	})
	return out, err
}

func (r guardedRemains) LooseAddresses(ctx context.Context, server string) (out []Address, err error) {
	err = r.guard.call(ctx, "list addresses", "", func(ctx context.Context) (err error) {
		out, err = r.inner.LooseAddresses(ctx, server)
		return err
	})
	return out, err
}

func (r guardedRemains) ReleaseAddress(ctx context.Context, ref Address) error {
	return r.guard.call(ctx, "release address", ref.Region, func(ctx context.Context) error { return r.inner.ReleaseAddress(ctx, ref) })
}
