package api

import (
	"context"
	"fmt"
	"time"

	"dstack/controller/engine"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

const maxVolumes = 100

// volumeMonth is the month for which a volume's price is, in hours.
const volumeMonth = 30 * 24

// listVolumes is the list over projects; it includes deleted volumes.
func (a *API) listVolumes(ctx context.Context, c call, in api.ListVolumesRequest) ([]api.Volume, error) {
	out := []api.Volume{}
	page, ok := pageOf(in.PrevCreatedAt, in.PrevID, in.Limit, maxVolumes, in.Ascending)
	if !ok {
		return out, nil
	}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		projects, err := a.visibleIn(tx, c, in.ProjectName)
		if err != nil {
			return err
		}
		out, err = a.volumeViews(tx, store.VolumeFilter{ProjectIDs: projects, OnlyActive: in.OnlyActive, Page: page})
		return err
	})
	return out, err
}

func (a *API) listProjectVolumes(ctx context.Context, c call, _ noBody) ([]api.Volume, error) {
	var out []api.Volume
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) (err error) {
		out, err = a.volumeViews(tx, store.VolumeFilter{ProjectIDs: []string{c.Project.ID}, OnlyActive: true, Page: store.Page{Ascending: true}})
		return err
	})
	return out, err
}

func (a *API) getVolume(ctx context.Context, c call, in api.GetVolumeRequest) (api.Volume, error) {
	var out api.Volume
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		v, err := tx.VolumeByName(c.Project.ID, in.Name)
		if isNotFound(err) {
			return notExists(msgNotFound)
		}
		if err != nil {
			return fmt.Errorf("find volume: %w", err)
		}
		views, err := a.viewsOfVolumes(tx, []store.Volume{v})
		if err != nil {
			return err
		}
		out = views[0]
		return nil
	})
	return out, err
}

func (a *API) volumeViews(tx *store.Tx, filter store.VolumeFilter) ([]api.Volume, error) {
	rows, err := tx.Volumes(filter)
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	return a.viewsOfVolumes(tx, rows)
}

func (a *API) viewsOfVolumes(tx *store.Tx, rows []store.Volume) ([]api.Volume, error) {
	var userIDs, projectIDs, ids []string
	for _, v := range rows {
		userIDs, projectIDs, ids = append(userIDs, v.UserID), append(projectIDs, v.ProjectID), append(ids, v.ID)
	}
	users, err := tx.UsersByID(userIDs)
	if err != nil {
		return nil, fmt.Errorf("find owners: %w", err)
	}
	projects, err := tx.ProjectsByID(projectIDs)
	if err != nil {
		return nil, fmt.Errorf("find projects: %w", err)
	}
	attachments, err := attachmentViews(tx, ids)
	if err != nil {
		return nil, err
	}
	now := a.deps.Now()
	out := make([]api.Volume, len(rows))
	for i := range rows {
		v := &rows[i]
		out[i] = volumeView(v, now)
		out[i].User, out[i].ProjectName = users[v.UserID].Name, projects[v.ProjectID].Name
		out[i].Attachments = attachments[v.ID]
	}
	return out, nil
}

func volumeView(v *store.Volume, now time.Time) api.Volume {
	view := api.Volume{
		ID: v.ID, Name: v.Name, Configuration: v.Configuration, External: v.Configuration.ExternalID() != nil,
		CreatedAt: api.At(v.CreatedAt), LastProcessedAt: api.At(v.LastProcessedAt),
		Status: v.Status, StatusMessage: v.StatusMessage, Deleted: v.Deleted, DeletedAt: timeRef(v.DeletedAt),
		ProvisioningData: v.Provisioning,
	}
	if v.Provisioning == nil {
		return view
	}
	view.VolumeID = &v.Provisioning.VolumeID
	until := now
	if v.DeletedAt != nil {
		until = *v.DeletedAt
	}
	view.Cost = deref(v.Provisioning.Price, 0) * until.Sub(v.CreatedAt).Hours() / volumeMonth
	return view
}

// attachmentViews are the attachments of volumes, by the id of the volume.
func attachmentViews(tx *store.Tx, volumeIDs []string) (map[string][]api.VolumeAttachment, error) {
	rows, err := tx.VolumeAttachments(volumeIDs)
	if err != nil {
		return nil, fmt.Errorf("list attachments: %w", err)
	}
	out := map[string][]api.VolumeAttachment{}
	for _, r := range rows {
		in, err := tx.Instance(r.InstanceID)
		if err != nil {
			return nil, fmt.Errorf("find instance: %w", err)
		}
		fleet, err := tx.Fleet(in.FleetID)
		if err != nil {
			return nil, fmt.Errorf("find fleet: %w", err)
		}
		out[r.VolumeID] = append(out[r.VolumeID], api.VolumeAttachment{
			Instance:       api.VolumeInstance{Name: in.Name, FleetName: &fleet.Name, InstanceNum: in.Num, InstanceID: &in.Name},
			AttachmentData: &api.VolumeAttachmentData{DeviceName: r.Device},
		})
	}
	return out, nil
}

func (a *API) createVolume(ctx context.Context, c call, in api.CreateVolumeRequest) (api.Volume, error) {
	if err := checkVolume(&in.Configuration); err != nil {
		return api.Volume{}, err
	}
	v, err := a.deps.Engine.CreateVolume(ctx, engine.NewVolume{ProjectID: c.Project.ID, UserID: c.User.ID, Configuration: in.Configuration})
	if err != nil {
		return api.Volume{}, wishError(err)
	}
	view := volumeView(&v, a.deps.Now())
	view.User, view.ProjectName = c.User.Name, c.Project.Name
	return view, nil
}

// checkVolume applies the rules of spec configuration.md 10.1.
func checkVolume(c *config.Volume) error {
	if c.Name != nil {
		if err := checkName(*c.Name); err != nil {
			return err
		}
	}
	external := c.ExternalID() != nil
	switch {
	case c.HasSize() && c.Size == nil && !external:
		return refuse("Volume must specify either existing identifier or size")
	case external && deref(c.AutoCleanupDuration, 0) > 0:
		return refuse("External volumes do not support auto_cleanup_duration. Auto-cleanup only works for volumes created and managed by dstack.")
	}
	return nil
}

// deleteVolumes records the wish; the engine takes the volumes down.
func (a *API) deleteVolumes(ctx context.Context, c call, in api.DeleteVolumesRequest) (nothing, error) {
	return nil, wishError(a.deps.Engine.DeleteVolumes(ctx, c.User.ID, c.Project.ID, distinct(in.Names)))
}
