package clouds

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// keepsLimit is how long it may take to look for machines with a new
// configuration.
const keepsLimit = 30 * time.Second

// shownAfter is how long a cloud may take to show what it made.
const shownAfter = time.Minute

// Keeps says whether a project's machines and volumes are reached with another
// configuration of their backend, too: with one that leads to another account,
// or lacks a region, nobody could end them any more. It fails with
// [*backends.Invalid] if not.
func (c *Clouds) Keeps(ctx context.Context, projectID string, b config.Backend) error {
	driver := c.opts.Drivers[b.Type]
	rows, disks, err := c.belongings(ctx, projectID, b.Type)
	if driver == nil || err != nil || len(rows)+len(disks) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, keepsLimit, fmt.Errorf("%s did not show the machines and volumes in %s", b.Type, keepsLimit))
	defer cancel()
	account, err := driver.Open(ctx, b)
	if err != nil {
		return &backends.Invalid{Message: err.Error()}
	}
	for _, i := range rows {
		m := i.Machine
		// Without Data: the engine alone gets a machine what it lacks.
		_, err := account.Describe(ctx, backends.Ref{ID: m.ID, Token: m.Token, Region: m.Region})
		if err != nil {
			return &backends.Invalid{Message: fmt.Sprintf(
				"With this configuration machine %s of instance %s could not be ended any more (%s): delete the instance first", m.ID, i.Name, lossText(err))}
		}
	}
	power, ok := backends.VolumesOf(account)
	for _, v := range disks {
		if !ok {
			break
		}
		id := v.Provisioning.VolumeID
		if _, err := power.DescribeVolume(ctx, backends.VolumeRef{ID: id, Token: v.Token, Region: v.Configuration.Region}); err != nil {
			return &backends.Invalid{Message: fmt.Sprintf(
				"With this configuration volume %s (%s) could not be deleted any more (%s): delete the volume first", v.Name, id, lossText(err))}
		}
	}
	return nil
}

func lossText(err error) string {
	if errors.Is(err, backends.NotFound) {
		return "it leads to another account"
	}
	return err.Error()
}

// belongings are the machines and volumes of a project at a backend that must
// be there.
func (c *Clouds) belongings(ctx context.Context, projectID, backend string) (machines []store.Instance, disks []store.Volume, err error) {
	err = c.opts.Store.Read(ctx, func(tx *store.Tx) error {
		machines, disks = nil, nil
		all, err := tx.Machines()
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		for _, i := range all {
			m := i.Machine
			known := m.CreatedAt != nil && m.GoneAt == nil && m.EndedAt == nil && c.opts.Now().After(m.CreatedAt.Add(shownAfter))
			if i.ProjectID == projectID && m.Backend == backend && known {
				machines = append(machines, i)
			}
		}
		volumes, err := tx.Volumes(store.VolumeFilter{ProjectIDs: []string{projectID}, OnlyActive: true})
		for _, v := range volumes {
			// One that failed may have been deleted by somebody else.
			made := v.Provisioning != nil && v.Configuration.ExternalID() == nil && v.Status == api.VolumeActive && !v.Deleting
			if v.Configuration.Backend == backend && made && c.opts.Now().After(v.CreatedAt.Add(shownAfter)) {
				disks = append(disks, v)
			}
		}
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list machines and volumes: %w", err)
	}
	return machines, disks, nil
}
