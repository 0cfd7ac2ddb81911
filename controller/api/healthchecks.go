package api

import (
	"context"
	"fmt"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// getHealthChecks lists what looks at an instance found, newest first.
func (a *API) getHealthChecks(ctx context.Context, c call, in api.GetHealthChecksRequest) (api.HealthChecks, error) {
	out := api.HealthChecks{}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		id, err := numberedInstance(tx, c.Project.ID, in.FleetName, in.InstanceNum)
		if err != nil {
			return err
		}
		rows, err := tx.HealthChecks(store.HealthFilter{
			InstanceID: id, After: instantOf(in.After), Before: instantOf(in.Before), Limit: max(deref(in.Limit, 0), 0),
		})
		if err != nil {
			return fmt.Errorf("list health checks: %w", err)
		}
		for _, r := range rows {
			out.HealthChecks = append(out.HealthChecks, api.HealthCheck{CollectedAt: api.At(r.CollectedAt), Status: r.Status, Events: r.Events})
		}
		return nil
	})
	return out, err
}

func instantOf(t *api.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC()
	return &utc
}

// numberedInstance is the id of an instance of a fleet, neither deleted.
func numberedInstance(tx *store.Tx, projectID, fleet string, num int) (string, error) {
	f, err := tx.FleetByName(projectID, fleet)
	if isNotFound(err) {
		return "", notExists(msgNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("find fleet: %w", err)
	}
	instances, err := tx.InstancesOfFleet(f.ID)
	if err != nil {
		return "", fmt.Errorf("list instances of fleet: %w", err)
	}
	for _, in := range instances {
		if in.Num == num {
			return in.ID, nil
		}
	}
	return "", notExists(msgNotFound)
}
