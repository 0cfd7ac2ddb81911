package store

import (
	"database/sql"
	"fmt"
)

var fleets = newTable("fleets", func(r *Fleet, c *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("project_id", &r.ProjectID),
		fixed("name", &r.Name),
		col("spec", sealed(&r.Spec, c)),
		col("status", &r.Status),
		col("status_message", &r.StatusMessage),
		fixed("created_at", instant{&r.CreatedAt}),
		col("last_processed_at", instant{&r.LastProcessedAt}),
		col("attempts", &r.Attempts),
		col("attempted_at", maybeInstant{&r.AttemptedAt}),
		col("placement_groups", plain(&r.PlacementGroups, c)),
		col("deleted", &r.Deleted),
		col("version", &r.Version),
	}
})

// InsertFleet adds a fleet; [ErrExists] if a fleet of this project, not
// deleted, has the name.
func (tx *Tx) InsertFleet(f *Fleet) error { return fleets.add(tx, f) }

// UpdateFleet writes a fleet, all but its project, name and time of creation,
// which never change, if nobody else did since f was read, and adds one to
// f.Version; else [ErrConflict].
func (tx *Tx) UpdateFleet(f *Fleet) error { return fleets.save(tx, f, &f.Version) }

// Fleet finds a fleet by id, also a deleted one.
func (tx *Tx) Fleet(id string) (Fleet, error) { return fleets.one(tx, " WHERE id = $1", id) }

// FleetsByID finds fleets by id, also deleted ones.
func (tx *Tx) FleetsByID(ids []string) (map[string]Fleet, error) {
	var w where
	w.in("id", nonNil(ids))
	list, err := fleets.find(tx, w.String(), w.args...)
	return byID(list, func(f Fleet) string { return f.ID }), err
}

// FleetByName finds a fleet of a project that is not deleted.
func (tx *Tx) FleetByName(projectID, name string) (Fleet, error) {
	return fleets.one(tx, " WHERE project_id = $1 AND name = $2 AND NOT deleted", projectID, name)
}

// FleetNames lists the names, deleted fleets left out, of a project that
// begin with prefix: for generated names.
func (tx *Tx) FleetNames(projectID, prefix string) ([]string, error) {
	return tx.names("fleets", projectID, prefix)
}

// FleetFilter says which fleets to list.
type FleetFilter struct {
	ProjectIDs []string // nil means all
	AlsoIDs    []string // fleets of any project
	OnlyActive bool     // not deleted
	Page       Page
}

// Fleets lists fleets, newest first unless the page says otherwise (spec:
// rest-api.md 7.4).
func (tx *Tx) Fleets(f FleetFilter) ([]Fleet, error) {
	var w where
	w.inEither("project_id", f.ProjectIDs, "id", f.AlsoIDs)
	if f.OnlyActive {
		w.add("NOT deleted")
	}
	tail := w.page(f.Page, "created_at")
	return fleets.find(tx, w.String()+tail, w.args...)
}

func (tx *Tx) names(table, projectID, prefix string) ([]string, error) {
	out := []string{}
	err := tx.query(func(rows *sql.Rows) error {
		var name string
		if err := rows.Scan(&name); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		out = append(out, name)
		return nil
	}, "SELECT name FROM "+table+" WHERE project_id = $1 AND NOT deleted AND substr(name, 1, length($2)) = $2 ORDER BY name",
		projectID, prefix)
	if err != nil {
		return nil, fmt.Errorf("select names of %s: %w", table, err)
	}
	return out, nil
}
