package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dstack/controller/auth"
	"dstack/controller/engine"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// LocalFleet is the name of the fleet that holds the server's own machine.
const LocalFleet = "local"

const (
	actionCreate = "create"
	actionUpdate = "update"
)

// effectiveFleet is the specification that is stored: without keys, which
// are kept with the hosts.
func effectiveFleet(s api.FleetSpec) api.FleetSpec {
	s.Configuration.Type = config.TypeFleet
	return stripFleet(s)
}

func (a *API) planFleet(ctx context.Context, c call, in api.GetFleetPlanRequest) (api.FleetPlan, error) {
	hosts, err := a.checkFleet(c, &in.Spec)
	if err != nil {
		return api.FleetPlan{}, err
	}
	spec := effectiveFleet(in.Spec)
	plan := api.FleetPlan{
		ProjectName: c.Project.Name, User: c.User.Name,
		Spec: in.Spec, EffectiveSpec: &spec, Action: actionCreate, Offers: []api.Offer{},
	}
	err = a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		current, err := namedFleet(tx, c.Project.ID, spec.Configuration.Name)
		if err != nil {
			return err
		}
		if err := hostsFree(tx, current, hosts); err != nil {
			return err
		}
		if current == nil {
			return nil
		}
		instances, err := tx.InstancesOfFleet(current.ID)
		if err != nil {
			return fmt.Errorf("list instances of fleet: %w", err)
		}
		view, err := oneFleetView(tx, current, c.Project.Name)
		if err != nil {
			return err
		}
		plan.CurrentResource = &view
		if _, err := diffFleet(&current.Spec, &spec, instances, hosts); err == nil && current.Status == api.FleetActive {
			plan.Action = actionUpdate
		}
		return nil
	})
	if err != nil {
		return plan, err
	}
	return plan, a.planMachines(ctx, c, &plan)
}

// planMachines adds to the plan of a cloud fleet what could be rented for it.
func (a *API) planMachines(ctx context.Context, c call, plan *api.FleetPlan) error {
	if plan.EffectiveSpec.Configuration.Nodes == nil {
		return nil
	}
	goods, err := a.stock(ctx, c.Project.ID)
	if err != nil || len(goods) == 0 {
		return err
	}
	var (
		hired offers.Hired
		req   offers.Request
		fleet = store.Fleet{Spec: *plan.EffectiveSpec}
	)
	if id := fleet.Spec.Configuration.Reservation; id != nil {
		req.Reserved = a.reserved(ctx, c.Project.ID, []string{*id})
	}
	hired.Rentals, hired.Refused = offers.Rent(req, fleet, goods.Offers())
	for i, r := range hired.Rentals {
		if i < defaultOffers {
			plan.Offers = append(plan.Offers, r.Wire())
		}
		if most := plan.MaxOfferPrice; most == nil || r.Offer.Price > *most {
			plan.MaxOfferPrice = &r.Offer.Price
		}
	}
	plan.TotalOffers = len(hired.Rentals)
	if len(hired.Rentals) == 0 && len(hired.Refused) > 0 {
		plan.Warnings = []string{"No offers: " + offers.Summary(hired.Refused)}
	}
	plan.Warnings = slices.Concat(plan.Warnings, goods.Missing(), refusals(hired.Rentals, goods.Missing()), oldPrices(hired.Rentals, a.deps.Now()))
	return nil
}

// checkFleet applies the rules and the caller's permissions.
func (a *API) checkFleet(c call, spec *api.FleetSpec) ([]engine.NewHost, error) {
	if spec.Configuration.SSHConfig != nil && !a.deps.Policy.CanManageSSHFleets(&c.User, c.Role) {
		return nil, forbidden(msgAccessDenied)
	}
	if c.Project.Name == auth.MainProject && deref(spec.Configuration.Name, "") == LocalFleet {
		return nil, refuse("The name '%s' is kept for the server's own machine: start the server with --local to use it", LocalFleet)
	}
	return checkFleet(spec)
}

// namedFleet is nil if there is no name, or no such fleet.
func namedFleet(tx *store.Tx, projectID string, name *string) (*store.Fleet, error) {
	if name == nil {
		return nil, nil //nolint:nilnil // no such fleet is no error here
	}
	f, err := tx.FleetByName(projectID, *name)
	if isNotFound(err) {
		return nil, nil //nolint:nilnil // no such fleet is no error here
	}
	if err != nil {
		return nil, fmt.Errorf("find fleet: %w", err)
	}
	return &f, nil
}

// hostsFree refuses hosts that are in another fleet of any project, so that
// the plan says it already; the engine checks again.
func hostsFree(tx *store.Tx, own *store.Fleet, hosts []engine.NewHost) error {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Hostname
	}
	rows, err := tx.InstancesOnHosts(names)
	if err != nil {
		return fmt.Errorf("look for hosts in other fleets: %w", err)
	}
	var taken []string
	for _, in := range rows {
		if in.Status == api.InstanceTerminated || own != nil && in.FleetID == own.ID {
			continue
		}
		if slices.ContainsFunc(hosts, func(h engine.NewHost) bool { return h.Hostname == in.Hostname && h.Access.Port == in.Access.Port }) {
			taken = append(taken, in.Hostname)
		}
	}
	if len(taken) > 0 {
		return refuse("Instances [%s] are already assigned to a fleet.", strings.Join(taken, ", "))
	}
	return nil
}

func (a *API) applyFleet(ctx context.Context, c call, in api.ApplyFleetPlanRequest) (api.Fleet, error) {
	hosts, err := a.checkFleet(c, &in.Plan.Spec)
	if err != nil {
		return api.Fleet{}, err
	}
	spec := effectiveFleet(in.Plan.Spec)
	for {
		f, err := a.applyFleetOnce(ctx, c, spec, hosts, in)
		if isConflict(err) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return api.Fleet{}, err
		}
		return a.getFleet(ctx, c, api.GetFleetRequest{ID: &f.ID})
	}
}

func (a *API) applyFleetOnce(
	ctx context.Context, c call, spec api.FleetSpec, hosts []engine.NewHost, in api.ApplyFleetPlanRequest,
) (store.Fleet, error) {
	var (
		current   *store.Fleet
		instances []store.Instance
	)
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		var err error
		if current, err = namedFleet(tx, c.Project.ID, spec.Configuration.Name); err != nil || current == nil {
			return err
		}
		instances, err = tx.InstancesOfFleet(current.ID)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return store.Fleet{}, fmt.Errorf("find fleet: %w", err)
	}
	if current == nil {
		f, err := a.deps.Engine.CreateFleet(ctx, engine.NewFleet{ProjectID: c.Project.ID, ActorID: &c.User.ID, Spec: spec, Hosts: hosts})
		return f, wishError(err)
	}
	if current.Status != api.FleetActive {
		return store.Fleet{}, refuse("Fleet %s is being deleted. Try again when it is gone", current.Name)
	}
	if !in.Force && !sameFleet(in.Plan.CurrentResource, current) {
		return store.Fleet{}, refuse(msgResourceChanged)
	}
	change, err := diffFleet(&current.Spec, &spec, instances, hosts)
	if err != nil {
		return store.Fleet{}, err
	}
	f, err := a.deps.Engine.UpdateFleet(ctx, engine.FleetUpdate{
		ActorID: c.User.ID, FleetID: current.ID, Version: current.Version, Spec: spec,
		Add: change.add, Remove: numbersOf(instances, change.remove),
	})
	return f, wishError(err)
}

// numbersOf are the numbers of the instances on hosts.
func numbersOf(instances []store.Instance, hostnames []string) []int {
	var out []int
	for _, in := range instances {
		if slices.Contains(hostnames, in.Hostname) {
			out = append(out, in.Num)
		}
	}
	return out
}

// sameFleet says whether what the client saw is what is stored.
func sameFleet(seen *api.Fleet, f *store.Fleet) bool {
	return seen != nil && normalUUID(seen.ID) == f.ID && len(changed(stripFleet(seen.Spec), stripFleet(f.Spec))) == 0
}

// deleteFleets records the wish; the engine takes the hosts down.
func (a *API) deleteFleets(ctx context.Context, c call, in api.DeleteFleetsRequest) (nothing, error) {
	if err := a.mayDelete(ctx, c, in.Names); err != nil {
		return nil, err
	}
	return nil, wishError(a.deps.Engine.DeleteFleets(ctx, c.User.ID, c.Project.ID, distinct(in.Names)))
}

// mayDelete refuses SSH fleets to those who may not manage them, and the
// server's own machine to all but global admins.
func (a *API) mayDelete(ctx context.Context, c call, names []string) error {
	if a.deps.Policy.IsAdmin(&c.User) {
		return nil
	}
	if c.Project.Name == auth.MainProject && slices.Contains(names, LocalFleet) {
		return forbidden(msgAccessDenied)
	}
	if a.deps.Policy.CanManageSSHFleets(&c.User, c.Role) {
		return nil
	}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		for _, name := range names {
			f, err := namedFleet(tx, c.Project.ID, &name)
			if err != nil {
				return err
			}
			if f != nil && f.Spec.Configuration.SSHConfig != nil {
				return forbidden(msgAccessDenied)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("check permission: %w", err)
	}
	return nil
}

// deleteInstances removes chosen instances; the fleet stays.
func (a *API) deleteInstances(ctx context.Context, c call, in api.DeleteFleetInstancesRequest) (nothing, error) {
	if err := a.mayDelete(ctx, c, []string{in.Name}); err != nil {
		return nil, err
	}
	err := a.deps.Engine.DeleteInstances(ctx, c.User.ID, c.Project.ID, in.Name, in.InstanceNums)
	if isNotFound(err) {
		return nil, nil // like an unknown number: nothing is left to delete
	}
	return nil, wishError(err)
}
