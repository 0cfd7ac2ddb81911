package engine

import (
	"time"

	"dstack/controller/engine/jobspec"
	"dstack/controller/store"
)

// addressWait is when a job looks again whose commands mention another one
// that has no place yet.
const addressWait = time.Second

// nodes are the jobs of the replica with their places.
func (v *jobView) nodes() []jobspec.Node {
	var out []jobspec.Node
	for _, s := range v.siblings {
		n := jobspec.Node{JobNum: s.JobNum, JobID: s.ID, InternalIP: addressOf(s)}
		if s.Runtime != nil && s.Runtime.Offer != nil {
			n.GPUs = len(s.Runtime.Offer.Instance.Resources.GPUs)
		}
		out = append(out, n)
	}
	return out
}

func addressOf(j *store.Job) string {
	if j.Provisioning == nil || j.Provisioning.InternalIP == nil {
		return ""
	}
	return *j.Provisioning.InternalIP
}

// addresses are the internal IPs that commands may mention: of the nodes of a
// task, or of the first replicas of each group of a service.
func (v *jobView) addresses() jobspec.Addresses {
	if v.job.Spec.ServicePort == nil {
		var out jobspec.Addresses
		for _, s := range v.siblings {
			for len(out) <= s.Spec.NodeGroupIndex {
				out = append(out, nil)
			}
			out[s.Spec.NodeGroupIndex] = append(out[s.Spec.NodeGroupIndex], addressOf(s))
		}
		return out
	}
	groups := jobspec.ReplicaGroups(v.run.Spec.Configuration)
	out := make(jobspec.Addresses, len(groups))
	for i, g := range groups {
		for _, p := range v.peers {
			if p.Spec.ReplicaGroup == g.Name && !p.Status.Finished() && p.Stop == nil && len(out[i]) < g.Min {
				out[i] = append(out[i], addressOf(p))
			}
		}
	}
	return out
}
