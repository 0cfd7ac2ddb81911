package engine

import (
	"fmt"
	"slices"

	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// This file is about machines that have to stand beside each other, where a
// region has room for some of them only.

// pick is the rental to ask for; -1 if none will do. Others are to stand beside
// the first machine of several: it begins where one was refused the longest ago,
// or never.
func (v instanceView) pick(rentals []offers.Rental, near *store.Instance) int {
	first := near == nil && isCluster(v.fleet) && v.wish().Nodes != 1
	best := -1
	for n, r := range rentals {
		switch {
		case !v.mayRent(r, near):
		case best < 0, first && r.Offer.RefusedAt.Before(rentals[best].Offer.RefusedAt):
			best = n
		}
	}
	return best
}

// stranded says that the job leaves a machine that was made for several nodes,
// unused because there was none for another node. It would only idle, and the
// next attempt would begin beside it.
func (v *jobView) stranded() bool {
	i := v.instance
	return i.Wish != nil && i.Wish.Nodes > 1 && i.BusyBlocks == 0 && v.job.Task == nil && lacksCapacity(v.siblings)
}

// unwanted says that a machine boots though its job gave it up and it may not
// idle.
func unwanted(i *store.Instance) bool {
	w := i.Wish
	return i.Status == api.InstanceProvisioning && w != nil && w.JobID != "" && w.IdleSeconds == 0 && i.BusyBlocks == 0
}

// splits says that a cluster lacks nodes that could be had elsewhere.
func (v fleetView) splits() bool {
	f := v.fleet
	return isCloud(f) && isCluster(f) && f.Spec.Configuration.Reservation == nil && v.live() < f.Spec.Configuration.Nodes.Min
}

// moveOn gives up those nodes of a cluster for whose fellows there was no room
// beside them, if nobody uses them and it makes sense to ask elsewhere. Only
// nodes that were created together: one that lacks in a cluster that was whole
// before is waited for.
func (v fleetView) moveOn(d *decision) {
	var lacking *store.Instance
	var parts []*store.Instance
	for n := range v.instances {
		switch i := &v.instances[n]; {
		case i.Status == api.InstanceTerminated && i.Reason != nil && *i.Reason == api.ReasonInstanceNoOffers:
			lacking = i
		case !ended(i):
			parts = append(parts, i)
		}
	}
	if lacking == nil || len(parts) == 0 || slices.ContainsFunc(parts, func(i *store.Instance) bool {
		return !v.unused(i) || !i.CreatedAt.Equal(lacking.CreatedAt)
	}) || !v.elsewhere(parts[0].Machine) {
		return
	}
	nodes := v.fleet.Spec.Configuration.Nodes.Min
	for _, i := range parts {
		text := fmt.Sprintf("%s in %s has room for %d of %d nodes; all are asked for elsewhere", i.Machine.Backend, i.Machine.Region, len(parts), nodes)
		i.Reason, i.ReasonMessage = new(api.ReasonInstanceNoOffers), &text
		setInstance(d, i, api.InstanceTerminating)
		d.wake(store.KindInstance, i.ID)
	}
}

// elsewhere says whether a machine of the fleet may be had in another region.
func (v fleetView) elsewhere(m *store.Machine) bool {
	for _, s := range v.shelves {
		rentals, _ := offers.Rent(offers.Request{}, *v.fleet, s.Offers)
		if slices.ContainsFunc(rentals, func(r offers.Rental) bool {
			return offers.Usable(r.Offer) && (r.Offer.Backend != m.Backend || r.Offer.Region != m.Region)
		}) {
			return true
		}
	}
	return false
}
