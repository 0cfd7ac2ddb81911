package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

// attachLimit is how long a volume may take to be attached to a machine, which
// may still have to boot.
const attachLimit = bootLimit

// volumeView is what a decision about a volume looks at.
type volumeView struct {
	now time.Time
	// recovered is when this server began: whatever was asked for before may
	// have been made.
	recovered time.Time
	// copied is when this database came here from elsewhere; zero if it did not.
	copied   time.Time
	newID    func() string
	serverID string
	volume   *store.Volume
	// project and owner are the names of the volume's project and user.
	project, owner string
	// configured says that the project has the volume's backend, and clouds that
	// this server uses any.
	configured, clouds bool
	holders            []tenancy
}

// tenancy is a volume's attachment to a machine.
type tenancy struct {
	at   *store.VolumeAttachment
	inst *store.Instance
	// jobs are those on the machine that use the volume.
	jobs []string
	// lingers says that a task of a job that ended may use it there: it is not
	// removed yet, or a request to start it is still on its way.
	lingers bool
}

// gone says that the machine is: its cloud has detached what it had.
func (h tenancy) gone() bool {
	m := h.inst.Machine
	return h.inst.Status == api.InstanceTerminated || m == nil || m.GoneAt != nil
}

// decideVolume makes a volume, attaches it where jobs are to use it, detaches
// it when they have ended, and takes it down when its user wants that, or when
// nobody used it for long enough. It is gone when its cloud says so.
func decideVolume(v volumeView) *decision {
	d := &decision{}
	vol := v.volume
	if vol.Deleted {
		d.final = true
		return d
	}
	if vol.Status == api.VolumeSubmitted && !vol.Deleting {
		v.begin(d)
	}
	for _, h := range v.holders {
		v.keep(d, h)
	}
	if due, ok := v.idleUntil(); ok && !vol.Deleting {
		if v.now.Before(due) {
			d.at(due)
			return d
		}
		vol.Deleting = true
		d.event("Volume marked for deletion due to exceeding auto_cleanup_duration", volumeTarget(vol))
		d.saveVolume(vol)
	}
	switch {
	case vol.Status == api.VolumeProvisioning:
		// Also one that is to go: what comes of the token has to be known first.
		d.do(v.make())
	case vol.Deleting && len(v.holders) == 0:
		v.remove(d)
	}
	return d
}

// begin commits the token by which the cloud makes the volume, before it is
// asked.
func (v volumeView) begin(d *decision) {
	vol := v.volume
	to := api.VolumeProvisioning
	switch {
	case !v.configured || !v.clouds:
		vol.StatusMessage = new(noDriver(v.configured, vol.Configuration.Backend))
		to = api.VolumeFailed
	case vol.Configuration.ExternalID() == nil:
		vol.Token = v.newID()
	}
	d.event(statusChanged("Volume", vol.Status, to, vol.StatusMessage), volumeTarget(vol))
	vol.Status = to
	d.saveVolume(vol)
}

// keep looks after an attachment.
func (v volumeView) keep(d *decision, h tenancy) {
	a := h.at
	switch {
	case h.gone():
		v.detached(d, h)
		return
	case foreign(h.inst, v.serverID):
		return // its keeper may have jobs there that use the volume
	case a.DetachAt == nil && len(h.jobs) == 0:
		a.DetachAt = &v.now
		v.saveAttachment(d, a)
	}
	if a.DetachAt != nil {
		v.detach(d, h)
		return
	}
	deadline := a.WantedAt.Add(attachLimit)
	switch {
	case a.Ready() || a.Failed:
	case !v.now.Before(deadline):
		v.unattachable(d, h, "it was not attached within "+secondsText(attachLimit)+"s"+because(a.Trouble))
	default:
		d.at(deadline)
		d.do(v.errand(DoAttach, h.inst))
	}
}

// detach takes the volume off a machine: when nothing uses it there any more, or
// by force when the time for that is over.
func (v volumeView) detach(d *decision, h tenancy) {
	force := h.at.ForceAt
	f := v.errand(DoDetach, h.inst)
	f.Disk.Force = force != nil && !v.now.Before(*force)
	if force != nil && !f.Disk.Force {
		d.at(*force)
	}
	if h.lingers && !f.Disk.Force {
		return // the removal of the task wakes
	}
	d.do(f)
}

func (v volumeView) saveAttachment(d *decision, a *store.VolumeAttachment) {
	save(&d.attachments, a)
	d.saveVolume(v.volume)
}

// unattachable tells the jobs that the volume cannot be attached.
func (v volumeView) unattachable(d *decision, h tenancy, why string) {
	h.at.Failed, h.at.Trouble = true, why
	v.saveAttachment(d, h.at)
	d.event("Volume could not be attached to "+h.inst.Name+because(why), volumeTarget(v.volume), instanceTarget(h.inst))
	h.wake(d)
}

func (h tenancy) wake(d *decision) {
	for _, id := range h.jobs {
		d.wake(store.KindJob, id)
	}
}

// detached lets others have the volume.
func (v volumeView) detached(d *decision, h tenancy) {
	vol := v.volume
	d.goneAttachments = append(d.goneAttachments, h.at)
	vol.LastUsedAt = &v.now
	d.saveVolume(vol)
	d.event("Volume detached from "+h.inst.Name, volumeTarget(vol), instanceTarget(h.inst))
	h.wake(d)
	d.released = vol.ProjectID
	d.wake(store.KindVolume, vol.ID)
}

// remove takes the volume down, unless it was there before us.
func (v volumeView) remove(d *decision) {
	vol := v.volume
	if vol.Configuration.ExternalID() == nil && (vol.Provisioning != nil || vol.Token != "") {
		d.do(v.errand(DoErase, nil))
		return
	}
	v.removed(d)
}

func (v volumeView) removed(d *decision) {
	vol := v.volume
	vol.Deleted, vol.DeletedAt, vol.StatusMessage = true, &v.now, nil
	d.event("Volume deleted", volumeTarget(vol))
	d.saveVolume(vol)
	d.final = true
}

// make is the effect that makes the volume, or finds the one that there is. It
// follows from the rows alone.
func (v volumeView) make() Effect {
	vol := v.volume
	conf := vol.Configuration
	f := v.errand(DoMake, nil)
	if conf.ExternalID() != nil {
		return f
	}
	tags := map[string]string{}
	maps.Copy(tags, conf.Tags)
	maps.Copy(tags, map[string]string{
		backends.TagServer: v.serverID, backends.TagOwner: "dstack", backends.TagProject: v.project, backends.TagName: vol.Name, backends.TagUser: v.owner,
	})
	f.Disk.Spec = backends.VolumeSpec{
		Token: vol.Token, Name: machineName(v.project, vol.Name, vol.Token), Region: conf.Region, Tags: tags,
	}
	if conf.AvailabilityZone != nil {
		f.Disk.Spec.Zone = *conf.AvailabilityZone
	}
	if conf.Size != nil {
		f.Disk.Spec.SizeGB = int(*conf.Size)
	}
	return f
}

// errand is an effect on the volume, and on a machine if one is given.
func (v volumeView) errand(kind EffectKind, inst *store.Instance) Effect {
	vol := v.volume
	f := Effect{Kind: kind, Key: store.Key{Kind: store.KindVolume, ID: vol.ID}}
	f.Disk = DiskErrand{
		VolumeID: vol.ID, ProjectID: vol.ProjectID, Backend: vol.Configuration.Backend,
		Ref: backends.VolumeRef{Token: vol.Token, Region: vol.Configuration.Region},
	}
	switch p := vol.Provisioning; {
	case p != nil:
		f.Disk.Ref.ID = p.VolumeID
		if p.BackendData != nil {
			f.Disk.Ref.Data = *p.BackendData
		}
	case vol.Configuration.ExternalID() != nil:
		f.Disk.Ref.ID = *vol.Configuration.ExternalID()
	}
	if inst != nil {
		m := inst.Machine
		f.InstanceID = inst.ID
		f.Disk.Machine = backends.Ref{ID: m.ID, Token: m.Token, Region: m.Region, Data: m.Data}
	}
	return f
}

// idleUntil is when the volume goes if nobody uses it until then.
func (v volumeView) idleUntil() (time.Time, bool) {
	vol := v.volume
	after := vol.Configuration.AutoCleanupDuration
	if vol.Status != api.VolumeActive || len(v.holders) > 0 || after == nil || *after <= 0 || vol.Configuration.ExternalID() != nil {
		return time.Time{}, false
	}
	since := vol.CreatedAt
	if vol.LastUsedAt != nil {
		since = *vol.LastUsedAt
	}
	if since.Before(v.copied) {
		return time.Time{}, false // the server that it was copied from may use it
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
	v := volumeView{now: e.now(), recovered: e.recoveredAt(), copied: e.cfg.CopiedAt, newID: e.cfg.NewID, serverID: e.cfg.ServerID, clouds: e.cfg.Clouds != nil, volume: &vol}
	if v.holders, err = tenancies(tx, &vol); err != nil {
		return v, err
	}
	if v.configured, err = hasBackend(tx, vol.ProjectID, vol.Configuration.Backend); err != nil || vol.Status == api.VolumeActive {
		return v, err
	}
	project, err := tx.Project(vol.ProjectID)
	if err != nil {
		return v, err
	}
	owner, err := tx.User(vol.UserID)
	v.project, v.owner = project.Name, owner.Name
	return v, err
}

// tenancies are the machines that a volume is attached to, or will be.
func tenancies(tx *store.Tx, vol *store.Volume) ([]tenancy, error) {
	list, err := tx.VolumeAttachments([]string{vol.ID})
	if err != nil {
		return nil, err
	}
	var out []tenancy
	for i := range list {
		inst, err := tx.Instance(list[i].InstanceID)
		if err != nil {
			return nil, err
		}
		jobs, err := tx.JobsOnInstance(inst.ID)
		if err != nil {
			return nil, err
		}
		h := tenancy{at: &list[i], inst: &inst}
		for _, j := range jobs {
			if uses(&j, vol) {
				h.jobs = append(h.jobs, j.ID)
			}
		}
		if h.lingers, err = lingers(tx, &inst, vol); err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

// uses says whether a job got the volume with its place.
func uses(j *store.Job, vol *store.Volume) bool {
	return j.ProjectID == vol.ProjectID && j.Runtime != nil && slices.Contains(j.Runtime.VolumeNames, vol.Name)
}

// lingers says whether a task that no job owns any more may use the volume. A
// host that told the end of one has unmounted its volumes.
func lingers(tx *store.Tx, inst *store.Instance, vol *store.Volume) (bool, error) {
	for _, id := range inst.Orphans {
		j, err := tx.Job(id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return true, nil // of a time that this database knows nothing about
		case err != nil:
			return false, fmt.Errorf("find job of a task: %w", err)
		case uses(&j, vol) && (j.Task == nil || j.Task.State != hostapi.TaskTerminated):
			return true, nil
		}
	}
	return false, nil
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
