package api

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// Exports (spec: rest-api.md 11.5). 0.22.5's open server refuses them; this
// is what 0.21 does. Names are compared whatever their case.

func (a *API) createExport(ctx context.Context, c call, in api.CreateExportRequest) (api.Export, error) {
	if err := a.mayGlobalize(c, in.IsGlobal); err != nil {
		return api.Export{}, err
	}
	if !resourceName.MatchString(in.Name) {
		return api.Export{}, refuse("Resource name should match regex '%s'", resourceName)
	}
	if in.IsGlobal && len(in.ImporterProjects) > 0 {
		return api.Export{}, refuse("A global export is imported by all projects: leave out importer_projects")
	}
	e := store.Export{ID: uuid.NewString(), ProjectID: c.Project.ID, Name: in.Name, IsGlobal: in.IsGlobal, CreatedAt: a.deps.Now()}
	var out api.Export
	err := a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.InsertExport(&e); isTaken(err) {
			return exists()
		} else if err != nil {
			return fmt.Errorf("create export: %w", err)
		}
		x := exportChange{api: a, tx: tx, call: c, export: &e}
		if err := x.run(api.UpdateExportRequest{
			SetGlobal: in.IsGlobal, AddImporterProjects: in.ImporterProjects,
			AddExportedFleets: in.ExportedFleets, AddExportedGateways: in.ExportedGateways,
		}); err != nil {
			return err
		}
		var err error
		if out, err = exportView(tx, &e); err != nil {
			return err
		}
		return a.record(tx, c, fmt.Sprintf("Export %s created", e.Name), x.targets()...)
	})
	return out, err
}

// mayGlobalize refuses a global export by others than global admins.
func (a *API) mayGlobalize(c call, global bool) error {
	if global && !a.deps.Policy.IsAdmin(&c.User) {
		return notAllowed("Access denied: only global admins can make exports global")
	}
	return nil
}

func (a *API) updateExport(ctx context.Context, c call, in api.UpdateExportRequest) (api.Export, error) {
	var out api.Export
	err := a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		e, err := findExport(tx, c, in.Name)
		if err != nil {
			return err
		}
		if err := checkExportUpdate(&e, in); err != nil {
			return err
		}
		if err := a.mayGlobalize(c, in.SetGlobal); err != nil {
			return err
		}
		x := exportChange{api: a, tx: tx, call: c, export: &e}
		if err := x.run(in); err != nil {
			return err
		}
		if out, err = exportView(tx, &e); err != nil {
			return err
		}
		return a.record(tx, c, fmt.Sprintf("Export %s updated. Changed fields: %s", e.Name, strings.Join(x.changed, ", ")), x.targets()...)
	})
	return out, err
}

// checkExportUpdate refuses what contradicts itself or the export.
func checkExportUpdate(e *store.Export, in api.UpdateExportRequest) error {
	importers := len(in.AddImporterProjects)+len(in.RemoveImporterProjects) > 0
	objects := len(in.AddExportedFleets)+len(in.RemoveExportedFleets)+len(in.AddExportedGateways)+len(in.RemoveExportedGateways) > 0
	switch {
	case !in.SetGlobal && !in.UnsetGlobal && !importers && !objects:
		return refuse("No changes specified")
	case in.SetGlobal && in.UnsetGlobal:
		return refuse("set_global and unset_global exclude each other")
	case in.SetGlobal && e.IsGlobal:
		return refuse("Export '%s' is already global", e.Name)
	case in.UnsetGlobal && !e.IsGlobal:
		return refuse("Export '%s' is not global", e.Name)
	case importers && (in.SetGlobal || in.UnsetGlobal):
		return refuse("Importer projects cannot be changed together with set_global or unset_global")
	case importers && e.IsGlobal:
		return refuse("Export '%s' is global: it is imported by all projects", e.Name)
	}
	for _, lists := range [][2][]string{
		{in.AddImporterProjects, in.RemoveImporterProjects},
		{in.AddExportedFleets, in.RemoveExportedFleets},
		{in.AddExportedGateways, in.RemoveExportedGateways},
	} {
		if name := repeated(append(append([]string{}, lists[0]...), lists[1]...)); name != "" {
			return refuse("'%s' is named more than once", name)
		}
	}
	return nil
}

// repeated finds a name that is in a list twice, in any case.
func repeated(names []string) string {
	seen := map[string]bool{}
	for _, name := range names {
		key := strings.ToLower(name)
		if seen[key] {
			return name
		}
		seen[key] = true
	}
	return ""
}

func (a *API) deleteExport(ctx context.Context, c call, in api.DeleteExportRequest) (nothing, error) {
	return nil, a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		e, err := findExport(tx, c, in.Name)
		if err != nil {
			return err
		}
		if err := tx.DeleteExport(e.ID); err != nil {
			return fmt.Errorf("delete export: %w", err)
		}
		return a.record(tx, c, fmt.Sprintf("Export %s deleted", e.Name), projectTarget(&c.Project))
	})
}

func findExport(tx *store.Tx, c call, name string) (store.Export, error) {
	e, err := tx.ExportByName(c.Project.ID, strings.ToLower(name))
	if isNotFound(err) {
		return e, notExists("Export '%s' not found in project '%s'", name, c.Project.Name)
	}
	if err != nil {
		return e, fmt.Errorf("find export: %w", err)
	}
	return e, nil
}

// listExports answers with a bare list to clients before 0.22.0.
func (a *API) listExports(ctx context.Context, c call, _ noBody) (any, error) {
	out := []api.Export{}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Exports(c.Project.ID)
		if err != nil {
			return fmt.Errorf("list exports: %w", err)
		}
		for i := range rows {
			view, err := exportView(tx, &rows[i])
			if err != nil {
				return err
			}
			out = append(out, view)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if c.version.before(0, 22, 0) {
		return out, nil
	}
	return api.ListExportsResponse{Exports: out, Warnings: []string{}}, nil
}

func exportView(tx *store.Tx, e *store.Export) (api.Export, error) {
	v := api.Export{ID: e.ID, Name: e.Name, IsGlobal: e.IsGlobal, Imports: []api.ExportImport{}}
	list, err := tx.ImportsOf(e.ID)
	if err != nil {
		return v, fmt.Errorf("list importers: %w", err)
	}
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ProjectID
	}
	projects, err := tx.ProjectsByID(ids)
	if err != nil {
		return v, fmt.Errorf("find importers: %w", err)
	}
	for _, id := range ids {
		v.Imports = append(v.Imports, api.ExportImport{ProjectName: projects[id].Name})
	}
	if v.ExportedFleets, err = lentFleets().list(tx, e.ID); err != nil {
		return v, err
	}
	v.ExportedGateways, err = lentGateways().list(tx, e.ID)
	return v, err
}

// mayImport finds a project in which the caller may decide what it imports.
// Others are refused like projects that do not exist.
func (a *API) mayImport(tx *store.Tx, c call, name string) (store.Project, error) {
	unknown := refuse("Project '%s' does not exist, or you are not its admin", name)
	p, err := tx.ProjectByName(name)
	if isNotFound(err) {
		return p, unknown
	}
	if err != nil {
		return p, fmt.Errorf("find project: %w", err)
	}
	if p.ID == c.Project.ID {
		return p, refuse("Project '%s' cannot import its own export", p.Name)
	}
	if a.deps.Policy.IsAdmin(&c.User) {
		return p, nil
	}
	m, err := tx.Member(p.ID, c.User.ID)
	if isNotFound(err) || err == nil && m.Role != auth.RoleAdmin {
		return p, unknown
	}
	if err != nil {
		return p, fmt.Errorf("find member: %w", err)
	}
	return p, nil
}
