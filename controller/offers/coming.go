package offers

import (
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// coming is a machine of a cloud that is being made and that nobody waits for,
// as it will be when it is ready; false if that is not known yet.
func coming(i store.Instance) (store.Instance, bool) {
	if !Unclaimed(i) || i.Machine == nil || i.BlocksWanted != (config.Blocks{Count: 1}) {
		return i, false
	}
	i.Status, i.ReasonMessage, i.TotalBlocks = api.InstanceIdle, nil, 1
	i.Unreachable, i.Unhealthy, i.Info = false, false, nil
	offer := i.Machine.Offer
	i.Type = &api.InstanceType{Name: offer.Instance.Name, Resources: offer.Instance.Resources}
	if i.InternalIP == nil {
		i.InternalIP = &i.ID // it will have one of its own
	}
	return i, true
}

// Unclaimed says that an instance is being made, and no job waits for it.
func Unclaimed(i store.Instance) bool {
	return (i.Status == api.InstancePending || i.Status == api.InstanceProvisioning) && i.BusyBlocks == 0
}

// Gather finds what of a pool can serve the jobs of a replica: for each
// request an instance that is ready, or else one that is being made, or else
// nothing. No two get the same.
func Gather(reqs []Request, p Pool) []*Match {
	out := make([]*Match, len(reqs))
	taken := map[string]bool{}
	for n, req := range reqs {
		j := newJudge(req, p)
		for _, inst := range p.Instances {
			seen, soon := coming(inst)
			if taken[inst.ID] || !soon && !ready(inst) {
				continue
			}
			m, why := j.match(seen)
			if why.code != "" || !m.Available {
				continue
			}
			m.Instance = inst
			if out[n] == nil || sooner(m, *out[n]) {
				out[n] = &m
			}
		}
		if out[n] != nil {
			taken[out[n].Instance.ID] = true
		}
	}
	return out
}

// sooner prefers what is ready, then what is better.
func sooner(a, b Match) bool {
	if c := order(!ready(a.Instance), !ready(b.Instance)); c != 0 {
		return c < 0
	}
	return better(a, b) < 0
}

// Room is how many machines more a fleet may have; -1 is no limit.
func Room(p Pool) int {
	nodes := p.Fleet.Spec.Configuration.Nodes
	switch {
	case nodes == nil:
		return 0
	case nodes.Max == nil:
		return -1
	}
	return max(*nodes.Max-live(p), 0)
}

// live counts the instances that are not being ended.
func live(p Pool) int {
	n := 0
	for _, i := range p.Instances {
		if !leaving(i) {
			n++
		}
	}
	return n
}

func leaving(i store.Instance) bool {
	return i.Status == api.InstanceTerminating || i.Status == api.InstanceTerminated
}

// Allows says whether a request may use a fleet, whatever its state.
func Allows(req Request, p Pool) bool { return wishReason(req, p).code == "" }
