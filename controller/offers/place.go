package offers

import (
	"slices"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// Place finds room for several jobs at once, all in one fleet or none: the
// matches are in the order of the requests, which differ only in their
// requirements. Without room for all, it returns nil. The result explains.
func Place(reqs []Request, pools []Pool) ([]Match, Result) {
	res := Find(reqs[0], pools)
	for _, g := range res.Groups {
		if !g.Fits {
			continue
		}
		i := slices.IndexFunc(pools, func(p Pool) bool { return p.Fleet.ID == g.Fleet.ID })
		if got := fill(reqs, pools[i]); got != nil {
			return got, res
		}
	}
	return nil, res
}

// fill places the jobs one after another in a copy of the pool.
func fill(reqs []Request, p Pool) []Match {
	p.Instances = slices.Clone(p.Instances)
	var out []Match
	for _, req := range reqs {
		best, found := Match{}, -1
		for i, inst := range p.Instances {
			m, why := match(req, p, inst)
			if why.code == "" && m.Available && (found < 0 || better(m, best) < 0) {
				best, found = m, i
			}
		}
		if found < 0 {
			return nil
		}
		out = append(out, best)
		Take(&p.Instances[found], best.Offer.Blocks)
	}
	return out
}

// Take marks blocks of an instance as busy.
func Take(inst *store.Instance, blocks int) {
	inst.BusyBlocks += blocks
	inst.Status = api.InstanceBusy
}
