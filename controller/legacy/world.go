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
	now      time.Time
	projects map[string]string // names by id
	fleets   map[string]*store.Fleet
	// instances and runs are those that are taken over.
	instances, runs map[string]bool
}

// runsOf takes over the runs that can be read; specifications of old versions
// may have a form that nobody knows any more.
func (w *world) runsOf(ctx context.Context) error {
	unknown := 0
	err := w.each(ctx, "runs", "", func(r *record) error {
		row := run(r)
		if r.err != nil {
			unknown++
			return nil //nolint:nilerr // it is counted
		}
		w.runs[row.ID] = true
		return w.add(ctx, "runs", func(tx *store.Tx) error { return tx.InsertRun(&row) })
	})
	if unknown > 0 {
		w.leaveOutf("%d runs of older versions could not be read", unknown)
	}
	return err
}

func (w *world) jobs(ctx context.Context) error {
	unknown := 0
	err := w.each(ctx, "jobs", "", func(r *record) error {
		row := job(r, w.instances)
		if r.err != nil && w.runs[row.RunID] {
			unknown++
		}
		if r.err != nil || !w.runs[row.RunID] {
			return nil //nolint:nilerr // it is counted
		}
		return w.add(ctx, "jobs", func(tx *store.Tx) error { return tx.InsertJob(&row) })
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
		return w.add(ctx, "events", func(tx *store.Tx) error { return tx.InsertEvents(whole) })
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
