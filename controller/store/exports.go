package store

import (
	"fmt"
	"time"
)

// Export lends fleets and gateways of a project to others (spec: rest-api.md
// 11.5).
type Export struct {
	ID        string
	ProjectID string
	Name      string
	IsGlobal  bool
	CreatedAt time.Time
}

// Import is a project that may use an export.
type Import struct {
	ID        string
	ExportID  string
	ProjectID string
	CreatedAt time.Time
}

var exports = newTable("exports", func(r *Export, _ *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("project_id", &r.ProjectID),
		fixed("name", &r.Name),
		col("is_global", &r.IsGlobal),
		fixed("created_at", instant{&r.CreatedAt}),
	}
})

var imports = newTable("imports", func(r *Import, _ *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("export_id", &r.ExportID),
		fixed("project_id", &r.ProjectID),
		fixed("created_at", instant{&r.CreatedAt}),
	}
})

// InsertExport adds an export; [ErrExists] if the project has one of the name.
func (tx *Tx) InsertExport(e *Export) error { return exports.add(tx, e) }

// UpdateExport writes whether an export is global.
func (tx *Tx) UpdateExport(e *Export) error { return exports.change(tx, e, ErrNotFound) }

// DeleteExport deletes an export with its imports.
func (tx *Tx) DeleteExport(id string) error {
	return tx.drop("exports", "DELETE FROM exports WHERE id = $1", id)
}

// ExportByName finds an export of a project.
func (tx *Tx) ExportByName(projectID, name string) (Export, error) {
	return exports.one(tx, " WHERE project_id = $1 AND name = $2", projectID, name)
}

// Exports lists the exports of a project, newest first.
func (tx *Tx) Exports(projectID string) ([]Export, error) {
	return exports.find(tx, " WHERE project_id = $1 ORDER BY created_at DESC, id", projectID)
}

// ExportsByID finds exports by id.
func (tx *Tx) ExportsByID(ids []string) (map[string]Export, error) {
	var w where
	w.in("id", nonNil(ids))
	list, err := exports.find(tx, w.String(), w.args...)
	return byID(list, func(e Export) string { return e.ID }), err
}

// GlobalExports lists the exports that every project imports.
func (tx *Tx) GlobalExports() ([]Export, error) {
	return exports.find(tx, " WHERE is_global ORDER BY created_at, id")
}

// InsertImport adds an import; [ErrExists] if the project has it already.
func (tx *Tx) InsertImport(i *Import) error { return imports.add(tx, i) }

// DeleteImport deletes a project's import of an export and says whether it
// had one.
func (tx *Tx) DeleteImport(exportID, projectID string) (bool, error) {
	n, err := tx.exec("DELETE FROM imports WHERE export_id = $1 AND project_id = $2", exportID, projectID)
	if err != nil {
		return false, fmt.Errorf("delete from imports: %w", err)
	}
	return n > 0, nil
}

// ImportsOf lists the imports of an export by projects that are not deleted,
// oldest first.
func (tx *Tx) ImportsOf(exportID string) ([]Import, error) {
	return imports.find(tx, ` WHERE export_id = $1 AND project_id IN (SELECT id FROM projects WHERE NOT deleted)
		ORDER BY created_at, id`, exportID)
}

// Imports lists what a project imports, newest first.
func (tx *Tx) Imports(projectID string) ([]Import, error) {
	return imports.find(tx, " WHERE project_id = $1 ORDER BY created_at DESC, id", projectID)
}

// DropExports deletes all exports and imports of a project.
func (tx *Tx) DropExports(projectID string) error {
	if err := tx.drop("imports", "DELETE FROM imports WHERE project_id = $1", projectID); err != nil {
		return err
	}
	return tx.drop("exports", "DELETE FROM exports WHERE project_id = $1", projectID)
}

func (tx *Tx) drop(table, query string, args ...any) error {
	if _, err := tx.exec(query, args...); err != nil {
		return fmt.Errorf("delete from %s: %w", table, err)
	}
	return nil
}

// ExportFleet adds a fleet to an export.
func (tx *Tx) ExportFleet(exportID, fleetID string) error {
	return tx.lend("exported_fleets", "fleet_id", exportID, fleetID)
}

// UnexportFleet takes a fleet out of an export.
func (tx *Tx) UnexportFleet(exportID, fleetID string) error {
	return tx.drop("exported_fleets", "DELETE FROM exported_fleets WHERE export_id = $1 AND fleet_id = $2", exportID, fleetID)
}

// ExportGateway adds a gateway to an export.
func (tx *Tx) ExportGateway(exportID, gatewayID string) error {
	return tx.lend("exported_gateways", "gateway_id", exportID, gatewayID)
}

// UnexportGateway takes a gateway out of an export.
func (tx *Tx) UnexportGateway(exportID, gatewayID string) error {
	return tx.drop("exported_gateways", "DELETE FROM exported_gateways WHERE export_id = $1 AND gateway_id = $2", exportID, gatewayID)
}

func (tx *Tx) lend(table, column, exportID, id string) error {
	_, err := tx.exec("INSERT INTO "+table+" (export_id, "+column+`, num)
		SELECT $1, $2, coalesce(max(num) + 1, 0) FROM `+table+" WHERE export_id = $1", exportID, id)
	if err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	return nil
}

// ExportedFleets lists the fleets of an export that are not deleted, in the
// order in which they were added.
func (tx *Tx) ExportedFleets(exportID string) ([]Fleet, error) {
	return fleets.find(tx, ` JOIN exported_fleets x ON x.fleet_id = fleets.id
		WHERE x.export_id = $1 AND NOT fleets.deleted ORDER BY x.num`, exportID)
}

// ExportedGateways lists the gateways of an export.
func (tx *Tx) ExportedGateways(exportID string) ([]Gateway, error) {
	return gateways.find(tx, ` JOIN exported_gateways x ON x.gateway_id = gateways.id
		WHERE x.export_id = $1 ORDER BY x.num`, exportID)
}

const (
	importedFleets   = "SELECT x.fleet_id FROM exported_fleets x JOIN imports i ON i.export_id = x.export_id JOIN fleets f ON f.id = x.fleet_id WHERE NOT f.deleted AND "
	importedGateways = "SELECT x.gateway_id FROM exported_gateways x JOIN imports i ON i.export_id = x.export_id WHERE "
)

// ImportedFleets lists the ids of the fleets, not deleted, that projects
// import.
func (tx *Tx) ImportedFleets(projectIDs []string) ([]string, error) {
	var w where
	w.add(inList("i.project_id"), jsonArg{&projectIDs})
	return tx.texts("SELECT DISTINCT * FROM ("+importedFleets+w.conds[0]+") t ORDER BY 1", w.args...)
}

// FleetLentTo says whether a user is a member of a project that imports the
// fleet, and that it is not deleted.
func (tx *Tx) FleetLentTo(fleetID, userID string) (bool, error) {
	return tx.lentTo(importedFleets+"x.fleet_id = $1", fleetID, userID)
}

// GatewayLentTo says whether a user is a member of a project that imports the
// gateway.
func (tx *Tx) GatewayLentTo(gatewayID, userID string) (bool, error) {
	return tx.lentTo(importedGateways+"x.gateway_id = $1", gatewayID, userID)
}

func (tx *Tx) lentTo(query, id, userID string) (bool, error) {
	list, err := tx.texts(query+` AND i.project_id IN (SELECT m.project_id FROM members m
		JOIN projects p ON p.id = m.project_id WHERE m.user_id = $2 AND NOT p.deleted) LIMIT 1`, id, userID)
	return len(list) > 0, err
}

// Borrowers lists the ids of the projects that import something of a project.
func (tx *Tx) Borrowers(projectID string) ([]string, error) {
	return tx.texts(`SELECT DISTINCT i.project_id FROM imports i JOIN exports e ON e.id = i.export_id
		WHERE e.project_id = $1 ORDER BY i.project_id`, projectID)
}
