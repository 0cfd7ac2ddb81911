package offers

import (
	"fmt"
	"slices"
	"strings"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
	"dstack/protocol/reason"
)

// remoteBackend is that of SSH fleets.
const remoteBackend = "remote"

// refusal is why something cannot be used; the zero value is that it can.
type refusal struct {
	code reason.Rejection
	text string
}

func because(code reason.Rejection, format string, args ...any) refusal {
	return refusal{code, fmt.Sprintf(format, args...)}
}

// fleetReason says why a fleet cannot be used at all.
func fleetReason(req Request, p Pool) refusal {
	if r := wishReason(req, p); r.code != "" {
		return r
	}
	if req.All {
		return refusal{}
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
		return because(reason.FleetEmpty, "the fleet has no instances")
	case free >= max(req.Nodes, req.Need, 1):
		return refusal{}
	case !slices.ContainsFunc(p.Instances, ready):
		return because(reason.FleetNotReady, "none of its hosts is ready")
	}
	return because(reason.FleetBusy, "its hosts are busy")
}

// growReason says why a cloud fleet may not have another machine for the
// request.
func growReason(req Request, p Pool) refusal {
	c := p.Fleet.Spec.Configuration
	if c.Nodes.Max == nil || c.Blocks != (config.Blocks{Count: 1}) {
		return refusal{}
	}
	free := *c.Nodes.Max
	for _, inst := range p.Instances {
		if inst.BusyBlocks > 0 {
			free--
		}
	}
	if free < max(req.Nodes, req.Need, 1) {
		return because(reason.FleetFull, "the fleet may have no more machines")
	}
	return refusal{}
}

// wishReason says why the request does not allow a fleet, whatever its state.
func wishReason(req Request, p Pool) refusal {
	f := p.Fleet
	if f.Status != api.FleetActive || f.Deleted {
		return because(reason.FleetDeleting, "the fleet is being deleted")
	}
	if req.FleetID != "" && req.FleetID != f.ID {
		return because(reason.FleetOther, "the run belongs to another fleet")
	}
	if req.Profile.Fleets != nil && !slices.ContainsFunc(req.Profile.Fleets, func(ref config.EntityReference) bool {
		return names(ref, p)
	}) {
		return because(reason.FleetNotAsked, "the run asks for other fleets")
	}
	placement := f.Spec.Configuration.Placement
	if req.Nodes > 1 && !req.All && (placement == nil || *placement != config.PlacementCluster) {
		return because(reason.FleetNoCluster, "a multi-node run needs a fleet with `placement: cluster`")
	}
	return refusal{}
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

// settling says that it is not known yet what an instance will be, and that it
// may be for everybody.
func settling(i store.Instance) bool {
	_, known := coming(i)
	return Unclaimed(i) && !known && i.ReasonMessage == nil
}

func freeBlocks(i store.Instance) int {
	if !ready(i) {
		return 0
	}
	return max(i.TotalBlocks-i.BusyBlocks, 0)
}

// judge says what the instances of a pool are for a request.
type judge struct {
	req  Request
	pool Pool
	// twice are the internal addresses that several of them have.
	twice map[string]bool
}

func newJudge(req Request, p Pool) judge {
	j := judge{req: req, pool: p}
	if req.multinode() {
		j.twice = p.twice()
	}
	return j
}

// match judges one instance.
func (j judge) match(inst store.Instance) (Match, refusal) {
	req, p := j.req, j.pool
	if r := stateReason(req, inst); r.code != "" {
		return Match{}, r
	}
	if r := profileReason(req, p, inst); r.code != "" {
		return Match{}, r
	}
	total := max(inst.TotalBlocks, 1)
	whole := inst.Type.Resources
	first := 1
	if req.multinode() {
		first = total // nodes do not share a host
		if r := networkReason(j.twice, inst); r.code != "" && !req.All {
			return Match{}, r
		}
	}
	var why refusal
	for b := first; b <= total; b++ {
		share := Share(whole, total, b)
		if why = resourcesReason(req.Requirements, share); why.code != "" {
			continue
		}
		if total > 1 && b > freeBlocks(inst) {
			return Match{}, because(reason.InstanceBusy, "%d of its %d blocks are free, needs %d", freeBlocks(inst), total, b)
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
		return m, refusal{}
	}
	return Match{}, why
}

// stateReason says why an instance takes no job now, whatever the job.
func stateReason(req Request, inst store.Instance) refusal {
	switch {
	case inst.Access.Local && req.NoLocal:
		return because(reason.InstanceForbidden, "only administrators may use this machine (start the server with --local-shared to allow everybody)")
	case inst.Status == api.InstancePending || inst.Status == api.InstanceProvisioning:
		if inst.ReasonMessage != nil {
			return because(reason.InstanceNotReady, "not ready yet: %s", *inst.ReasonMessage)
		}
		return because(reason.InstanceNotReady, "not ready yet")
	case inst.Status != api.InstanceIdle && inst.Status != api.InstanceBusy:
		return because(reason.InstanceLeaving, "being removed")
	case inst.Unreachable:
		if inst.ReasonMessage != nil {
			return because(reason.InstanceUnreachable, "unreachable: %s", *inst.ReasonMessage)
		}
		return because(reason.InstanceUnreachable, "unreachable")
	case inst.Unhealthy:
		return because(reason.InstanceUnhealthy, "its health check failed%s", incidents(inst.Info))
	case inst.Info != nil && inst.Info.Problem != nil:
		return because(reason.InstanceProblem, "%s", inst.Info.Problem.Error())
	case inst.Info != nil && inst.Info.Notice != nil && inst.Info.Notice.Kind == hostapi.NoticeInterruption:
		return because(reason.InstanceLeaving, "the cloud takes it back")
	case inst.Type == nil || inst.TotalBlocks == 0:
		return because(reason.InstanceUnknown, "its resources are not known yet")
	}
	return refusal{}
}

// incidents are those of a host's accelerators that keep jobs away.
func incidents(info *hostapi.Info) string {
	if info == nil || info.Health == nil {
		return ""
	}
	text := ""
	for _, i := range info.Health.Incidents {
		if i.Status == hostapi.HealthFailure {
			text += ": " + i.Message
		}
	}
	return text
}

func profileReason(req Request, p Pool, inst store.Instance) refusal {
	pr := req.Profile
	switch {
	case pr.Instances != nil && !slices.ContainsFunc(pr.Instances, func(s config.InstanceSelector) bool {
		return selects(s, p, inst)
	}):
		return because(reason.InstanceNotAsked, "the run asks for other instances")
	case pr.Backends != nil && !oneOf(pr.Backends, inst.Backend):
		return because(reason.BackendNotAsked, "the run asks for backends %s", strings.Join(pr.Backends, ", "))
	case pr.Regions != nil && !oneOf(pr.Regions, inst.Region):
		return because(reason.RegionNotAsked, "the run asks for regions %s", strings.Join(pr.Regions, ", "))
	case pr.AvailabilityZones != nil && inst.Machine != nil && inst.Machine.Zone != "" && !oneOf(pr.AvailabilityZones, inst.Machine.Zone):
		return because(reason.RegionNotAsked, "the run asks for zones %s", strings.Join(pr.AvailabilityZones, ", "))
	case pr.InstanceTypes != nil && !oneOf(pr.InstanceTypes, inst.Type.Name):
		return because(reason.TypeNotAsked, "the run asks for instance types %s", strings.Join(pr.InstanceTypes, ", "))
	}
	if why := req.Volumes.refuse(inst); why.code != "" {
		return why
	}
	if most := req.Requirements.MaxPrice; most != nil && inst.Price > *most {
		return because(reason.PriceTooHigh, "costs %g, more than max_price %g", inst.Price, *most)
	}
	return refusal{}
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
