package offers

import (
	"reflect"
	"slices"

	"dstack/controller/store"
	"dstack/protocol/reason"
)

// multinode says that a job is a node of several, which do not share a host.
func (r Request) multinode() bool {
	m := r.Requirements.Multinode
	return r.Nodes > 1 || m != nil && *m
}

// twice are the internal addresses that several instances of a pool have.
func (p Pool) twice() map[string]bool {
	seen := map[string]bool{}
	for i := range p.Instances {
		if ip := p.Instances[i].InternalIP; ip != nil && ready(p.Instances[i]) {
			_, again := seen[*ip]
			seen[*ip] = again
		}
	}
	return seen
}

// networkReason says why a node on an instance could not be reached by others.
func networkReason(twice map[string]bool, inst store.Instance) refusal {
	switch {
	case inst.InternalIP == nil:
		return because(reason.InstanceNoAddress, "it has no address at which other nodes could reach it")
	case twice[*inst.InternalIP]:
		return because(reason.InstanceNoAddress, "another host of the fleet has the same internal address, %s", *inst.InternalIP)
	}
	return refusal{}
}

// fillNodes gives each node a host of its own, if that is possible at all: a
// node that could use several hosts makes way for one that could not.
func fillNodes(reqs []Request, p Pool) []Match {
	wishes, hosts := make([][]Match, len(reqs)), map[string]bool{}
	for n, req := range reqs {
		if n > 0 && reflect.DeepEqual(req, reqs[n-1]) {
			wishes[n] = wishes[n-1]
			continue
		}
		j := newJudge(req, p)
		for _, inst := range p.Instances {
			if m, why := j.match(inst); why.code == "" && m.Available {
				wishes[n] = append(wishes[n], m)
				hosts[inst.ID] = true
			}
		}
		slices.SortStableFunc(wishes[n], better)
	}
	if len(hosts) < len(reqs) {
		return nil
	}
	holders := map[string]int{} // nodes by the id of their host
	got := make([]Match, len(reqs))
	var settle func(n int, tried map[string]bool) bool
	settle = func(n int, tried map[string]bool) bool {
		for _, free := range []bool{true, false} { // nobody moves without need
			for _, m := range wishes[n] {
				id := m.Instance.ID
				holder, taken := holders[id]
				if taken == free || tried[id] {
					continue
				}
				tried[id] = true
				if taken && !settle(holder, tried) {
					continue
				}
				holders[id], got[n] = n, m
				return true
			}
		}
		return false
	}
	for n := range reqs {
		if !settle(n, map[string]bool{}) {
			return nil
		}
	}
	return got
}
