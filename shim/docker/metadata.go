package docker

import (
	"context"

	"dstack/shim/workload"
)

// keepAway keeps a container that is to be made from the cloud's metadata
// service, unless its user asked for that.
func (r *Runtime) keepAway(ctx context.Context, t workload.Task, q *request) error {
	if r.cfg.Guard == nil || t.Spec.Metadata {
		return nil
	}
	r.mu.Lock()
	groups := r.groups
	r.mu.Unlock()
	parent, err := r.cfg.Guard.Keep(ctx, groups)
	if err != nil {
		return failed("creating_container_error", "The job cannot be kept away from the cloud's metadata service (%v). "+
			"Use an image of the machine with iptables, or set DSTACK_INSTANCE_METADATA=1 in the env of the run if it may have the machine's credentials", err)
	}
	q.hostCfg.CgroupParent = parent
	return nil
}
