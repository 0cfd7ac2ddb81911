package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// volumeWait is when a job looks again that waits for a volume; who frees it
// wakes the job.
const volumeWait = time.Minute

// disks are the network volumes that jobs mount, by the ids of the jobs; those
// that mount none are left out.
type disks map[string]*offers.Volumes

// loadDisks finds the volumes of jobs of one project.
func loadDisks(tx *store.Tx, projectID string, jobs []*store.Job) (disks, error) {
	var out disks
	for _, j := range jobs {
		v, err := offers.LoadVolumes(tx, projectID, j.Spec.Volumes)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		if out == nil {
			out = disks{}
		}
		out[j.ID] = v
	}
	return out, nil
}

// taken says whether jobs wait for a volume. They take no room from others
// meanwhile.
func (n disks) taken(jobs []*store.Job) bool {
	return slices.ContainsFunc(jobs, func(j *store.Job) bool { return n[j.ID].Taken() != "" })
}

// attached is a volume of a job with its attachment to the job's instance.
type attached struct {
	volume *store.Volume
	// at is nil if the volume is not, or no more, to be attached there; volume,
	// if there is no such volume any more.
	at *store.VolumeAttachment
}

// loadAttached finds the volumes that a job got with its place, in the order
// of its mounts.
func loadAttached(tx *store.Tx, j *store.Job) ([]attached, error) {
	if j.InstanceID == nil || j.Runtime == nil || len(j.Runtime.VolumeNames) == 0 {
		return nil, nil
	}
	list, err := tx.AttachmentsOf(*j.InstanceID)
	if err != nil {
		return nil, err
	}
	var out []attached
	for _, name := range j.Runtime.VolumeNames {
		v, err := tx.VolumeByName(j.ProjectID, name)
		if errors.Is(err, store.ErrNotFound) {
			out = append(out, attached{})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find volume: %w", err)
		}
		a := attached{volume: &v}
		if i := slices.IndexFunc(list, func(at store.VolumeAttachment) bool { return at.VolumeID == v.ID }); i >= 0 {
			a.at = &list[i]
		}
		out = append(out, a)
	}
	return out, nil
}

// loadRoom finds the rows of the volumes that the jobs of a replica may get.
func (v *jobView) loadRoom(tx *store.Tx) error {
	var err error
	if v.disks, err = loadDisks(tx, v.job.ProjectID, v.siblings); err != nil {
		return err
	}
	v.volumes, v.holders = map[string]*store.Volume{}, map[string]*store.VolumeAttachment{}
	var ids []string
	for _, need := range v.disks {
		for _, s := range need.Sites {
			for _, name := range s.Names {
				row, err := tx.VolumeByName(v.job.ProjectID, name)
				if err != nil {
					return fmt.Errorf("find volume: %w", err)
				}
				v.volumes[name] = &row
				ids = append(ids, row.ID)
			}
		}
	}
	list, err := tx.VolumeAttachments(ids)
	for i := range list {
		v.holders[list[i].VolumeID] = &list[i]
	}
	return err
}

// lacksVolume ends a replica of which a volume cannot be used at all, or not by
// all jobs that need it: each has a machine of its own.
func (v *jobView) lacksVolume(d *decision) bool {
	seen := map[string]bool{}
	for _, s := range v.siblings {
		need := v.disks[s.ID]
		switch {
		case need == nil:
			continue
		case need.Broken != "":
			v.end(d, api.ReasonVolumeError, need.Broken)
			return true
		case len(need.Sites) == 0:
			continue
		}
		for _, name := range need.Sites[0].Names {
			if seen[name] {
				v.end(d, api.ReasonVolumeError, "Volume "+name+" cannot be mounted by more than one node")
				return true
			}
			seen[name] = true
		}
	}
	return false
}

// awaitsVolume says whether the replica finds no place only because others use
// its volumes. It waits then, for as long as they do.
func (v *jobView) awaitsVolume(d *decision) bool {
	if !v.disks.taken(v.siblings) {
		return false
	}
	d.at(v.now.Add(volumeWait))
	return true
}

// mayAttach says whether a job can have its volumes on the instance that was
// made for it; it waits while others use them.
func (v *jobView) mayAttach(d *decision, j *store.Job, inst *store.Instance) bool {
	need := v.disks[j.ID]
	if need == nil {
		return true
	}
	if _, ok := need.On(*inst); ok {
		return true
	}
	switch {
	case j != v.job: // its own pass says so
	case need.Taken() != "":
		d.at(v.now.Add(volumeWait))
	default:
		v.end(d, api.ReasonVolumeError, cmp.Or(need.Broken, "Its volumes cannot be attached to "+inst.Name))
	}
	return false
}

// attach gives a job the volumes that are where its instance is.
func (v *jobView) attach(d *decision, j *store.Job, inst *store.Instance) {
	need := v.disks[j.ID]
	if need == nil {
		return
	}
	site, _ := need.On(*inst)
	j.Runtime.VolumeNames = site.Names
	for _, name := range site.Names {
		row := v.volumes[name]
		// Also if it is there already: it must not be detached meanwhile.
		d.saveVolume(row)
		d.wake(store.KindVolume, row.ID)
		if v.holders[row.ID] == nil {
			v.holders[row.ID] = &store.VolumeAttachment{VolumeID: row.ID, InstanceID: inst.ID, WantedAt: v.now}
			save(&d.attachments, v.holders[row.ID])
		}
		if j == v.job {
			v.attached = append(v.attached, attached{row, v.holders[row.ID]})
		}
	}
}

// mounts are the volumes of a job for its host; false if they are not all
// attached, or never will be.
func (v *jobView) mounts(d *decision) ([]hostapi.Volume, bool) {
	j := v.job
	var out []hostapi.Volume
	for n, m := range networkMounts(j.Spec) {
		if n >= len(v.attached) || v.attached[n].at == nil {
			v.end(d, api.ReasonVolumeError, fmt.Sprintf("Volume %s is not attached any more", m.Names[0]))
			return nil, false
		}
		vol, at := v.attached[n].volume, v.attached[n].at
		switch {
		case at.Failed:
			v.end(d, api.ReasonVolumeError, "Failed to attach volume "+vol.Name+because(at.Trouble))
			return nil, false
		case !at.Ready():
			return nil, false // its pass wakes the job
		}
		mount := hostapi.Volume{
			Name: vol.Name, ID: vol.Provisioning.VolumeID, Device: *at.Device, Target: m.Path,
			Format: !vol.Formatted && vol.Configuration.ExternalID() == nil,
		}
		if size := vol.Provisioning.SizeGB; size != nil {
			mount.SizeGB = *size
		}
		out = append(out, mount)
	}
	return out, true
}

func networkMounts(job api.JobSpec) []config.Mount {
	return slices.DeleteFunc(slices.Clone(job.Volumes), func(m config.Mount) bool { return len(m.Names) == 0 })
}

// noteFormatted remembers that a host used the volumes of the job: they have a
// file system now, whatever else happens.
func (v *jobView) noteFormatted(d *decision) {
	t := v.job.Task
	if t == nil {
		return
	}
	switch t.State {
	case hostapi.TaskPulling, hostapi.TaskCreating, hostapi.TaskRunning:
	default:
		if t.ExitStatus == nil {
			return
		}
	}
	for _, a := range v.attached {
		if a.volume != nil && !a.volume.Formatted {
			a.volume.Formatted = true
			d.saveVolume(a.volume)
		}
	}
}

// forceAfter is how long a machine may keep a volume at least.
const forceAfter = time.Minute

// leaveVolumes lets the volumes of a job go that ended, unless others use
// them. A machine that does not let go of them is forced: soon if the user
// aborted the job, else after the time that the job had to stop, and never if
// that is as long as it likes (shared spec, orchestration.md 9).
func (v *jobView) leaveVolumes(d *decision) {
	j := v.job
	for _, a := range v.attached {
		if a.at == nil {
			continue
		}
		d.saveVolume(a.volume)
		d.wake(store.KindVolume, a.volume.ID)
		a.at.ForceAt = nil
		switch {
		case j.Reason != nil && *j.Reason == api.ReasonJobAbortedByUser:
			a.at.ForceAt = new(v.now.Add(forceAfter))
		case j.Spec.StopDuration != nil:
			a.at.ForceAt = new(v.now.Add(max(forceAfter, time.Duration(*j.Spec.StopDuration)*time.Second)))
		}
		save(&d.attachments, a.at)
	}
}
