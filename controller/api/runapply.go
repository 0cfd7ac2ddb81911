package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"dstack/controller/engine"
	"dstack/controller/engine/jobspec"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// Engine carries out what users want (spec: rest-api.md 7.4, 7.5, 9).
type Engine interface {
	SubmitRun(ctx context.Context, s engine.Submission) (store.Run, error)
	UpdateRun(ctx context.Context, u engine.RunUpdate) (store.Run, error)
	StopRuns(ctx context.Context, actorID, projectID string, names []string, abort bool) error
	DeleteRuns(ctx context.Context, actorID, projectID string, names []string) error
	CreateFleet(ctx context.Context, n engine.NewFleet) (store.Fleet, error)
	UpdateFleet(ctx context.Context, u engine.FleetUpdate) (store.Fleet, error)
	DeleteFleets(ctx context.Context, actorID, projectID string, names []string) error
	DeleteInstances(ctx context.Context, actorID, projectID, fleet string, nums []int) error
	CreateGateway(ctx context.Context, n engine.NewGateway) (store.Gateway, error)
	UpdateGateway(ctx context.Context, u engine.GatewayUpdate) error
	DeleteGateways(ctx context.Context, actorID, projectID string, names []string) error
	SetDefaultGateway(ctx context.Context, actorID, projectID, gatewayID string) error
	SetGatewayDomain(ctx context.Context, actorID, gatewayID, domain string) error
	CreateVolume(ctx context.Context, n engine.NewVolume) (store.Volume, error)
	DeleteVolumes(ctx context.Context, actorID, projectID string, names []string) error
	Pulls
	Idle
}

// wishError tells the user why the engine refused.
func wishError(err error) error {
	if refused, ok := errors.AsType[*engine.Refused](err); ok {
		return &Error{Status: http.StatusBadRequest, Code: cmp.Or(refused.Code, api.CodeError), Msg: refused.Message}
	}
	return err
}

func (a *API) applyRun(ctx context.Context, c call, in api.ApplyRunPlanRequest) (api.Run, error) {
	if err := a.needKey(ctx, &c, &in.Plan.RunSpec); err != nil {
		return api.Run{}, err
	}
	spec, err := effectiveRun(in.Plan.RunSpec, &c.User, a.deps.Limits)
	if err != nil {
		return api.Run{}, err
	}
	oldWorkingDir(c.version, &spec)
	jobs, err := jobspec.Build(named(spec), nil, a.deps.Jobs)
	if err != nil {
		return api.Run{}, refuse("%v", err)
	}
	if err := a.checkSecrets(ctx, c, jobs); err != nil {
		return api.Run{}, err
	}
	if err := a.checkVolumes(ctx, c, jobs); err != nil {
		return api.Run{}, err
	}
	if err := a.knownRepo(ctx, c, &spec); err != nil {
		return api.Run{}, err
	}
	for {
		r, err := a.applyRunOnce(ctx, c, spec, in)
		if isConflict(err) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return api.Run{}, err
		}
		return a.findRunView(ctx, c, nil, &r.ID)
	}
}

func (a *API) applyRunOnce(ctx context.Context, c call, spec api.RunSpec, in api.ApplyRunPlanRequest) (store.Run, error) {
	current, err := a.activeRun(ctx, c, spec.RunName)
	if err != nil {
		return store.Run{}, err
	}
	// A request that is repeated asks for the run that it made.
	repeated := current != nil && c.requestKey != nil && deref(current.RequestKey, "") == *c.requestKey && current.UserID == c.User.ID
	if repeated {
		return *current, nil
	}
	if current == nil {
		r, err := a.deps.Engine.SubmitRun(ctx, engine.Submission{
			ProjectID: c.Project.ID, UserID: c.User.ID, Spec: spec, Assign: a.assigner(c, spec.Configuration), RequestKey: c.requestKey,
		})
		return r, wishError(err)
	}
	fields, err := diffRun(&current.Spec, &spec)
	if err != nil {
		return store.Run{}, refuse("Cannot override active run. Stop the run first.")
	}
	if !in.Force && !sameRun(in.Plan.CurrentResource, current) {
		return store.Run{}, refuse(msgResourceChanged)
	}
	update := engine.RunUpdate{ActorID: c.User.ID, RunID: current.ID, Version: current.Version, Spec: spec, Changed: fields}
	if slices.Contains(fields, "configuration.gateway") {
		update.Assign = a.assigner(c, spec.Configuration)
	}
	r, err := a.deps.Engine.UpdateRun(ctx, update)
	return r, wishError(err)
}

// activeRun is the unfinished run of a name, or nil.
func (a *API) activeRun(ctx context.Context, c call, name *string) (*store.Run, error) {
	if name == nil {
		return nil, nil //nolint:nilnil // no such run is no error here
	}
	var out *store.Run
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		r, err := tx.RunByName(c.Project.ID, *name)
		if isNotFound(err) || err == nil && r.Status.Finished() {
			return nil
		}
		out = &r
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return nil, fmt.Errorf("find run: %w", err)
	}
	return out, nil
}

// sameRun says whether what the client saw is what is stored.
func sameRun(seen *api.Run, r *store.Run) bool {
	return seen != nil && normalUUID(seen.ID) == r.ID && len(changed(seen.RunSpec, r.Spec)) == 0
}

// knownRepo demands that a repo was initialised; a virtual one is made known.
func (a *API) knownRepo(ctx context.Context, c call, spec *api.RunSpec) error {
	missing := false
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		_, err := tx.Repo(c.Project.ID, *spec.RepoID)
		missing = isNotFound(err)
		if missing {
			return nil
		}
		return err //nolint:wrapcheck // wrapped below
	})
	switch {
	case err != nil:
		return fmt.Errorf("find repo: %w", err)
	case !missing:
		return nil
	case spec.RepoData.RepoType != api.RepoVirtual:
		return noRepo(*spec.RepoID)
	}
	err = a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		return tx.PutRepo(&store.Repo{
			ID: uuid.NewString(), ProjectID: c.Project.ID, RepoID: *spec.RepoID, Info: []byte(`{"repo_type":"virtual"}`),
		})
	})
	if err != nil {
		return fmt.Errorf("save repo: %w", err)
	}
	return nil
}

func (a *API) stopRuns(ctx context.Context, c call, in api.StopRunsRequest) (nothing, error) {
	return nil, wishError(a.deps.Engine.StopRuns(ctx, c.User.ID, c.Project.ID, distinct(in.RunsNames), in.Abort))
}

func (a *API) deleteRuns(ctx context.Context, c call, in api.DeleteRunsRequest) (nothing, error) {
	return nil, wishError(a.deps.Engine.DeleteRuns(ctx, c.User.ID, c.Project.ID, distinct(in.RunsNames)))
}
