package engine

import (
	"context"
	"errors"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// NewVolume is a volume to be created; without a name it gets one.
type NewVolume struct {
	ProjectID     string
	UserID        string
	Configuration config.Volume
}

// CreateVolume records a volume. A name that is taken makes it fail with
// [*Refused].
func (e *Engine) CreateVolume(ctx context.Context, n NewVolume) (store.Volume, error) {
	var vol store.Volume
	err := e.write(ctx, "create volume", func(tx *store.Tx) (err error) {
		vol, err = e.createVolume(tx, n)
		return err
	})
	if err != nil {
		return store.Volume{}, err // the writer may still be at it
	}
	return vol, nil
}

func (e *Engine) createVolume(tx *store.Tx, n NewVolume) (store.Volume, error) {
	now := e.now()
	conf := n.Configuration
	if conf.Name == nil || *conf.Name == "" {
		name, err := freshWords(e.cfg.NewID(), func(prefix string) ([]string, error) {
			return tx.VolumeNames(n.ProjectID, prefix)
		})
		if err != nil {
			return store.Volume{}, err
		}
		conf.Name = &name
	}
	vol := store.Volume{
		ID: e.cfg.NewID(), ProjectID: n.ProjectID, UserID: n.UserID, Name: *conf.Name, Configuration: conf,
		Status: api.VolumeSubmitted, CreatedAt: now, LastProcessedAt: now,
	}
	err := tx.InsertVolume(&vol)
	if errors.Is(err, store.ErrExists) {
		return vol, exists()
	}
	if err != nil {
		return vol, err
	}
	if err := e.record(tx, now, []store.Event{newEvent("Volume created. Status: "+upper(vol.Status), &n.UserID, volumeTarget(&vol))}); err != nil {
		return vol, err
	}
	return vol, tx.Wake(now, store.Key{Kind: store.KindVolume, ID: vol.ID})
}

// DeleteVolumes marks volumes of a project for deletion; unknown names are
// left out. One that is attached makes it fail with [*Refused], and none is
// marked.
func (e *Engine) DeleteVolumes(ctx context.Context, actorID, projectID string, names []string) error {
	return e.write(ctx, "delete volumes", func(tx *store.Tx) error {
		for _, name := range names {
			vol, err := tx.VolumeByName(projectID, name)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if err := e.deleteVolume(tx, &vol, &actorID); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *Engine) deleteVolume(tx *store.Tx, vol *store.Volume, actor *string) error {
	attachments, err := tx.VolumeAttachments([]string{vol.ID})
	if err != nil {
		return err
	}
	if len(attachments) > 0 {
		return refuse("Failed to delete volume %s. Volume is in use.", vol.Name)
	}
	if vol.Deleting {
		return nil
	}
	vol.Deleting = true
	d := &decision{events: []store.Event{newEvent("Volume marked for deletion", actor, volumeTarget(vol))}}
	d.saveVolume(vol)
	d.wake(store.KindVolume, vol.ID)
	return e.apply(tx, d, e.now())
}
