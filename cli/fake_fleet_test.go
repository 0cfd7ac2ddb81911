package cli

import (
	"fmt"
	"slices"
	"strings"

	"dstack/protocol/api"
)

func (f *fakeServer) planFleet(req api.GetFleetPlanRequest) api.FleetPlan {
	effective := stripped(req.Spec)
	plan := api.FleetPlan{ProjectName: fakeProject, User: "admin", Spec: req.Spec, EffectiveSpec: &effective, Action: "create"}
	if req.Spec.Configuration.Nodes != nil {
		plan.TotalOffers, plan.MaxOfferPrice, plan.Warnings = 5, new(3.0), []string{"Backend gcp: its offers have not arrived yet"}
		for range plan.TotalOffers {
			plan.Offers = append(plan.Offers, api.Offer{Backend: "aws", Region: "us-east-1", Instance: fakeMachine(), Price: 1, Availability: "unknown"})
		}
	}
	for _, fleet := range f.fleets {
		if fleet.Name == deref(req.Spec.Configuration.Name) {
			current := *fleet
			plan.CurrentResource, plan.Action = &current, "update"
		}
	}
	return plan
}

// stripped is a specification without keys.
func stripped(spec api.FleetSpec) api.FleetSpec {
	if spec.Configuration.SSHConfig != nil {
		ssh := *spec.Configuration.SSHConfig
		ssh.SSHKey = nil
		spec.Configuration.SSHConfig = &ssh
	}
	return spec
}

func (f *fakeServer) applyFleet(req api.ApplyFleetPlanRequest) api.Fleet {
	spec := stripped(req.Plan.Spec)
	f.fleets = slices.DeleteFunc(f.fleets, func(x *api.Fleet) bool { return x.Name == *spec.Configuration.Name })
	fleet := &api.Fleet{
		ID: f.id(), Name: *spec.Configuration.Name, ProjectName: fakeProject, Spec: spec, CreatedAt: api.At(fakeStart), Status: api.FleetActive,
	}
	for i, host := range spec.Configuration.SSHConfig.Hosts {
		remote, one, price, name := "remote", 1, 0.0, host.Hostname
		fleet.Instances = append(fleet.Instances, api.Instance{
			ID: f.id(), Name: fmt.Sprintf("%s-%d", fleet.Name, i), InstanceNum: i, ProjectName: fakeProject, Status: api.InstancePending,
			Created: api.At(fakeStart), Backend: &remote, Region: &remote, TotalBlocks: &one, HealthStatus: "healthy", Hostname: &name, Price: &price,
		})
	}
	f.fleets = append([]*api.Fleet{fleet}, f.fleets...)
	return *fleet
}

func (f *fakeServer) getFleet(req api.GetFleetRequest) (any, error) {
	for _, fleet := range f.fleets {
		if (req.ID != nil && fleet.ID == *req.ID) || (req.ID == nil && fleet.Name == deref(req.Name)) {
			for i := range fleet.Instances {
				moveHost(&fleet.Instances[i])
			}
			return *fleet, nil
		}
	}
	return nil, errNotThere
}

// moveHost lets a new host become idle, or fail.
func moveHost(i *api.Instance) {
	machine := fakeMachine()
	switch {
	case i.Status != api.InstancePending:
	case strings.HasPrefix(*i.Hostname, "bad"):
		reason, message := "error", "user ubuntu may not use sudo. Allow it in /etc/sudoers.d."
		i.Status, i.TerminationReason, i.TerminationReasonMessage = api.InstanceTerminated, &reason, &message
	default:
		i.Status, i.InstanceType = api.InstanceIdle, &machine
	}
}
