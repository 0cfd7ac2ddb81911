package engine

import (
	"fmt"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// volumeView is what a decision about a volume looks at.
type volumeView struct {
	now    time.Time
	volume *store.Volume
	// configured says that the project has the volume's backend.
	configured bool
	attached   bool
}

// decideVolume takes a volume down when its user wants that, or when nobody
// used it for long enough. One that is submitted fails: this build has no
// driver that could make it.
func decideVolume(v volumeView) *decision {
	d := &decision{}
	vol := v.volume
	switch {
	case vol.Deleted:
		d.final = true
		return d
	case vol.Deleting:
	case vol.Status == api.VolumeSubmitted:
		vol.StatusMessage = new(noDriver(v.configured, vol.Configuration.Backend))
		d.event(statusChanged("Volume", vol.Status, api.VolumeFailed, vol.StatusMessage), volumeTarget(vol))
		vol.Status = api.VolumeFailed
		d.saveVolume(vol)
		return d
	default:
		due, ok := v.idleUntil()
		if !ok {
			return d
		}
		if v.now.Before(due) {
			d.at(due)
			return d
		}
		vol.Deleting = true
		d.event("Volume marked for deletion due to exceeding auto_cleanup_duration", volumeTarget(vol))
	}
	vol.Deleted, vol.DeletedAt = true, &v.now
	d.event("Volume deleted", volumeTarget(vol))
	d.saveVolume(vol)
	d.final = true
	return d
}

// idleUntil is when the volume goes if nobody uses it until then.
func (v volumeView) idleUntil() (time.Time, bool) {
	vol := v.volume
	after := vol.Configuration.AutoCleanupDuration
	if vol.Status != api.VolumeActive || v.attached || after == nil || *after <= 0 || vol.Configuration.ExternalID() != nil {
		return time.Time{}, false
	}
	since := vol.CreatedAt
	if vol.LastUsedAt != nil {
		since = *vol.LastUsedAt
	}
	return since.Add(time.Duration(*after) * time.Second), true
}

// noDriver says why nothing can be made on a backend.
func noDriver(configured bool, backend string) string {
	if !configured {
		return "Backend not available"
	}
	return fmt.Sprintf("This build of the server has no driver for backend %s yet", backend)
}

func (e *Engine) volumeView(tx *store.Tx, id string) (volumeView, error) {
	vol, err := found(tx.Volume(id))
	if err != nil {
		return volumeView{}, err
	}
	v := volumeView{now: e.now(), volume: &vol}
	attachments, err := tx.VolumeAttachments([]string{id})
	if err != nil {
		return v, err
	}
	v.attached = len(attachments) > 0
	v.configured, err = hasBackend(tx, vol.ProjectID, vol.Configuration.Backend)
	return v, err
}

func (d *decision) saveVolume(v *store.Volume) { save(&d.volumes, v) }

func volumeTarget(v *store.Volume) store.EventTarget {
	return store.EventTarget{Type: "volume", ProjectID: &v.ProjectID, ID: v.ID, Name: v.Name}
}

// statusChanged is the text of a change of status with its message, if any.
func statusChanged[S ~string](what string, from, to S, message *string) string {
	text := what + " status changed " + upper(from) + " -> " + upper(to)
	if message != nil && *message != "" {
		text += " (" + *message + ")"
	}
	return text
}
