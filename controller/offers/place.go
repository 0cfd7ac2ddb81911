package offers

import (
	"reflect"
	"slices"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// Place finds room for several jobs at once, all in one fleet or none: the
// matches are in the order of the requests, which differ only in their
// requirements and volumes. Without room for all, it returns nil. The result explains.
func Place(reqs []Request, pools []Pool) ([]Match, Result) {
	res := Find(reqs[0], pools)
	for _, g := range res.Groups {
		i := slices.IndexFunc(pools, func(p Pool) bool { return p.Fleet.ID == g.Fleet.ID })
		if got := fill(reqs, pools[i]); got != nil {
			return got, res
		}
	}
	return nil, lacking(reqs, pools, res)
}

// lacking explains by the first of the jobs for which nothing is free, else by
// the first one, for which res was found.
func lacking(reqs []Request, pools []Pool, res Result) Result {
	found := res
	for n, req := range reqs {
		if n > 0 && reflect.DeepEqual(req, reqs[n-1]) {
			continue
		}
		if n > 0 {
			found = Find(req, pools)
		}
		if !slices.ContainsFunc(found.Matches(true), func(m Match) bool { return m.Available }) {
			return found
		}
	}
	return res
}

// fill places the jobs in a pool.
func fill(reqs []Request, p Pool) []Match {
	if len(reqs) > 1 {
		return fillNodes(reqs, p)
	}
	j := newJudge(reqs[0], p)
	var out []Match
	for _, inst := range p.Instances {
		m, why := j.match(inst)
		if why.code == "" && m.Available && (out == nil || better(m, out[0]) < 0) {
			out = []Match{m}
		}
	}
	return out
}

// Take marks blocks of an instance as busy.
func Take(inst *store.Instance, blocks int) {
	inst.BusyBlocks += blocks
	inst.Status = api.InstanceBusy
}
