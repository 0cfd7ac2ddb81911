package clouds

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/protocol/config"
)

// keepsLimit is how long it may take to look for machines with a new
// configuration.
const keepsLimit = 30 * time.Second

// shownAfter is how long a cloud may take to show what it made.
const shownAfter = time.Minute

// Keeps says whether a project's machines are reached with another
// configuration of their backend, too: with one that leads to another account,
// or lacks a region, nobody could end them any more. It fails with
// [*backends.Invalid] if not.
func (c *Clouds) Keeps(ctx context.Context, projectID string, b config.Backend) error {
	driver := c.opts.Drivers[b.Type]
	rows, err := c.machines(ctx, projectID, b.Type)
	if driver == nil || err != nil || len(rows) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, keepsLimit, fmt.Errorf("%s did not show the machines in %s", b.Type, keepsLimit))
	defer cancel()
	account, err := driver.Open(ctx, b)
	if err != nil {
		return &backends.Invalid{Message: err.Error()}
	}
	for _, i := range rows {
		m := i.Machine
		_, err := account.Describe(ctx, backends.Ref{ID: m.ID, Token: m.Token, Region: m.Region, Data: m.Data})
		if err != nil {
			return &backends.Invalid{Message: lossText(i, err)}
		}
	}
	return nil
}

func lossText(i store.Instance, err error) string {
	why := err.Error()
	if errors.Is(err, backends.NotFound) {
		why = "it leads to another account"
	}
	return fmt.Sprintf("With this configuration machine %s of instance %s could not be ended any more (%s): delete the instance first", i.Machine.ID, i.Name, why)
}

// machines are those of a project at a backend that must be there.
func (c *Clouds) machines(ctx context.Context, projectID, backend string) ([]store.Instance, error) {
	var out []store.Instance
	err := c.opts.Store.Read(ctx, func(tx *store.Tx) error {
		out = nil
		all, err := tx.Machines()
		for _, i := range all {
			m := i.Machine
			known := m.CreatedAt != nil && m.GoneAt == nil && m.EndedAt == nil && c.opts.Now().After(m.CreatedAt.Add(shownAfter))
			if i.ProjectID == projectID && m.Backend == backend && known {
				out = append(out, i)
			}
		}
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	return out, nil
}
