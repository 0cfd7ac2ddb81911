package store

import (
	"database/sql"
	"fmt"
	"time"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

// Volume is a network disk.
type Volume struct {
	ID              string
	ProjectID       string
	UserID          string
	Name            string
	Configuration   config.Volume
	Status          api.VolumeStatus
	StatusMessage   *string
	Provisioning    *api.VolumeProvisioningData
	CreatedAt       time.Time
	LastProcessedAt time.Time
	// LastUsedAt is when it was detached last; nil if it never was.
	LastUsedAt *time.Time
	// Deleting is the wish; Deleted says that nothing is left.
	Deleting  bool
	Deleted   bool
	DeletedAt *time.Time
	// Token was committed before the cloud was asked: at most one volume comes
	// of it. It is empty while nothing was asked, and for volumes that exist.
	Token string
	// Formatted says that a host used it: it is never formatted (again).
	Formatted bool
	Version   int64
}

// VolumeAttachment ties a volume to an instance, from the moment at which it is
// wanted there until the cloud says that it is not there any more. It changes
// only together with the version of its volume.
type VolumeAttachment struct {
	VolumeID   string
	InstanceID string
	// Device is what the volume is called there; nil until it is attached.
	Device   *string
	WantedAt time.Time
	// Trouble is why it is not attached, or not detached, yet; Failed says that
	// it never will be attached.
	Trouble string
	Failed  bool
	// DetachAt is when its last user left, ForceAt when the machine need not
	// agree any more; nil is never.
	DetachAt *time.Time
	ForceAt  *time.Time
}

// Ready says whether jobs can use it.
func (a *VolumeAttachment) Ready() bool { return a.Device != nil && a.DetachAt == nil }

var volumes = newTable("volumes", func(r *Volume, c *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("project_id", &r.ProjectID),
		fixed("user_id", &r.UserID),
		fixed("name", &r.Name),
		fixed("configuration", plain(&r.Configuration, c)),
		col("status", &r.Status),
		col("status_message", &r.StatusMessage),
		col("provisioning", plain(&r.Provisioning, c)),
		fixed("created_at", instant{&r.CreatedAt}),
		col("last_processed_at", instant{&r.LastProcessedAt}),
		col("last_used_at", maybeInstant{&r.LastUsedAt}),
		col("deleting", &r.Deleting),
		col("deleted", &r.Deleted),
		col("deleted_at", maybeInstant{&r.DeletedAt}),
		col("token", &r.Token),
		col("formatted", &r.Formatted),
		col("version", &r.Version),
	}
})

// InsertVolume adds a volume; [ErrExists] if a volume of this project, not
// deleted, has the name.
func (tx *Tx) InsertVolume(v *Volume) error { return volumes.add(tx, v) }

// UpdateVolume writes a volume if nobody else did since v was read, and adds
// one to v.Version; else [ErrConflict].
func (tx *Tx) UpdateVolume(v *Volume) error { return volumes.save(tx, v, &v.Version) }

// Volume finds a volume by id, also a deleted one.
func (tx *Tx) Volume(id string) (Volume, error) { return volumes.one(tx, " WHERE id = $1", id) }

// VolumeByName finds a volume of a project that is not deleted.
func (tx *Tx) VolumeByName(projectID, name string) (Volume, error) {
	return volumes.one(tx, " WHERE project_id = $1 AND name = $2 AND NOT deleted", projectID, name)
}

// VolumeNames lists the names, deleted volumes left out, of a project that
// begin with prefix.
func (tx *Tx) VolumeNames(projectID, prefix string) ([]string, error) {
	return tx.names("volumes", projectID, prefix)
}

// VolumeFilter says which volumes to list.
type VolumeFilter struct {
	ProjectIDs []string // nil means all
	OnlyActive bool     // not deleted
	Page       Page
}

// Volumes lists volumes, newest first unless the page says otherwise.
func (tx *Tx) Volumes(f VolumeFilter) ([]Volume, error) {
	var w where
	w.in("project_id", f.ProjectIDs)
	if f.OnlyActive {
		w.add("NOT deleted")
	}
	tail := w.page(f.Page, "created_at")
	return volumes.find(tx, w.String()+tail, w.args...)
}

// PutAttachment writes an attachment, new or changed.
func (tx *Tx) PutAttachment(a *VolumeAttachment) error {
	_, err := tx.exec(`INSERT INTO volume_attachments (volume_id, instance_id, device, wanted_at, trouble, failed, detach_at, force_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (volume_id, instance_id) DO UPDATE SET device = excluded.device, wanted_at = excluded.wanted_at,
		trouble = excluded.trouble, failed = excluded.failed, detach_at = excluded.detach_at, force_at = excluded.force_at`,
		a.VolumeID, a.InstanceID, a.Device, instant{&a.WantedAt}, a.Trouble, a.Failed, maybeInstant{&a.DetachAt}, maybeInstant{&a.ForceAt})
	if err != nil {
		return fmt.Errorf("write attachment: %w", err)
	}
	return nil
}

// DeleteAttachment removes an attachment; one that is not there is no error.
func (tx *Tx) DeleteAttachment(a *VolumeAttachment) error {
	if _, err := tx.exec("DELETE FROM volume_attachments WHERE volume_id = $1 AND instance_id = $2", a.VolumeID, a.InstanceID); err != nil {
		return fmt.Errorf("delete attachment: %w", err)
	}
	return nil
}

// VolumeAttachments lists what volumes are attached to, by volume.
func (tx *Tx) VolumeAttachments(volumeIDs []string) ([]VolumeAttachment, error) {
	var w where
	w.in("volume_id", nonNil(volumeIDs))
	return tx.attachments(&w)
}

// AttachmentsOf lists what is attached to an instance, by volume.
func (tx *Tx) AttachmentsOf(instanceID string) ([]VolumeAttachment, error) {
	var w where
	w.in("instance_id", []string{instanceID})
	return tx.attachments(&w)
}

func (tx *Tx) attachments(w *where) ([]VolumeAttachment, error) {
	out := []VolumeAttachment{}
	err := tx.query(func(rows *sql.Rows) error {
		var a VolumeAttachment
		err := rows.Scan(&a.VolumeID, &a.InstanceID, &a.Device, instant{&a.WantedAt}, &a.Trouble, &a.Failed,
			maybeInstant{&a.DetachAt}, maybeInstant{&a.ForceAt})
		if err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		out = append(out, a)
		return nil
	}, "SELECT volume_id, instance_id, device, wanted_at, trouble, failed, detach_at, force_at FROM volume_attachments"+
		w.String()+" ORDER BY volume_id, instance_id", w.args...)
	if err != nil {
		return nil, fmt.Errorf("select attachments: %w", err)
	}
	return out, nil
}
