package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"dstack/controller/auth"
	"dstack/controller/engine"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

func (a *API) listGateways(ctx context.Context, c call, in api.ListGatewaysRequest) ([]api.Gateway, error) {
	var out []api.Gateway
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Gateways(c.Project.ID)
		if err != nil {
			return fmt.Errorf("list gateways: %w", err)
		}
		if in.IncludeImported && c.Passes(auth.Member) { // what others lend is for members
			imported, err := tx.ImportedGateways(c.Project.ID)
			if err != nil {
				return fmt.Errorf("list imported gateways: %w", err)
			}
			rows = append(rows, imported...)
		}
		out, err = gatewayViews(tx, c.Project.ID, rows, c.version)
		return err
	})
	return out, err
}

// getGateway shows a gateway to members, to those who import it, and to all
// when the project is public.
func (a *API) getGateway(ctx context.Context, c call, in api.GetGatewayRequest) (api.Gateway, error) {
	var out api.Gateway
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		g, err := findGateway(tx, c.Project.ID, in.Name)
		if !c.Project.IsPublic {
			err = a.ownOrLent(c, err, func() (bool, error) { return tx.GatewayLentTo(g.ID, c.User.ID) })
		}
		if err != nil {
			return err
		}
		out, err = oneGatewayView(tx, c, &g)
		return err
	})
	return out, err
}

func findGateway(tx *store.Tx, projectID, name string) (store.Gateway, error) {
	g, err := tx.GatewayByName(projectID, name)
	if isNotFound(err) {
		return g, notExists(msgNotFound)
	}
	if err != nil {
		return g, fmt.Errorf("find gateway: %w", err)
	}
	return g, nil
}

func oneGatewayView(tx *store.Tx, c call, g *store.Gateway) (api.Gateway, error) {
	views, err := gatewayViews(tx, c.Project.ID, []store.Gateway{*g}, c.version)
	if err != nil {
		return api.Gateway{}, err
	}
	return views[0], nil
}

// gatewayState is a gateway that has a name already, as it is now.
type gatewayState struct {
	row  *store.Gateway
	view api.Gateway
}

// currentGateway is empty if there is no name, or no such gateway. One that
// cannot be changed any more is refused.
func currentGateway(tx *store.Tx, c call, name *string) (gatewayState, error) {
	var s gatewayState
	if name == nil {
		return s, nil
	}
	g, err := tx.GatewayByName(c.Project.ID, *name)
	if isNotFound(err) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("find gateway: %w", err)
	}
	if g.Deleting {
		return s, refuse("Gateway '%s' is being deleted. Try again later.", g.Name)
	}
	if g.Status == api.GatewayFailed {
		return s, refuse("Gateway '%s' is in FAILED status and cannot be updated in-place. Delete it and re-apply.", g.Name)
	}
	s.row = &g
	s.view, err = oneGatewayView(tx, c, &g)
	return s, err
}

func (a *API) planGateway(ctx context.Context, c call, in api.GetGatewayPlanRequest) (api.GatewayPlan, error) {
	spec := in.Spec
	spec.Configuration = legacyDefault(c.version, spec.Configuration)
	plan := api.GatewayPlan{
		ProjectName: c.Project.Name, User: c.User.Name, Spec: in.Spec, EffectiveSpec: in.Spec, Action: actionCreate,
	}
	if err := a.checkGateway(&spec.Configuration); err != nil {
		return plan, err
	}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		current, err := currentGateway(tx, c, spec.Configuration.Name)
		if err != nil || current.row == nil {
			return err
		}
		plan.CurrentResource = &current.view
		if _, ok := diffGateway(current.view.Configuration, spec.Configuration); ok {
			plan.Action = actionUpdate
		}
		return nil
	})
	return plan, err
}

func (a *API) applyGateway(ctx context.Context, c call, in api.ApplyGatewayPlanRequest) (api.Gateway, error) {
	conf := legacyDefault(c.version, in.Plan.Spec.Configuration)
	if err := a.checkGateway(&conf); err != nil {
		return api.Gateway{}, err
	}
	for {
		name, err := a.applyGatewayOnce(ctx, c, conf, in)
		if isConflict(err) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return api.Gateway{}, err
		}
		return a.getGateway(ctx, c, api.GetGatewayRequest{Name: name})
	}
}

// applyGatewayOnce returns the name of the gateway.
func (a *API) applyGatewayOnce(ctx context.Context, c call, conf config.Gateway, in api.ApplyGatewayPlanRequest) (string, error) {
	var current gatewayState
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) (err error) {
		current, err = currentGateway(tx, c, conf.Name)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("find gateway: %w", err)
	}
	if current.row == nil {
		return a.makeGateway(ctx, c, conf)
	}
	if !in.Force && !sameGateway(in.Plan.CurrentResource, &current) {
		return "", refuse(msgResourceChanged)
	}
	fields, ok := diffGateway(current.view.Configuration, conf)
	if !ok {
		return "", refuse("Gateway '%s' cannot be updated in-place. Delete it and re-apply.", current.row.Name)
	}
	return current.row.Name, wishError(a.deps.Engine.UpdateGateway(ctx, engine.GatewayUpdate{
		ActorID: c.User.ID, GatewayID: current.row.ID, Version: current.row.Version, Configuration: conf, Changed: fields,
	}))
}

// sameGateway says whether what the client saw is what is there.
func sameGateway(seen *api.Gateway, now *gatewayState) bool {
	return seen != nil && normalUUID(seen.ID) == now.row.ID && len(changed(seen.Configuration, now.view.Configuration)) == 0
}

// makeGateway creates a gateway on a backend of the project and returns its
// name.
func (a *API) makeGateway(ctx context.Context, c call, conf config.Gateway) (string, error) {
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		types, err := tx.BackendTypes(c.Project.ID)
		if err != nil {
			return fmt.Errorf("list backends: %w", err)
		}
		if !slices.Contains(types, conf.Backend) {
			return &Error{Status: http.StatusBadRequest, Code: api.CodeBackendNotAvailable, Msg: "Backend not available"}
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("find backend: %w", err)
	}
	g, err := a.deps.Engine.CreateGateway(ctx, engine.NewGateway{ProjectID: c.Project.ID, ActorID: c.User.ID, Configuration: conf})
	return g.Name, wishError(err)
}

func (a *API) createGateway(ctx context.Context, c call, in api.CreateGatewayRequest) (api.Gateway, error) {
	conf := legacyDefault(c.version, in.Configuration)
	if err := a.checkGateway(&conf); err != nil {
		return api.Gateway{}, err
	}
	name, err := a.makeGateway(ctx, c, conf)
	if err != nil {
		return api.Gateway{}, err
	}
	return a.getGateway(ctx, c, api.GetGatewayRequest{Name: name})
}

// deleteGateways records the wish; the engine takes the gateways down.
func (a *API) deleteGateways(ctx context.Context, c call, in api.DeleteGatewaysRequest) (nothing, error) {
	return nil, wishError(a.deps.Engine.DeleteGateways(ctx, c.User.ID, c.Project.ID, distinct(in.Names)))
}

func (a *API) setDefaultGateway(ctx context.Context, c call, in api.SetDefaultGatewayRequest) (nothing, error) {
	id := ""
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		g, err := defaultable(tx, c.Project, in)
		id = g.ID
		return err
	})
	if err != nil {
		return nil, err
	}
	err = a.deps.Engine.SetDefaultGateway(ctx, c.User.ID, c.Project.ID, id)
	if isNotFound(err) {
		return nil, notExists(msgNotFound)
	}
	return nil, wishError(err)
}

// defaultable finds a gateway of the project or one that it imports.
func defaultable(tx *store.Tx, project store.Project, in api.SetDefaultGatewayRequest) (store.Gateway, error) {
	if in.GatewayProject == nil || *in.GatewayProject == project.Name {
		return findGateway(tx, project.ID, in.Name)
	}
	imported, err := tx.ImportedGateways(project.ID)
	if err != nil {
		return store.Gateway{}, fmt.Errorf("list imported gateways: %w", err)
	}
	for _, g := range imported {
		owner, err := tx.Project(g.ProjectID)
		if err != nil {
			return store.Gateway{}, fmt.Errorf("find project: %w", err)
		}
		if g.Name == in.Name && owner.Name == *in.GatewayProject {
			return g, nil
		}
	}
	return store.Gateway{}, notExists(msgNotFound)
}

func (a *API) setWildcardDomain(ctx context.Context, c call, in api.SetWildcardDomainRequest) (api.Gateway, error) {
	var g store.Gateway
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) (err error) {
		g, err = findGateway(tx, c.Project.ID, in.Name)
		return err
	})
	if err != nil {
		return api.Gateway{}, err
	}
	if err := a.deps.Engine.SetGatewayDomain(ctx, c.User.ID, g.ID, in.WildcardDomain); err != nil {
		return api.Gateway{}, wishError(err)
	}
	return a.getGateway(ctx, c, api.GetGatewayRequest{Name: in.Name})
}
