package api

import (
	"cmp"
	"context"
	"slices"

	"dstack/controller/engine/jobspec"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// listGPUs groups the offers that a run could use (spec: rest-api.md 7.5).
func (a *API) listGPUs(ctx context.Context, c call, in api.ListGPUsRequest) (api.ListGPUsResponse, error) {
	by, err := groupingOf(in.GroupBy)
	if err != nil {
		return api.ListGPUsResponse{}, err
	}
	if err := a.needKey(ctx, &c, &in.RunSpec); err != nil {
		return api.ListGPUsResponse{}, err
	}
	spec, err := effectiveRun(in.RunSpec, &c.User, a.deps.Limits)
	if err != nil {
		return api.ListGPUsResponse{}, err
	}
	jobs, err := jobspec.Build(named(spec), nil, a.deps.Jobs)
	if err != nil {
		return api.ListGPUsResponse{}, refuse("%v", err)
	}
	goods, err := a.stock(ctx, c.Project.ID)
	if err != nil {
		return api.ListGPUsResponse{}, err
	}
	var pools []offers.Pool
	err = a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		var err error
		pools, err = offers.Load(tx, c.Project)
		return err //nolint:wrapcheck // says what it was doing
	})
	if err != nil {
		return api.ListGPUsResponse{}, err
	}
	req := a.offersRequest(c, &spec, jobs[0])
	req.All = true
	all := a.search(ctx, c.Project.ID, req, pools, goods).Offers(true)
	out := api.ListGPUsResponse{GPUs: gpuGroups(all, by, in.Reverse)}
	if g := jobs[0].Requirements.Resources.GPU; g != nil && g.Count.Max != nil && *g.Count.Max == 0 {
		cpus := config.List[api.CPUGroup](cpuGroups(all, by, in.Reverse))
		out.CPUs = &cpus
	}
	return out, nil
}

// grouping says what offers of one group have in common besides their
// accelerators.
type grouping struct{ backend, region, count bool }

func groupingOf(words []string) (grouping, error) {
	by := grouping{}
	for _, w := range words {
		switch w {
		case "backend":
			by.backend = true
		case "region":
			by.region = true
		case "count":
			by.count = true
		}
	}
	if by.region && !by.backend {
		return by, refuse("Cannot group by 'region' without also grouping by 'backend'")
	}
	return by, nil
}

// groupKey tells groups apart.
type groupKey struct {
	name, vendor    string
	memory, count   int
	backend, region string
}

// offerGroup is what the offers of a group have.
type offerGroup struct {
	key                 groupKey
	offers              []api.Offer
	backends, regions   []string
	availability, spots []string
}

// groupsOf puts offers into groups in the order of their first ones.
func groupsOf(list []api.Offer, by grouping, keyOf func(api.Offer) groupKey) []*offerGroup {
	var out []*offerGroup
	index := map[groupKey]*offerGroup{}
	for _, o := range list {
		key := keyOf(o)
		if by.backend {
			key.backend = o.Backend
		}
		if by.region {
			key.region = o.Region
		}
		g := index[key]
		if g == nil {
			g = &offerGroup{key: key}
			index[key] = g
			out = append(out, g)
		}
		g.offers = append(g.offers, o)
		addWord(&g.backends, o.Backend)
		addWord(&g.regions, o.Region)
		addWord(&g.availability, o.Availability)
		if o.Instance.Resources.Spot {
			addWord(&g.spots, "spot")
		} else {
			addWord(&g.spots, "on-demand")
		}
	}
	return out
}

func addWord(list *[]string, word string) {
	if i, found := slices.BinarySearch(*list, word); !found {
		*list = slices.Insert(*list, i, word)
	}
}

func gpuGroups(list []api.Offer, by grouping, reverse bool) []api.GPUGroup {
	list = slices.DeleteFunc(slices.Clone(list), func(o api.Offer) bool { return len(o.Instance.Resources.GPUs) == 0 })
	groups := groupsOf(list, by, func(o api.Offer) groupKey {
		g := o.Instance.Resources.GPUs[0]
		key := groupKey{name: g.Name, vendor: deref(g.Vendor, ""), memory: g.MemoryMiB}
		if by.count {
			key.count = len(o.Instance.Resources.GPUs)
		}
		return key
	})
	out := make([]api.GPUGroup, len(groups))
	for i, g := range groups {
		v := api.GPUGroup{
			Name: g.key.name, MemoryMiB: g.key.memory, Vendor: g.key.vendor, Availability: g.availability, Spot: g.spots,
			Count: spread(g.offers, gpuCount), OfferPrice: new(spread(g.offers, func(o api.Offer) float64 { return o.Price })),
			Price: spread(g.offers, func(o api.Offer) float64 { return o.Price / float64(gpuCount(o)) }),
		}
		v.Backends, v.Backend, v.Regions, v.Region = g.places(by)
		out[i] = v
	}
	sortGroups(out, func(g api.GPUGroup) ([]string, float64) {
		if reverse {
			return g.Availability, -*g.OfferPrice.Min
		}
		return g.Availability, *g.Price.Min
	})
	return out
}

func gpuCount(o api.Offer) int { return len(o.Instance.Resources.GPUs) }

func cpuGroups(list []api.Offer, by grouping, reverse bool) []api.CPUGroup {
	groups := groupsOf(list, by, func(o api.Offer) groupKey {
		if by.count {
			return groupKey{count: o.Instance.Resources.CPUs}
		}
		return groupKey{}
	})
	out := make([]api.CPUGroup, len(groups))
	for i, g := range groups {
		v := api.CPUGroup{
			CPUArch: []string{}, Availability: g.availability, Spot: g.spots,
			Count:     spread(g.offers, func(o api.Offer) int { return o.Instance.Resources.CPUs }),
			MemoryMiB: spread(g.offers, func(o api.Offer) int { return o.Instance.Resources.MemoryMiB }),
			Price:     spread(g.offers, func(o api.Offer) float64 { return o.Price }),
		}
		for _, o := range g.offers {
			if arch := o.Instance.Resources.CPUArch; arch != nil {
				addWord((*[]string)(&v.CPUArch), *arch)
			}
		}
		v.Backends, v.Backend, v.Regions, v.Region = g.places(by)
		out[i] = v
	}
	sortGroups(out, func(g api.CPUGroup) ([]string, float64) {
		if reverse {
			return g.Availability, -*g.Price.Min
		}
		return g.Availability, *g.Price.Min
	})
	return out
}

// places are the backends and regions of a group: single ones where it was
// grouped by them. Regions are of one backend only.
func (g *offerGroup) places(by grouping) (backends []string, backend *string, regions []string, region *string) {
	switch {
	case by.region:
		return nil, &g.key.backend, nil, &g.key.region
	case by.backend:
		return nil, &g.key.backend, g.regions, nil
	}
	return g.backends, nil, nil, nil
}

func spread[T int | float64](list []api.Offer, of func(api.Offer) T) config.Range[T] {
	lo, hi := of(list[0]), of(list[0])
	for _, o := range list[1:] {
		lo, hi = min(lo, of(o)), max(hi, of(o))
	}
	return config.Range[T]{Min: &lo, Max: &hi}
}

// sortGroups puts what is available first, then goes by a price.
func sortGroups[G any](list []G, of func(G) (availability []string, price float64)) {
	slices.SortStableFunc(list, func(x, y G) int {
		ax, px := of(x)
		ay, py := of(y)
		return cmp.Or(cmp.Compare(unavailable(ax), unavailable(ay)), cmp.Compare(px, py))
	})
}

// unavailable is 0 if one of the words says that an offer is available.
func unavailable(words []string) int {
	if slices.ContainsFunc(words, func(w string) bool { return w == "unknown" || w == "available" || w == offers.Idle }) {
		return 0
	}
	return 1
}
