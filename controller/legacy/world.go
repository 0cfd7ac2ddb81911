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
	err := w.each(ctx, "runs", "ORDER BY submitted_at, id", func(r *record) error {
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
	err := w.each(ctx, "jobs", "ORDER BY submitted_at, id", func(r *record) error {
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

// events takes over the events, oldest first; the targets of one come together.
func (w *world) events(ctx context.Context) error {
	targets := map[string][]store.EventTarget{}
	err := w.each(ctx, "event_targets", "", func(r *record) error {
		id, t := r.id("event_id"), eventTarget(r)
		targets[id] = append(targets[id], t)
		return r.err
	})
	if err != nil {
		return fmt.Errorf("take over events: %w", err)
	}
	return w.each(ctx, "events", "ORDER BY recorded_at, id", func(r *record) error {
		row := event(r)
		if r.err != nil {
			return fmt.Errorf("take over: %w", r.err)
		}
		row.Targets = targets[row.ID]
		return w.add(ctx, "events", func(tx *store.Tx) error { return tx.InsertEvents(row) })
	})
}
