package offers

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/reason"
)

// Availability values of instances.
const (
	Idle = "idle"
	Busy = "busy"
)

// Request is what is looked for.
type Request struct {
	Requirements api.Requirements
	// Profile is the effective one: configuration over profile.
	Profile config.ProfileParams
	// Nodes is how many jobs have to find a place together, at least 1.
	Nodes int
	// Need is how many jobs a fleet must have room for to be considered at
	// all, if that is more than Nodes.
	Need int
	// All asks for every instance of the fleets that the run allows, whether
	// there is room or not: what there is, not what would be used.
	All bool
	// FleetID restricts the search to the fleet that the run is in already;
	// empty means any.
	FleetID string
	// NoLocal leaves out this machine, for a user who may not use it.
	NoLocal bool
	// Reserved are the reservations that were looked up, by id; nil for who
	// does not look them up.
	Reserved map[string]Reserved
	// Volumes are the network volumes that are to be attached; nil if none are.
	Volumes *Volumes
}

// Pool is one fleet with its live instances, in the order of their numbers.
type Pool struct {
	Fleet store.Fleet
	// Project is the name of the project that owns the fleet.
	Project   string
	Instances []store.Instance
	// Imported says that another project lends the fleet: a run names it as
	// PROJECT/FLEET.
	Imported bool
}

// Match is an instance, or a share of one, that meets the requirements.
type Match struct {
	Instance store.Instance
	Offer    api.Offer
	// Available is false when the instance fits but is in use now.
	Available bool
}

// Rejection says why an instance, or a whole fleet, cannot be used.
type Rejection struct {
	Fleet store.Fleet
	// Instance is nil for a whole fleet.
	Instance *store.Instance
	Code     reason.Rejection
	// Reason is a part of a sentence about what was rejected.
	Reason string
}

// Name is that of the instance or fleet.
func (r Rejection) Name() string {
	if r.Instance != nil {
		return r.Instance.Name
	}
	return r.Fleet.Name
}

// Group holds the matches of one fleet, best first.
type Group struct {
	Fleet   store.Fleet
	Matches []Match
	// Fits says that enough matches are available now.
	Fits bool
	// Hired is what could be rented for the fleet besides; see [Search].
	Hired Hired
}

// Result is what was found.
type Result struct {
	// Groups are the fleets that may be used, best first.
	Groups   []Group
	Rejected []Rejection
	// Free is what could be rented without a fleet; see [Search].
	Free Hired
	// Settling says that a host is being prepared, without trouble so far,
	// in a fleet that the request allows: it may fit in a moment.
	Settling bool
}

// Find looks for instances. A fleet that cannot be used at all has no group;
// one that is merely unsuitable or busy has one with few or no matches.
func Find(req Request, pools []Pool) Result {
	var res Result
	for _, p := range pools {
		if wishReason(req, p).code == "" && slices.ContainsFunc(p.Instances, settling) {
			res.Settling = true
		}
		if why := fleetReason(req, p); why.code != "" {
			res.Rejected = append(res.Rejected, Rejection{p.Fleet, nil, why.code, why.text})
			continue
		}
		g := Group{Fleet: p.Fleet}
		available := 0
		j := newJudge(req, p)
		for _, inst := range p.Instances {
			m, why := j.match(inst)
			if why.code != "" {
				res.Rejected = append(res.Rejected, Rejection{p.Fleet, &inst, why.code, why.text})
				continue
			}
			if m.Available {
				available++
			}
			g.Matches = append(g.Matches, m)
		}
		slices.SortStableFunc(g.Matches, better)
		if p.Fleet.Spec.Configuration.Nodes != nil && len(g.Matches) == 0 {
			res.Rejected = append(res.Rejected, Rejection{p.Fleet, nil, reason.NoMachine, "no backend offers a machine for it"})
		}
		g.Fits = available >= max(req.Nodes, req.Need, 1)
		res.Groups = append(res.Groups, g)
	}
	slices.SortStableFunc(res.Groups, betterGroup)
	return res
}

// Matches are those of the best fleet, best first; with all, those of every
// fleet.
func (r Result) Matches(all bool) []Match {
	var out []Match
	for i, g := range r.Groups {
		if i == 0 || all {
			out = append(out, g.Matches...)
		}
	}
	slices.SortStableFunc(out, better)
	return out
}

// Explain joins the reasons, each with the names that it holds for; empty if
// nothing was rejected.
func (r Result) Explain() string {
	var order []string
	names := map[string][]string{}
	for _, x := range r.Rejected {
		if names[x.Reason] == nil {
			order = append(order, x.Reason)
		}
		names[x.Reason] = append(names[x.Reason], x.Name())
	}
	const most = 5
	var parts []string
	for i, reason := range order {
		if i == most {
			parts = append(parts, "…")
			break
		}
		who := names[reason]
		if len(who) > 3 {
			who = append(slices.Clone(who[:3]), "…")
		}
		parts = append(parts, strings.Join(who, ", ")+": "+reason)
	}
	if len(r.Free.Rentals) == 0 && len(r.Free.Refused) > 0 {
		parts = append(parts, Summary(r.Free.Refused))
	}
	return strings.Join(parts, "; ")
}

func better(a, b Match) int {
	return cmp.Or(
		order(!a.Available, !b.Available),
		order(a.Offer.TotalBlocks > 1, b.Offer.TotalBlocks > 1),
		cmp.Compare(a.Offer.Price, b.Offer.Price),
		// A job takes no accelerators away that it did not ask for.
		cmp.Compare(len(a.Offer.Instance.Resources.GPUs), len(b.Offer.Instance.Resources.GPUs)),
	)
}

func betterGroup(a, b Group) int {
	if c := order(!a.Fits, !b.Fits); c != 0 {
		return c
	}
	if c := order(empty(a), empty(b)); c != 0 || empty(a) {
		return c
	}
	if c := cmp.Or(cmp.Compare(cheapest(a), cheapest(b)), cmp.Compare(cheapestRental(a), cheapestRental(b))); c != 0 {
		return c
	}
	if len(a.Matches) == 0 || len(b.Matches) == 0 {
		return order(len(a.Matches) == 0, len(b.Matches) == 0)
	}
	return better(a.Matches[0], b.Matches[0])
}

// empty says that a group has nothing that would do, to be had or not.
func empty(g Group) bool { return len(g.Matches)+len(g.Hired.Rentals) == 0 }

// cheapestRental is the lowest price of what could be rented for a group.
func cheapestRental(g Group) float64 {
	if len(g.Hired.Rentals) == 0 || !Usable(g.Hired.Rentals[0].Offer) {
		return math.Inf(1)
	}
	return g.Hired.Rentals[0].Offer.Price
}

// cheapest is the lowest price of a group's matches that are available.
func cheapest(g Group) float64 {
	price := math.Inf(1)
	for _, m := range g.Matches {
		if m.Available {
			price = min(price, m.Offer.Price)
		}
	}
	return price
}

// order sorts false before true.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
