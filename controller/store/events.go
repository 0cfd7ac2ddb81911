package store

import (
	"database/sql"
	"fmt"
	"time"
)

var events = newTable("events", func(r *Event, _ *codec) []column {
	return []column{
		col("id", &r.ID),
		col("message", &r.Message),
		col("recorded_at", instant{&r.RecordedAt}),
		col("actor_id", &r.ActorID),
	}
})

const targetColumns = "event_id, num, type, project_id, target_id, name, run_id, fleet_id, gateway_id"

// InsertEvents adds events with their targets. A run is within itself, and so
// is a fleet and a gateway: their own RunID, FleetID and GatewayID need not be
// set.
func (tx *Tx) InsertEvents(list ...Event) error {
	if tx.c.noEvents {
		return nil
	}
	for _, e := range list {
		if err := events.add(tx, &e); err != nil {
			return err
		}
		for i, t := range e.Targets {
			switch t.Type {
			case "run":
				t.RunID = &t.ID
			case "fleet":
				t.FleetID = &t.ID
			case "gateway":
				t.GatewayID = &t.ID
			case "project":
				t.ProjectID = &t.ID
			}
			_, err := tx.exec("INSERT INTO event_targets ("+targetColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
				e.ID, i, t.Type, t.ProjectID, t.ID, t.Name, t.RunID, t.FleetID, t.GatewayID)
			if err != nil {
				return fmt.Errorf("insert event target: %w", err)
			}
		}
	}
	return nil
}

// DeleteEvents deletes what was recorded before a time and returns how many.
func (tx *Tx) DeleteEvents(before time.Time) (int64, error) {
	n, err := tx.exec("DELETE FROM events WHERE recorded_at < $1", before.UnixMicro())
	if err != nil {
		return 0, fmt.Errorf("delete events: %w", err)
	}
	return n, nil
}

// EventFilter says which events to list (spec: rest-api.md 11.4). All
// conditions but Actors and Visible must hold for the same target.
type EventFilter struct {
	// TargetType and TargetIDs select events about these resources.
	TargetType string
	TargetIDs  []string
	// At most one of these is set: events about anything in these.
	WithinProjects []string
	WithinFleets   []string
	WithinRuns     []string
	WithinGateways []string
	IncludeTypes   []string
	// Actors, if not nil, are the ids of users; System adds the system.
	Actors []string
	System bool
	// Visible, if set, hides events without a target that the user may see.
	Visible *EventView
	Page    Page
}

// EventView is what a user who is no global admin may see: events about the
// user and events of the projects that the user is a member of.
type EventView struct {
	UserID     string
	ProjectIDs []string
}

// Events lists events with all their targets, newest first unless the page
// says otherwise.
func (tx *Tx) Events(f EventFilter) ([]Event, error) {
	var w, t where
	// Conditions on a target share the argument list of the whole query.
	t.args = w.args
	if f.TargetType != "" {
		t.add("t.type = ?", f.TargetType)
		t.in("t.target_id", nonNil(f.TargetIDs))
	}
	t.in("t.project_id", f.WithinProjects)
	t.in("t.fleet_id", f.WithinFleets)
	t.in("t.run_id", f.WithinRuns)
	t.in("t.gateway_id", f.WithinGateways)
	t.in("t.type", f.IncludeTypes)
	w.args = t.args
	if len(t.conds) > 0 {
		w.conds = append(w.conds, "id IN (SELECT t.event_id FROM event_targets t"+t.String()+")")
	}
	if f.Actors != nil || f.System {
		cond := inList("actor_id")
		if f.System {
			cond = "(actor_id IS NULL OR " + cond + ")"
		}
		actors := nonNil(f.Actors)
		w.add(cond, jsonArg{&actors})
	}
	if f.Visible != nil {
		ids := nonNil(f.Visible.ProjectIDs)
		w.add("id IN (SELECT t.event_id FROM event_targets t WHERE (t.type = 'user' AND t.target_id = ?) OR "+
			inList("t.project_id")+")", f.Visible.UserID, jsonArg{&ids})
	}
	tail := w.page(f.Page, "recorded_at")
	list, err := events.find(tx, w.String()+tail, w.args...)
	if err != nil {
		return nil, err
	}
	return list, tx.loadTargets(list)
}

func (tx *Tx) loadTargets(list []Event) error {
	ids := make([]string, len(list))
	index := make(map[string]int, len(list))
	for i, e := range list {
		ids[i], index[e.ID] = e.ID, i
	}
	var w where
	w.in("event_id", ids)
	err := tx.query(func(rows *sql.Rows) error {
		var (
			event string
			num   int
			t     EventTarget
		)
		if err := rows.Scan(&event, &num, &t.Type, &t.ProjectID, &t.ID, &t.Name, &t.RunID, &t.FleetID, &t.GatewayID); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		e := &list[index[event]]
		e.Targets = append(e.Targets, t)
		return nil
	}, "SELECT "+targetColumns+" FROM event_targets"+w.String()+" ORDER BY event_id, num", w.args...)
	if err != nil {
		return fmt.Errorf("select event targets: %w", err)
	}
	return nil
}
