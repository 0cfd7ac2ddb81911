package api

import (
	"context"
	"fmt"

	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// deleteProjects deletes all of the projects or none. Who is not an admin of
// each of them does not learn which of them exist.
func (a *API) deleteProjects(ctx context.Context, c call, in api.DeleteProjectsRequest) (nothing, error) {
	return nil, a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		rows, err := tx.ProjectsNamed(in.ProjectsNames)
		if err != nil {
			return fmt.Errorf("find projects: %w", err)
		}
		if !a.deps.Policy.IsAdmin(&c.User) {
			if err := allAdministered(tx, c, rows, in.ProjectsNames); err != nil {
				return err
			}
		}
		if len(rows) != len(in.ProjectsNames) {
			return refuse("Failed to delete non-existent projects")
		}
		for i := range rows {
			if err := refuseIfUsed(tx, &rows[i]); err != nil {
				return err
			}
		}
		for i := range rows {
			if err := a.deleteProject(tx, c, &rows[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// allAdministered refuses a caller who is not an admin of all named projects.
func allAdministered(tx *store.Tx, c call, rows []store.Project, names []string) error {
	if len(rows) != len(distinct(names)) {
		return notAllowed(msgAccessDenied)
	}
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	members, err := tx.MembersOf(c.User.ID, ids)
	if err != nil {
		return fmt.Errorf("list memberships: %w", err)
	}
	administered := 0
	for _, m := range members {
		if m.Role == auth.RoleAdmin {
			administered++
		}
	}
	if administered != len(rows) {
		return notAllowed(msgAccessDenied)
	}
	return nil
}

// refuseIfUsed refuses a project in which something still lives.
func refuseIfUsed(tx *store.Tx, p *store.Project) error {
	oldest := store.Page{Ascending: true}
	runs, err := tx.Runs(store.RunFilter{ProjectIDs: []string{p.ID}, OnlyActive: true, Page: oldest})
	if err != nil {
		return fmt.Errorf("list runs: %w", err)
	}
	if len(runs) > 0 {
		return used("runs", runs, func(r *store.Run) string { return r.Name })
	}
	fleets, err := tx.Fleets(store.FleetFilter{ProjectIDs: []string{p.ID}, OnlyActive: true, Page: oldest})
	if err != nil {
		return fmt.Errorf("list fleets: %w", err)
	}
	if len(fleets) > 0 {
		return used("fleets", fleets, func(f *store.Fleet) string { return f.Name })
	}
	volumes, err := tx.Volumes(store.VolumeFilter{ProjectIDs: []string{p.ID}, OnlyActive: true, Page: oldest})
	if err != nil {
		return fmt.Errorf("list volumes: %w", err)
	}
	if len(volumes) > 0 {
		return used("volumes", volumes, func(v *store.Volume) string { return v.Name })
	}
	return nil
}

func used[R any](kind string, rows []R, name func(*R) string) error {
	names := make([]string, len(rows))
	for i := range rows {
		names[i] = name(&rows[i])
	}
	return refuse("Failed to delete project with active %s: %s", kind, pythonList(names))
}

// deleteProject hides a project; its name is free then, and its secrets and
// repos are gone. Backends stay: what they rented may still have to be given back.
func (a *API) deleteProject(tx *store.Tx, c call, p *store.Project) error {
	p.OriginalName, p.Name, p.Deleted = new(p.Name), deletedName(a.deps.Now()), true
	if err := tx.UpdateProject(p); err != nil {
		return fmt.Errorf("delete project: %w", err)
	}
	if err := tx.DropExports(p.ID); err != nil {
		return fmt.Errorf("delete project: %w", err)
	}
	if err := tx.DropSecrets(p.ID); err != nil {
		return fmt.Errorf("delete project: %w", err)
	}
	if err := tx.DropRepos(p.ID); err != nil {
		return fmt.Errorf("delete project: %w", err)
	}
	return a.record(tx, c, "Project deleted", projectTarget(p))
}
