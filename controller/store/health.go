package store

import (
	"fmt"
	"time"

	"dstack/protocol/api"
)

// HealthCheck is what a look at the health of an instance found.
type HealthCheck struct {
	ID          string
	InstanceID  string
	CollectedAt time.Time
	Status      api.HealthStatus
	Events      []api.HealthEvent
}

var healthChecks = newTable("health_checks", func(r *HealthCheck, c *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("instance_id", &r.InstanceID),
		fixed("collected_at", instant{&r.CollectedAt}),
		fixed("status", &r.Status),
		fixed("events", plain(&r.Events, c)),
	}
})

// InsertHealthCheck adds a health check.
func (tx *Tx) InsertHealthCheck(h *HealthCheck) error { return healthChecks.add(tx, h) }

// HealthFilter says which health checks of an instance to list. Both times
// are exclusive; Limit 0 means all.
type HealthFilter struct {
	InstanceID    string
	After, Before *time.Time
	Limit         int
}

// HealthChecks lists health checks, newest first.
func (tx *Tx) HealthChecks(f HealthFilter) ([]HealthCheck, error) {
	var w where
	w.add("instance_id = ?", f.InstanceID)
	if f.After != nil {
		w.add("collected_at > ?", f.After.UnixMicro())
	}
	if f.Before != nil {
		w.add("collected_at < ?", f.Before.UnixMicro())
	}
	return healthChecks.find(tx, w.String()+" ORDER BY collected_at DESC, id"+limit(f.Limit), w.args...)
}

// DeleteHealthChecks deletes what was found before a time and superseded by
// something newer: checks are stored when they differ, so the newest one of an
// instance still holds.
func (tx *Tx) DeleteHealthChecks(before time.Time) error {
	_, err := tx.exec("DELETE FROM health_checks WHERE collected_at < $1 AND EXISTS (SELECT 1 FROM health_checks newer "+
		"WHERE newer.instance_id = health_checks.instance_id AND newer.collected_at > health_checks.collected_at)", before.UnixMicro())
	if err != nil {
		return fmt.Errorf("delete health checks: %w", err)
	}
	return nil
}
