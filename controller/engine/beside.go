package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dstack/controller/backends"
	"dstack/controller/offers"
	"dstack/controller/store"
)

// This file is about where a machine has to stand: in a placement group with
// others, or in capacity that was reserved.

// grouped puts a machine of a cluster into the fleet's placement group. The
// group is noted before it is made, so that it goes with the fleet.
func (v instanceView) grouped(d *decision, m *store.Machine) {
	r := v.wish().Reserved
	if !isCluster(v.fleet) || r != nil && r.Block {
		return
	}
	m.PlacementGroup = machineName(v.project.Name, v.fleet.Name, v.fleet.ID)
	g := store.PlacementGroup{Backend: m.Backend, Region: m.Region, Name: m.PlacementGroup}
	if !slices.Contains(v.fleet.PlacementGroups, g) {
		v.fleet.PlacementGroups = append(slices.Clone(v.fleet.PlacementGroups), g)
		d.saveFleet(v.fleet)
	}
}

// makeGroup makes the placement group of a machine. A cloud, a machine type or
// an account that cannot have one goes without: it is nearness, not a condition.
func makeGroup(ctx context.Context, b backends.Backend, spec *backends.MachineSpec) error {
	if spec.PlacementGroup == "" {
		return nil
	}
	power, ok := backends.PlacementGroupsOf(b)
	if !ok {
		spec.PlacementGroup = ""
		return nil
	}
	err := power.CreatePlacementGroup(ctx, spec.PlacementGroup, spec.Region, spec.Type, spec.Tags)
	if errors.Is(err, backends.Unsupported) || errors.Is(err, backends.Permission) {
		spec.PlacementGroup = ""
		return nil
	}
	if err != nil {
		return fmt.Errorf("create placement group: %w", err)
	}
	return nil
}

// ungroup deletes the placement groups of a fleet without machines.
func (v fleetView) ungroup(d *decision) {
	for _, g := range v.fleet.PlacementGroups {
		d.do(Effect{
			Kind: DoUngroup, Key: store.Key{Kind: store.KindFleet, ID: v.fleet.ID}, InstanceID: v.fleet.ID,
			Cloud: Errand{
				ProjectID: v.fleet.ProjectID, Backend: g.Backend, Ref: backends.Ref{Token: g.Region + "/" + g.Name},
				Spec: backends.MachineSpec{PlacementGroup: g.Name, Region: g.Region},
			},
		})
	}
}

func deleteGroup(ctx context.Context, b backends.Backend, f Effect) error {
	power, ok := backends.PlacementGroupsOf(b)
	if !ok {
		return nil
	}
	if err := power.DeletePlacementGroup(ctx, f.Cloud.Spec.PlacementGroup, f.Cloud.Spec.Region); err != nil {
		return fmt.Errorf("delete placement group: %w", err)
	}
	return nil
}

// ungrouped notes that a placement group is gone, or that it stays: it costs
// nothing, and holds up no fleet for which the account has no rights any more.
func (e *Engine) ungrouped(ctx context.Context, f Effect, failure error) error {
	if failure != nil {
		switch backends.KindOf(failure) {
		case backends.NotReady, backends.Throttled, backends.Transient:
			return failure
		}
	}
	return e.write(ctx, "store end of placement group", func(tx *store.Tx) error {
		fleet, err := tx.Fleet(f.InstanceID)
		if err != nil {
			return err
		}
		gone := store.PlacementGroup{Backend: f.Cloud.Backend, Region: f.Cloud.Spec.Region, Name: f.Cloud.Spec.PlacementGroup}
		fleet.PlacementGroups = slices.DeleteFunc(slices.Clone(fleet.PlacementGroups), func(g store.PlacementGroup) bool { return g == gone })
		if err := tx.UpdateFleet(&fleet); err != nil {
			return err
		}
		if failure != nil {
			text := "Placement group " + gone.Name + " was not deleted: " + cloudText(failure)
			if err := e.record(tx, e.now(), []store.Event{newEvent(text, nil, fleetTarget(&fleet))}); err != nil {
				return err
			}
		}
		return tx.Wake(e.now(), f.Key)
	})
}

// reservation is the one that the machine has to use, if any; clash says that
// fleet and run name different ones.
func (v instanceView) reservation() (id string, clash bool) {
	w := v.wish()
	for _, r := range []*string{v.fleet.Spec.Configuration.Reservation, w.Requirements.Reservation, w.Profile.Reservation} {
		switch {
		case r == nil || *r == id:
		case id != "":
			return id, true
		default:
			id = *r
		}
	}
	return id, false
}

// reserved sees to it that a reservation is known before a machine is chosen.
// It says whether there is no reservation, or one that may be used.
func (v instanceView) reserved(d *decision) bool {
	id, clash := v.reservation()
	r := v.wish().Reserved
	switch {
	case clash:
		v.lack(d, "No offers found: the fleet and the run ask for different reservations")
		return false
	case id == "":
		return true
	case r == nil || r.ID != id:
		f := v.effect(DoReserve)
		f.Cloud = Errand{ProjectID: v.inst.ProjectID, Reservation: id}
		for _, s := range v.shelves {
			f.Cloud.Among = append(f.Cloud.Among, s.Backend)
		}
		d.do(f)
		d.at(v.now.Add(offersAgain))
		return false
	case r.Missing != "":
		v.lack(d, "No offers found: "+r.Missing)
		return false
	}
	return true
}

// fits says whether a rental can use the reservation.
func fits(r *store.Reserved, o offers.Rental) bool {
	return r == nil || o.Offer.Backend == r.Backend && o.Offer.Region == r.Region && o.Offer.Instance.Name == r.Type &&
		!o.Offer.Instance.Resources.Spot
}

// findReservation asks one backend after the other.
func (e *Engine) findReservation(ctx context.Context, f Effect) (store.Reserved, error) {
	out := store.Reserved{ID: f.Cloud.Reservation, Missing: "reservation " + f.Cloud.Reservation + " was found in no backend of the project"}
	for _, name := range f.Cloud.Among {
		b, err := e.cfg.Clouds.Open(ctx, f.Cloud.ProjectID, name)
		if err != nil {
			return out, fmt.Errorf("open backend: %w", err)
		}
		power, ok := backends.ReservationsOf(b)
		if !ok {
			continue
		}
		r, err := power.FindReservation(ctx, out.ID)
		switch {
		case errors.Is(err, backends.NotFound):
		case err != nil:
			return out, fmt.Errorf("find reservation: %w", err)
		case r.Free == 0:
			out.Missing = "reservation " + out.ID + " has no room for another machine"
			return out, nil
		default:
			return store.Reserved{ID: out.ID, Backend: name, Region: r.Region, Zone: r.Zone, Type: r.Type, Block: r.Block}, nil
		}
	}
	return out, nil
}

// foundReservation notes what is known of a reservation.
func (e *Engine) foundReservation(ctx context.Context, f Effect, r store.Reserved, failure error) error {
	if failure != nil {
		switch backends.KindOf(failure) {
		case backends.NotReady, backends.Throttled, backends.Transient:
			return failure
		}
		r.Missing = cloudText(failure)
	}
	return e.write(ctx, "store reservation", func(tx *store.Tx) error {
		inst, err := tx.Instance(f.InstanceID)
		if err != nil || inst.Wish == nil {
			return err
		}
		w := *inst.Wish
		w.Reserved, inst.Wish = &r, &w
		if err := tx.UpdateInstance(&inst); err != nil {
			return err
		}
		return tx.Wake(e.now(), f.Key)
	})
}
