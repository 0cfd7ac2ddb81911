package engine

import (
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
