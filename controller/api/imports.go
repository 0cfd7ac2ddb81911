package api

import (
	"context"
	"fmt"
	"strings"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// listImports answers with a bare list to clients before 0.22.0.
func (a *API) listImports(ctx context.Context, c call, _ noBody) (any, error) {
	out := []api.Import{}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		var err error
		out, err = importViews(tx, c.Project.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	if c.version.before(0, 22, 0) {
		return out, nil
	}
	return api.ListImportsResponse{Imports: out, Warnings: []string{}}, nil
}

func importViews(tx *store.Tx, projectID string) ([]api.Import, error) {
	rows, err := tx.Imports(projectID)
	if err != nil {
		return nil, fmt.Errorf("list imports: %w", err)
	}
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].ExportID
	}
	exports, err := tx.ExportsByID(ids)
	if err != nil {
		return nil, fmt.Errorf("find exports: %w", err)
	}
	var owners []string
	for _, e := range exports {
		owners = append(owners, e.ProjectID)
	}
	projects, err := tx.ProjectsByID(owners)
	if err != nil {
		return nil, fmt.Errorf("find exporters: %w", err)
	}
	out := make([]api.Import, len(rows))
	for i, row := range rows {
		e := exports[row.ExportID]
		v := api.ImportExport{ID: e.ID, Name: e.Name, ProjectName: projects[e.ProjectID].Name}
		if v.ExportedFleets, err = lentFleets().list(tx, e.ID); err != nil {
			return nil, err
		}
		if v.ExportedGateways, err = lentGateways().list(tx, e.ID); err != nil {
			return nil, err
		}
		out[i] = api.Import{ID: row.ID, Export: v}
	}
	return out, nil
}

// deleteImport gives up what another project lends. Whatever is missing, the
// answer is the same.
func (a *API) deleteImport(ctx context.Context, c call, in api.DeleteImportRequest) (nothing, error) {
	missing := notExists("Import '%s/%s' not found in project '%s'", in.ExportProjectName, in.ExportName, c.Project.Name)
	return nil, a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		owner, err := tx.ProjectByName(in.ExportProjectName)
		if isNotFound(err) {
			return missing
		}
		if err != nil {
			return fmt.Errorf("find project: %w", err)
		}
		e, err := tx.ExportByName(owner.ID, strings.ToLower(in.ExportName))
		if isNotFound(err) {
			return missing
		}
		if err != nil {
			return fmt.Errorf("find export: %w", err)
		}
		gone, err := tx.DeleteImport(e.ID, c.Project.ID)
		if err != nil {
			return fmt.Errorf("delete import: %w", err)
		}
		if !gone {
			return missing
		}
		if e.IsGlobal {
			return refuse("Import '%s/%s' is global: it cannot be deleted", owner.Name, e.Name)
		}
		return a.record(tx, c, fmt.Sprintf("Import %s/%s deleted", owner.Name, e.Name), projectTarget(&c.Project))
	})
}
