package api

import (
	"context"
	"fmt"
	"slices"

	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	defaultInstances = 1000
	// mostInstances clamps a limit that 0.22.5 leaves open.
	mostInstances = 10000
)

func (a *API) listInstances(ctx context.Context, c call, in api.ListInstancesRequest) ([]api.Instance, error) {
	out := []api.Instance{}
	limit := deref(in.Limit, defaultInstances)
	if limit < 0 || limit > mostInstances {
		limit = mostInstances
	}
	page, ok := pageOf(in.PrevCreatedAt, in.PrevID, &limit, defaultInstances, in.Ascending)
	if !ok {
		return out, nil
	}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		projects, err := a.visibleProjects(tx, c, in.ProjectNames)
		if err != nil {
			return err
		}
		borrowed, err := importedFleets(tx, in.IncludeImported, projects)
		if err != nil {
			return err
		}
		rows, err := tx.Instances(store.InstanceFilter{
			ProjectIDs: projects, AlsoFleetIDs: borrowed, FleetIDs: in.FleetIDs, OnlyActive: in.OnlyActive, Page: page,
		})
		if err != nil {
			return fmt.Errorf("list instances: %w", err)
		}
		out, err = instanceViews(tx, rows)
		return err
	})
	return out, err
}

// visibleIn is visibleProjects narrowed to one name, if there is one.
func (a *API) visibleIn(tx *store.Tx, c call, name *string) ([]string, error) {
	if name == nil {
		return a.visibleProjects(tx, c, nil)
	}
	return a.visibleProjects(tx, c, []string{*name})
}

// visibleProjects are the ids of the projects that a root list covers: those
// of the caller, or all for an admin (nil), narrowed to the names, if any.
func (a *API) visibleProjects(tx *store.Tx, c call, names []string) ([]string, error) {
	var own []string
	if !a.deps.Policy.IsAdmin(&c.User) {
		var err error
		if own, err = tx.MemberProjects(c.User.ID); err != nil {
			return nil, fmt.Errorf("list own projects: %w", err)
		}
	}
	if names == nil {
		return own, nil
	}
	ids := []string{}
	for _, name := range names {
		p, err := tx.ProjectByName(name)
		if isNotFound(err) || err == nil && p.Name != name {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find project: %w", err)
		}
		if own == nil || slices.Contains(own, p.ID) {
			ids = append(ids, p.ID)
		}
	}
	return ids, nil
}

// instanceViews renders instances of any projects and fleets.
func instanceViews(tx *store.Tx, rows []store.Instance) ([]api.Instance, error) {
	var projectIDs, fleetIDs []string
	for _, in := range rows {
		projectIDs = append(projectIDs, in.ProjectID)
		fleetIDs = append(fleetIDs, in.FleetID)
	}
	projects, err := tx.ProjectsByID(projectIDs)
	if err != nil {
		return nil, fmt.Errorf("find projects: %w", err)
	}
	fleets, err := tx.FleetsByID(fleetIDs)
	if err != nil {
		return nil, fmt.Errorf("find fleets: %w", err)
	}
	busy, err := jobNames(tx, rows)
	if err != nil {
		return nil, err
	}
	out := make([]api.Instance, len(rows))
	for i := range rows {
		in := &rows[i]
		out[i] = instanceView(in, projects[in.ProjectID].Name, fleets[in.FleetID].Name, busy[in.ID])
	}
	return out, nil
}

// jobNames maps an instance to the name of a job that holds it.
func jobNames(tx *store.Tx, instances []store.Instance) (map[string]string, error) {
	ids := make([]string, len(instances))
	for i := range instances {
		ids[i] = instances[i].ID
	}
	jobs, err := tx.JobsOnInstances(ids)
	if err != nil {
		return nil, fmt.Errorf("list jobs of instances: %w", err)
	}
	names := make(map[string]string, len(jobs))
	for _, j := range jobs {
		if j.InstanceID != nil && names[*j.InstanceID] == "" {
			names[*j.InstanceID] = j.Spec.JobName
		}
	}
	return names, nil
}

// getInstanceRequest names an instance.
type getInstanceRequest struct {
	ID string `json:"id" as:"uuid"`
}

// getInstance shows an instance to those who may see its fleet.
func (a *API) getInstance(ctx context.Context, c call, in getInstanceRequest) (api.Instance, error) {
	var out api.Instance
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		row, err := findInstance(tx, c.Project.ID, in.ID)
		err = a.ownOrLent(c, err, func() (bool, error) { return tx.FleetLentTo(row.FleetID, c.User.ID) })
		if err != nil {
			return err
		}
		views, err := instanceViews(tx, []store.Instance{row})
		if err != nil {
			return err
		}
		out = views[0]
		return nil
	})
	return out, err
}

func findInstance(tx *store.Tx, projectID, id string) (store.Instance, error) {
	row, err := tx.Instance(id)
	if isNotFound(err) || err == nil && row.ProjectID != projectID {
		return row, notExists(msgNotFound)
	}
	if err != nil {
		return row, fmt.Errorf("find instance: %w", err)
	}
	return row, nil
}
