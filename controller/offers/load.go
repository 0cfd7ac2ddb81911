package offers

import (
	"fmt"
	"slices"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// Load lists the fleets that a project may use, with their live instances:
// its own, oldest first, then those that it imports.
func Load(tx *store.Tx, project store.Project) ([]Pool, error) {
	borrowed, err := tx.ImportedFleets([]string{project.ID})
	if err != nil {
		return nil, fmt.Errorf("list imported fleets: %w", err)
	}
	fleets, err := tx.Fleets(store.FleetFilter{
		ProjectIDs: []string{project.ID}, AlsoIDs: borrowed, OnlyActive: true, Page: store.Page{Ascending: true},
	})
	if err != nil {
		return nil, fmt.Errorf("list fleets: %w", err)
	}
	foreign := func(f store.Fleet) bool { return f.ProjectID != project.ID }
	slices.SortStableFunc(fleets, func(a, b store.Fleet) int { return order(foreign(a), foreign(b)) })
	ids, projectIDs := make([]string, len(fleets)), make([]string, len(fleets))
	for i, f := range fleets {
		ids[i], projectIDs[i] = f.ID, f.ProjectID
	}
	instances, err := tx.InstancesOfFleets(ids)
	if err != nil {
		return nil, fmt.Errorf("list instances of fleets: %w", err)
	}
	owners := map[string]store.Project{project.ID: project}
	if slices.ContainsFunc(fleets, foreign) {
		if owners, err = tx.ProjectsByID(projectIDs); err != nil {
			return nil, fmt.Errorf("find projects of fleets: %w", err)
		}
	}
	pools := make([]Pool, len(fleets))
	for i, f := range fleets {
		pools[i] = Pool{Fleet: f, Project: owners[f.ProjectID].Name, Imported: foreign(f)}
		for _, in := range instances {
			if in.FleetID == f.ID && in.Status != api.InstanceTerminated {
				pools[i].Instances = append(pools[i].Instances, in)
			}
		}
	}
	return pools, nil
}
