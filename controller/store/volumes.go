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
	Version   int64
}

// VolumeAttachment ties a volume to an instance. Device is what the volume is
// called there.
type VolumeAttachment struct {
	VolumeID   string
	InstanceID string
	Device     *string
}

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

// AttachVolume records that a volume is attached to an instance.
func (tx *Tx) AttachVolume(a *VolumeAttachment) error {
	_, err := tx.exec("INSERT INTO volume_attachments (volume_id, instance_id, device) VALUES ($1, $2, $3)", a.VolumeID, a.InstanceID, a.Device)
	if err != nil {
		return fmt.Errorf("attach volume: %w", err)
	}
	return nil
}

// VolumeAttachments lists what volumes are attached to, by volume.
func (tx *Tx) VolumeAttachments(volumeIDs []string) ([]VolumeAttachment, error) {
	var w where
	w.in("volume_id", nonNil(volumeIDs))
	out := []VolumeAttachment{}
	err := tx.query(func(rows *sql.Rows) error {
		var a VolumeAttachment
		if err := rows.Scan(&a.VolumeID, &a.InstanceID, &a.Device); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		out = append(out, a)
		return nil
	}, "SELECT volume_id, instance_id, device FROM volume_attachments"+w.String()+" ORDER BY volume_id, instance_id", w.args...)
	if err != nil {
		return nil, fmt.Errorf("select attachments: %w", err)
	}
	return out, nil
}
