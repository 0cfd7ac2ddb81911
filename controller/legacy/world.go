package legacy

import (
	"context"
	"fmt"
	"time"

	"dstack/controller/store"
)

// world is what later tables need to know of earlier ones.
type world struct {
	*source
	*target
	now time.Time
	// known are the ids of rows that are taken over, by the columns that refer to
	// them; orphans count the rows that refer to others.
	known    map[string]map[string]bool
	orphans  map[string]int
	projects map[string]string // names by id
	fleets   map[string]*store.Fleet
	// instances and runs are those that are taken over.
	instances, runs map[string]bool
}

// runsOf takes over the runs that can be read; specifications of old versions
// may have a form that nobody knows any more.
func (w *world) runsOf(ctx context.Context) error {
	newest, err := w.newestRuns(ctx)
	if err != nil {
		return err
	}
	unknown := 0
	err = w.each(ctx, "runs", "", func(r *record) error {
		if w.orphaned(r) {
			return nil
		}
		row := run(r)
		if r.err != nil {
			unknown++
			return nil //nolint:nilerr // it is counted
		}
		if row.FleetID != nil && w.fleets[*row.FleetID] == nil {
			row.FleetID = nil
		}
		if last := newest[[2]string{row.ProjectID, row.Name}]; !row.Deleted && last.id != row.ID {
			row.Deleted = true
			w.leaveOutf("The project %s has the run %s twice: the older one was taken over as a deleted one", w.projects[row.ProjectID], row.Name)
		}
		w.runs[row.ID] = true
		return w.add(ctx, "runs", r.title(), func(tx *store.Tx) error { return tx.InsertRun(&row) })
	})
	if unknown > 0 {
		w.leaveOutf("%d runs of older versions could not be read", unknown)
	}
	return err
}

// stamped is a row and its time.
type stamped struct {
	id string
	at time.Time
}

// newestRuns are the newest undeleted runs by project and name: 0.22.5 has two
// of one name that two requests made at once.
func (w *world) newestRuns(ctx context.Context) (map[[2]string]stamped, error) {
	newest := map[[2]string]stamped{}
	return newest, w.each(ctx, "runs", "WHERE NOT deleted", func(r *record) error {
		key, next := [2]string{r.id("project_id"), r.text("run_name")}, stamped{r.id("id"), r.time("submitted_at")}
		if last, is := newest[key]; r.err == nil && (!is || next.at.After(last.at)) {
			newest[key] = next
		}
		return nil
	})
}

func (w *world) jobs(ctx context.Context) error {
	unknown := 0
	err := w.each(ctx, "jobs", "", func(r *record) error {
		row := job(r, w.instances)
		if r.err != nil && w.runs[row.RunID] {
			unknown++
		}
		if r.err != nil || !w.runs[row.RunID] || w.orphaned(r) {
			return nil //nolint:nilerr // it is counted
		}
		return w.add(ctx, "jobs", r.title(), func(tx *store.Tx) error { return tx.InsertJob(&row) })
	})
	if unknown > 0 {
		w.leaveOutf("%d jobs of older versions could not be read", unknown)
	}
	return err
}

// events takes over the events with their targets, which come one after another:
// there may be millions.
func (w *world) events(ctx context.Context) error {
	var row store.Event
	insert := func() error {
		if row.ID == "" {
			return nil
		}
		whole := row
		return w.add(ctx, "events", whole.ID, func(tx *store.Tx) error { return tx.InsertEvents(whole) })
	}
	err := w.each(ctx, "events", "LEFT JOIN event_targets ON event_id = events.id ORDER BY events.rowid, event_targets.rowid", func(r *record) error {
		next := event(r)
		if next.ID != row.ID {
			if err := insert(); err != nil {
				return err
			}
			row = next
		}
		if r.has("event_id") {
			row.Targets = append(row.Targets, eventTarget(r))
		}
		if r.err != nil {
			return fmt.Errorf("take over: %w", r.err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return insert()
}
