package api

import (
	"context"
	"fmt"

	"dstack/controller/store"
	"dstack/protocol/api"
)

const maxFleets = 100

// listFleets is the list over projects; it includes deleted fleets.
func (a *API) listFleets(ctx context.Context, c call, in api.ListFleetsRequest) ([]api.Fleet, error) {
	out := []api.Fleet{}
	page, ok := pageOf(in.PrevCreatedAt, in.PrevID, in.Limit, maxFleets, in.Ascending)
	if !ok {
		return out, nil
	}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		projects, err := a.visibleIn(tx, c, in.ProjectName)
		if err != nil {
			return err
		}
		filter := store.FleetFilter{ProjectIDs: projects, OnlyActive: in.OnlyActive, Page: page}
		if filter.AlsoIDs, err = importedFleets(tx, in.IncludeImported, projects); err != nil {
			return err
		}
		out, err = fleetViews(tx, filter)
		return err
	})
	return out, err
}

func (a *API) listProjectFleets(ctx context.Context, c call, in api.ListProjectFleetsRequest) ([]api.Fleet, error) {
	var out []api.Fleet
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		filter := store.FleetFilter{ProjectIDs: []string{c.Project.ID}, OnlyActive: true}
		var err error
		if filter.AlsoIDs, err = importedFleets(tx, in.IncludeImported, filter.ProjectIDs); err != nil {
			return err
		}
		out, err = fleetViews(tx, filter)
		return err
	})
	return out, err
}

// getFleet shows a fleet to the members of its project and of those that
// import it. To others no fleet exists: they get the same answer for all.
func (a *API) getFleet(ctx context.Context, c call, in api.GetFleetRequest) (api.Fleet, error) {
	var out api.Fleet
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		f, err := findFleet(tx, c.Project.ID, in.Name, in.ID)
		if in.ID != nil || in.Name != nil {
			err = a.ownOrLent(c, err, func() (bool, error) { return tx.FleetLentTo(f.ID, c.User.ID) })
		}
		if err != nil {
			return err
		}
		out, err = oneFleetView(tx, &f, c.Project.Name)
		return err
	})
	return out, err
}

// findFleet finds by id, also a deleted fleet, else by name.
func findFleet(tx *store.Tx, projectID string, name, id *string) (store.Fleet, error) {
	var (
		f   store.Fleet
		err error
	)
	switch {
	case id != nil:
		f, err = tx.Fleet(*id)
	case name != nil:
		f, err = tx.FleetByName(projectID, *name)
	default:
		return f, refuse("name or id must be specified")
	}
	if isNotFound(err) || err == nil && f.ProjectID != projectID {
		return f, notExists(msgNotFound)
	}
	if err != nil {
		return f, fmt.Errorf("find fleet: %w", err)
	}
	return f, nil
}

func oneFleetView(tx *store.Tx, f *store.Fleet, project string) (api.Fleet, error) {
	instances, err := tx.InstancesOfFleet(f.ID)
	if err != nil {
		return api.Fleet{}, fmt.Errorf("list instances of fleet: %w", err)
	}
	busy, err := jobNames(tx, instances)
	if err != nil {
		return api.Fleet{}, err
	}
	return fleetView(f, project, instances, busy), nil
}

func fleetViews(tx *store.Tx, filter store.FleetFilter) ([]api.Fleet, error) {
	rows, err := tx.Fleets(filter)
	if err != nil {
		return nil, fmt.Errorf("list fleets: %w", err)
	}
	var ids, projectIDs []string
	for _, f := range rows {
		ids = append(ids, f.ID)
		projectIDs = append(projectIDs, f.ProjectID)
	}
	projects, err := tx.ProjectsByID(projectIDs)
	if err != nil {
		return nil, fmt.Errorf("find projects: %w", err)
	}
	instances, err := tx.InstancesOfFleets(ids)
	if err != nil {
		return nil, fmt.Errorf("list instances of fleets: %w", err)
	}
	busy, err := jobNames(tx, instances)
	if err != nil {
		return nil, err
	}
	byFleet := map[string][]store.Instance{}
	for _, in := range instances {
		byFleet[in.FleetID] = append(byFleet[in.FleetID], in)
	}
	out := make([]api.Fleet, len(rows))
	for i := range rows {
		f := &rows[i]
		out[i] = fleetView(f, projects[f.ProjectID].Name, byFleet[f.ID], busy)
	}
	return out, nil
}
