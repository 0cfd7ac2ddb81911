package offers

import (
	"cmp"
	"slices"
	"strings"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
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
	// FleetID restricts the search to the fleet that the run is in already;
	// empty means any.
	FleetID string
	// NoLocal leaves out this machine, for a user who may not use it.
	NoLocal bool
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
	// Name is that of the instance or fleet.
	Name   string
	Reason string
}

// Group holds the matches of one fleet, best first.
type Group struct {
	Fleet   store.Fleet
	Matches []Match
	// Fits says that enough matches are available now.
	Fits bool
}

// Result is what was found.
type Result struct {
	// Groups are the fleets that may be used, best first.
	Groups   []Group
	Rejected []Rejection
	// Settling says that a host is being prepared, without trouble so far,
	// in a fleet that the request allows: it may fit in a moment.
	Settling bool
}

// Find looks for instances. A fleet that cannot be used at all has no group;
// one that is merely unsuitable or busy has one with few or no matches.
func Find(req Request, pools []Pool) Result {
	var res Result
	for _, p := range pools {
		if wishReason(req, p) == "" && slices.ContainsFunc(p.Instances, settling) {
			res.Settling = true
		}
		if reason := fleetReason(req, p); reason != "" {
			res.Rejected = append(res.Rejected, Rejection{p.Fleet.Name, reason})
			continue
		}
		g := Group{Fleet: p.Fleet}
		available := 0
		for _, inst := range p.Instances {
			m, reason := match(req, p, inst)
			if reason != "" {
				res.Rejected = append(res.Rejected, Rejection{inst.Name, reason})
				continue
			}
			if m.Available {
				available++
			}
			g.Matches = append(g.Matches, m)
		}
		slices.SortStableFunc(g.Matches, better)
		if p.Fleet.Spec.Configuration.Nodes != nil && len(g.Matches) == 0 {
			res.Rejected = append(res.Rejected, Rejection{p.Fleet.Name, "no backend offers a machine for it"})
		}
		g.Fits = available >= max(req.Nodes, 1)
		res.Groups = append(res.Groups, g)
	}
	slices.SortStableFunc(res.Groups, betterGroup)
	return res
}

// Offers returns the offers of the best fleet, for a plan.
func (r Result) Offers() []api.Offer {
	out := []api.Offer{}
	if len(r.Groups) == 0 {
		return out
	}
	for _, m := range r.Groups[0].Matches {
		out = append(out, m.Offer)
	}
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
		names[x.Reason] = append(names[x.Reason], x.Name)
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
	if c := order(len(a.Matches) == 0, len(b.Matches) == 0); c != 0 || len(a.Matches) == 0 {
		return c
	}
	return better(a.Matches[0], b.Matches[0])
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
