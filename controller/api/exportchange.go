package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// lent is a kind of resource that an export lends.
type lent struct {
	noun string
	// find gives the id of what has the name in a project; found is a refusal
	// if it may not be lent.
	find func(tx *store.Tx, projectID, name string) (id string, found error)
	// list is what an export has of the kind now.
	list   func(tx *store.Tx, exportID string) ([]api.ExportedObject, error)
	add    func(tx *store.Tx, exportID, id string) error
	remove func(tx *store.Tx, exportID, id string) error
}

func lentFleets() lent {
	return lent{
		noun: "Fleet",
		find: func(tx *store.Tx, projectID, name string) (string, error) {
			f, err := tx.FleetByName(projectID, name)
			if err == nil && f.Spec.Configuration.SSHConfig == nil {
				return "", refuse("Fleet '%s' is a cloud fleet: only SSH fleets can be exported", name)
			}
			return f.ID, err //nolint:wrapcheck // wrapped where it is called
		},
		list: func(tx *store.Tx, exportID string) ([]api.ExportedObject, error) {
			out := []api.ExportedObject{}
			rows, err := tx.ExportedFleets(exportID)
			for i := range rows {
				out = append(out, api.ExportedObject{ID: rows[i].ID, Name: rows[i].Name})
			}
			return out, err //nolint:wrapcheck // says what it was doing
		},
		add:    (*store.Tx).ExportFleet,
		remove: (*store.Tx).UnexportFleet,
	}
}

func lentGateways() lent {
	return lent{
		noun: "Gateway",
		find: func(tx *store.Tx, projectID, name string) (string, error) {
			g, err := tx.GatewayByName(projectID, name)
			return g.ID, err //nolint:wrapcheck // wrapped where it is called
		},
		list: func(tx *store.Tx, exportID string) ([]api.ExportedObject, error) {
			out := []api.ExportedObject{}
			rows, err := tx.ExportedGateways(exportID)
			for i := range rows {
				out = append(out, api.ExportedObject{ID: rows[i].ID, Name: rows[i].Name})
			}
			return out, err //nolint:wrapcheck // says what it was doing
		},
		add:    (*store.Tx).ExportGateway,
		remove: (*store.Tx).UnexportGateway,
	}
}

// exportChange changes one export inside a transaction.
type exportChange struct {
	api    *API
	tx     *store.Tx
	call   call
	export *store.Export
	// changed and projects are what the event tells of.
	changed  []string
	projects []store.Project
}

// targets are the exporter and the importers that the change names.
func (x *exportChange) targets() []store.EventTarget {
	out := []store.EventTarget{projectTarget(&x.call.Project)}
	for i := range x.projects {
		out = append(out, projectTarget(&x.projects[i]))
	}
	return out
}

// run does what the request says, which has been checked.
func (x *exportChange) run(in api.UpdateExportRequest) error {
	for _, names := range [][]string{in.AddImporterProjects, in.AddExportedFleets, in.AddExportedGateways} {
		if name := repeated(names); name != "" {
			return refuse("'%s' is named more than once", name)
		}
	}
	if in.SetGlobal || in.UnsetGlobal {
		if err := x.globalize(in.SetGlobal); err != nil {
			return err
		}
	}
	if err := x.importers(in.AddImporterProjects, in.RemoveImporterProjects); err != nil {
		return err
	}
	if err := x.objects(lentFleets(), in.AddExportedFleets, in.RemoveExportedFleets); err != nil {
		return err
	}
	return x.objects(lentGateways(), in.AddExportedGateways, in.RemoveExportedGateways)
}

// globalize makes the export global, so that all projects import it, or ends
// that: those that import it then go on.
func (x *exportChange) globalize(global bool) error {
	x.changed = append(x.changed, "is_global="+pythonBool(global))
	x.export.IsGlobal = global
	if err := x.tx.UpdateExport(x.export); err != nil {
		return fmt.Errorf("update export: %w", err)
	}
	if !global {
		return nil
	}
	have, err := x.importing()
	if err != nil {
		return err
	}
	all, err := x.tx.Projects(store.ProjectFilter{Page: store.Page{Ascending: true}})
	if err != nil {
		return fmt.Errorf("list projects: %w", err)
	}
	for i := range all {
		if id := all[i].ID; id != x.export.ProjectID && !have[id] {
			if err := x.addImport(id); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *exportChange) importing() (map[string]bool, error) {
	list, err := x.tx.ImportsOf(x.export.ID)
	if err != nil {
		return nil, fmt.Errorf("list importers: %w", err)
	}
	out := map[string]bool{}
	for _, i := range list {
		out[i.ProjectID] = true
	}
	return out, nil
}

func (x *exportChange) addImport(projectID string) error {
	err := x.tx.InsertImport(&store.Import{
		ID: uuid.NewString(), ExportID: x.export.ID, ProjectID: projectID, CreatedAt: x.api.deps.Now(),
	})
	if err != nil {
		return fmt.Errorf("add importer: %w", err)
	}
	return nil
}

func (x *exportChange) importers(add, remove []string) error {
	have, err := x.importing()
	if err != nil {
		return err
	}
	for _, name := range add {
		p, err := x.api.mayImport(x.tx, x.call, name)
		if err != nil {
			return err
		}
		if have[p.ID] {
			return refuse("Project '%s' imports '%s' already", p.Name, x.export.Name)
		}
		if err := x.addImport(p.ID); err != nil {
			return err
		}
		x.projects = append(x.projects, p)
	}
	for _, name := range remove {
		p, err := x.tx.ProjectByName(name)
		if isNotFound(err) || err == nil && !have[p.ID] {
			return refuse("Project '%s' does not import '%s'", name, x.export.Name)
		}
		if err != nil {
			return fmt.Errorf("find project: %w", err)
		}
		if _, err := x.tx.DeleteImport(x.export.ID, p.ID); err != nil {
			return fmt.Errorf("remove importer: %w", err)
		}
		x.projects = append(x.projects, p)
	}
	x.note("imports", add, remove)
	return nil
}

// note says for the event that a list changed.
func (x *exportChange) note(what string, add, remove []string) {
	if len(add)+len(remove) > 0 {
		x.changed = append(x.changed, what)
	}
}

// objects lends and takes back resources of a kind.
func (x *exportChange) objects(kind lent, add, remove []string) error {
	have, err := kind.list(x.tx, x.export.ID)
	if err != nil {
		return err
	}
	for _, name := range add {
		id, err := kind.find(x.tx, x.export.ProjectID, strings.ToLower(name))
		if isNotFound(err) {
			return notExists("%s '%s' not found in project '%s'", kind.noun, name, x.call.Project.Name)
		}
		if _, refused := errors.AsType[*Error](err); refused {
			return err
		}
		if err != nil {
			return fmt.Errorf("find what to export: %w", err)
		}
		if slices.ContainsFunc(have, func(o api.ExportedObject) bool { return o.ID == id }) {
			return refuse("%s '%s' is exported already", kind.noun, name)
		}
		if err := kind.add(x.tx, x.export.ID, id); err != nil {
			return err
		}
	}
	for _, name := range remove {
		i := slices.IndexFunc(have, func(o api.ExportedObject) bool { return strings.EqualFold(o.Name, name) })
		if i < 0 {
			return refuse("%s '%s' is not exported", kind.noun, name)
		}
		if err := kind.remove(x.tx, x.export.ID, have[i].ID); err != nil {
			return err
		}
	}
	x.note("exported_"+strings.ToLower(kind.noun)+"s", add, remove)
	return nil
}
