package offers

import (
	"cmp"
	"slices"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/reason"
)

// Hired is what may be rented for a request in a fleet.
type Hired struct {
	Rentals []Rental
	Refused []Refusal
	// Code and Reason say why nothing may be rented, whatever is offered; the
	// code is empty if something may.
	Code   reason.Rejection
	Reason string
}

// Hire is [Rent] for a fleet with its instances: nothing, if the fleet may not
// have another machine or the run wants none.
func Hire(req Request, p Pool, stock []backends.Offer) Hired {
	if why := hireReason(req, p); why.code != "" {
		return Hired{Code: why.code, Reason: why.text}
	}
	var out Hired
	out.Rentals, out.Refused = Rent(req, p.Fleet, near(p, stock))
	return out
}

// hireReason says why no machine may be rented for a request in a fleet.
func hireReason(req Request, p Pool) refusal {
	nodes := p.Fleet.Spec.Configuration.Nodes
	if why := reuseReason(req.Profile); why.code != "" {
		return why
	}
	switch {
	case nodes == nil:
		return because(reason.NoMachine, "the fleet is made of the user's own hosts")
	case p.Imported:
		return because(reason.NoMachine, "the fleet belongs to another project")
	case !req.All && Room(p) == 0:
		return because(reason.FleetFull, "the fleet may have no more machines")
	}
	return refusal{}
}

// reuseReason says why a run wants no new machine.
func reuseReason(p config.ProfileParams) refusal {
	switch {
	case p.Instances != nil:
		return because(reason.InstanceNotAsked, "the run asks for instances that exist")
	case p.CreationPolicy != nil && *p.CreationPolicy == config.CreationReuse:
		return because(reason.OnlyReuse, "the run has `creation_policy: reuse`")
	}
	return refusal{}
}

// near is the part of a stock that can stand beside the machines of a cluster:
// of the same backend and region.
func near(p Pool, stock []backends.Offer) []backends.Offer {
	placement := p.Fleet.Spec.Configuration.Placement
	if placement == nil || *placement != config.PlacementCluster {
		return stock
	}
	i := slices.IndexFunc(p.Instances, func(in store.Instance) bool { return in.Region != "" && !leaving(in) })
	if i < 0 {
		return stock
	}
	first := p.Instances[i]
	return slices.DeleteFunc(slices.Clone(stock), func(o backends.Offer) bool {
		return o.Backend != first.Backend || o.Region != first.Region
	})
}

// anywhere is a fleet that allows everything: what could be had without one.
func anywhere() store.Fleet {
	var f store.Fleet
	f.Spec.Configuration = config.Fleet{SpotPolicy: new(config.SpotPolicyAuto), Blocks: config.Blocks{Count: 1}}
	return f
}

// Search is [Find] with what backends offer: each group has what could be
// rented for it besides. If the request asks for all there is and names no
// fleet, the result has what could be had without one.
func Search(req Request, pools []Pool, stock []backends.Offer) Result {
	res := Find(req, pools)
	for i := range res.Groups {
		g := &res.Groups[i]
		at := slices.IndexFunc(pools, func(p Pool) bool { return p.Fleet.ID == g.Fleet.ID })
		g.Hired = Hire(req, pools[at], stock)
	}
	slices.SortStableFunc(res.Groups, betterGroup)
	if len(stock) > 0 {
		explainHired(&res)
	}
	if req.All && req.Profile.Fleets == nil && reuseReason(req.Profile).code == "" {
		res.Free.Rentals, res.Free.Refused = Rent(req, anywhere(), stock)
	}
	return res
}

// Rentals are those of the best fleet, what is to be had first, then by price;
// with all, those of every fleet, each offer once.
func (r Result) Rentals(all bool) []Rental {
	if all && r.Free.Rentals != nil {
		return r.Free.Rentals
	}
	var out []Rental
	seen := map[product]bool{}
	for i, g := range r.Groups {
		if i > 0 && !all {
			break
		}
		for _, o := range g.Hired.Rentals {
			if key := productOf(o); !seen[key] {
				seen[key] = true
				out = append(out, o)
			}
		}
	}
	slices.SortStableFunc(out, dearer)
	return out
}

// Offers are those of the best fleet, what is to be had first: instances, then
// what can be rented; with all, those of every fleet.
func (r Result) Offers(all bool) []api.Offer {
	var have, lack []api.Offer
	for _, m := range r.Matches(all) {
		if m.Available {
			have = append(have, m.Offer)
		} else {
			lack = append(lack, m.Offer)
		}
	}
	for _, o := range r.Rentals(all) {
		if Usable(o.Offer) {
			have = append(have, o.Wire())
		} else {
			lack = append(lack, o.Wire())
		}
	}
	return append(have, lack...)
}

// product is what two rentals for different fleets have in common if they are
// the same offer.
type product struct {
	backend, region, name string
	spot                  bool
	disk                  int
}

func productOf(r Rental) product {
	o := r.Offer
	return product{o.Backend, o.Region, o.Instance.Name, o.Instance.Resources.Spot, r.DiskGB}
}

// Wire is the rental as clients see it.
func (r Rental) Wire() api.Offer {
	o := r.Offer.Offer
	if r.Zones != nil {
		o.AvailabilityZones = r.Zones
	}
	return o
}

// dearer orders rentals: what is to be had first, then by price.
func dearer(a, b Rental) int {
	return cmp.Or(order(!Usable(a.Offer), !Usable(b.Offer)), cmp.Compare(a.Offer.Price, b.Offer.Price))
}
