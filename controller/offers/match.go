package offers

import (
	"fmt"
	"slices"
	"strings"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// fleetReason says why a fleet cannot be used at all; empty if it can.
func fleetReason(req Request, p Pool) string {
	if reason := wishReason(req, p); reason != "" {
		return reason
	}
	if p.Fleet.Spec.Configuration.Nodes != nil {
		return growReason(req, p)
	}
	free := 0
	for _, inst := range p.Instances {
		free += freeBlocks(inst)
	}
	switch {
	case len(p.Instances) == 0:
		return "the fleet has no instances"
	case free >= max(req.Nodes, 1):
		return ""
	case !slices.ContainsFunc(p.Instances, ready):
		return "none of its hosts is ready"
	}
	return "its hosts are busy"
}

// growReason says why a cloud fleet may not have another machine for the
// request.
func growReason(req Request, p Pool) string {
	c := p.Fleet.Spec.Configuration
	if c.Nodes.Max == nil || c.Blocks != (config.Blocks{Count: 1}) {
		return ""
	}
	free := *c.Nodes.Max
	for _, inst := range p.Instances {
		if inst.BusyBlocks > 0 {
			free--
		}
	}
	if free < max(req.Nodes, 1) {
		return "the fleet may have no more machines"
	}
	return ""
}

// wishReason says why the request does not allow a fleet, whatever its state.
func wishReason(req Request, p Pool) string {
	f := p.Fleet
	if f.Status != api.FleetActive || f.Deleted {
		return "the fleet is being deleted"
	}
	if req.FleetID != "" && req.FleetID != f.ID {
		return "the run belongs to another fleet"
	}
	if req.Profile.Fleets != nil && !slices.ContainsFunc(req.Profile.Fleets, func(ref config.EntityReference) bool {
		return names(ref, p)
	}) {
		return "the run asks for other fleets"
	}
	placement := f.Spec.Configuration.Placement
	if req.Nodes > 1 && (placement == nil || *placement != config.PlacementCluster) {
		return "a multi-node run needs a fleet with `placement: cluster`"
	}
	return ""
}

func names(ref config.EntityReference, p Pool) bool {
	if ref.Project == nil {
		return ref.Name == p.Fleet.Name && !p.Imported
	}
	return ref.Name == p.Fleet.Name && *ref.Project == p.Project
}

func ready(i store.Instance) bool {
	return i.Status == api.InstanceIdle || i.Status == api.InstanceBusy
}

func settling(i store.Instance) bool {
	return (i.Status == api.InstancePending || i.Status == api.InstanceProvisioning) && i.ReasonMessage == nil
}

func freeBlocks(i store.Instance) int {
	if !ready(i) {
		return 0
	}
	return max(i.TotalBlocks-i.BusyBlocks, 0)
}

// match judges one instance; the reason is empty if it fits.
func match(req Request, p Pool, inst store.Instance) (Match, string) {
	if reason := stateReason(req, inst); reason != "" {
		return Match{}, reason
	}
	if reason := profileReason(req, p, inst); reason != "" {
		return Match{}, reason
	}
	total := max(inst.TotalBlocks, 1)
	whole := inst.Type.Resources
	first := 1
	if req.Nodes > 1 {
		first = total
	}
	reason := ""
	for b := first; b <= total; b++ {
		share := Share(whole, total, b)
		if reason = resourcesReason(req.Requirements, share); reason != "" {
			continue
		}
		m := Match{Instance: inst, Available: b <= freeBlocks(inst)}
		m.Offer = api.Offer{
			Backend:         inst.Backend,
			Instance:        api.InstanceType{Name: inst.Type.Name, Resources: share},
			Region:          inst.Region,
			Price:           inst.Price,
			BackendData:     map[string]any{},
			Availability:    Busy,
			InstanceRuntime: "shim",
			Blocks:          b,
			TotalBlocks:     total,
		}
		if m.Available {
			m.Offer.Availability = Idle
		}
		return m, ""
	}
	return Match{}, reason
}

// stateReason says why an instance takes no job now, whatever the job.
func stateReason(req Request, inst store.Instance) string {
	switch {
	case inst.Access.Local && req.NoLocal:
		return "only administrators may use this machine (start the server with --local-shared to allow everybody)"
	case inst.Status == api.InstancePending || inst.Status == api.InstanceProvisioning:
		if inst.ReasonMessage != nil {
			return "not ready yet: " + *inst.ReasonMessage
		}
		return "not ready yet"
	case inst.Status != api.InstanceIdle && inst.Status != api.InstanceBusy:
		return "being removed"
	case inst.Unreachable:
		if inst.ReasonMessage != nil {
			return "unreachable: " + *inst.ReasonMessage
		}
		return "unreachable"
	case inst.Unhealthy:
		return "its health check failed"
	case inst.Info != nil && inst.Info.Problem != nil:
		return inst.Info.Problem.Error()
	case inst.Type == nil || inst.TotalBlocks == 0:
		return "its resources are not known yet"
	}
	return ""
}

func profileReason(req Request, p Pool, inst store.Instance) string {
	pr := req.Profile
	switch {
	case pr.Instances != nil && !slices.ContainsFunc(pr.Instances, func(s config.InstanceSelector) bool {
		return selects(s, p, inst)
	}):
		return "the run asks for other instances"
	case pr.Backends != nil && !oneOf(pr.Backends, inst.Backend):
		return "the run asks for backends " + strings.Join(pr.Backends, ", ")
	case pr.Regions != nil && !oneOf(pr.Regions, inst.Region):
		return "the run asks for regions " + strings.Join(pr.Regions, ", ")
	case pr.InstanceTypes != nil && !oneOf(pr.InstanceTypes, inst.Type.Name):
		return "the run asks for instance types " + strings.Join(pr.InstanceTypes, ", ")
	}
	if most := req.Requirements.MaxPrice; most != nil && inst.Price > *most {
		return fmt.Sprintf("costs %g, more than max_price %g", inst.Price, *most)
	}
	return ""
}

func selects(s config.InstanceSelector, p Pool, inst store.Instance) bool {
	switch {
	case s.Name != nil:
		return *s.Name == inst.Name
	case s.Hostname != nil:
		return *s.Hostname == inst.Hostname || inst.InternalIP != nil && *s.Hostname == *inst.InternalIP
	case s.Fleet != nil && s.Instance != nil:
		return names(*s.Fleet, p) && *s.Instance == inst.Num
	}
	return false
}

func oneOf(list []string, s string) bool {
	return slices.ContainsFunc(list, func(x string) bool { return strings.EqualFold(x, s) })
}
