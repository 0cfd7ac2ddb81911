package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// DiskErrand is what an effect asks of a cloud about a volume.
type DiskErrand struct {
	// VolumeID is the id of the row.
	VolumeID           string
	ProjectID, Backend string
	Ref                backends.VolumeRef
	// Spec is the volume that is wanted; without a token it exists already.
	Spec    backends.VolumeSpec
	Machine backends.Ref
	// Force takes the volume from a machine that does not let go of it.
	Force bool
}

// DiskAnswer is what a cloud says of a volume.
type DiskAnswer struct {
	Volume backends.Volume
	// Device is the name that the volume has on a machine.
	Device string
	// Shown says that the cloud showed the volume before it was to go.
	Shown bool
}

// onDisk says whether the effect is an errand about a volume. Of one volume
// there is one at a time.
func (f Effect) onDisk() bool {
	switch f.Kind {
	case DoMake, DoErase, DoAttach, DoDetach:
		return true
	}
	return false
}

// runDisk does an errand about a volume.
func (e *Engine) runDisk(ctx context.Context, f Effect) (out DiskAnswer, err error) {
	if e.cfg.Clouds == nil {
		return out, errNoClouds
	}
	b, err := e.cfg.Clouds.Open(ctx, f.Disk.ProjectID, f.Disk.Backend)
	if err != nil {
		return out, fmt.Errorf("open backend: %w", err)
	}
	disks, ok := backends.VolumesOf(b)
	if !ok {
		return out, &backends.Error{Kind: backends.Unsupported, Backend: f.Disk.Backend, Message: "it keeps no volumes"}
	}
	ref := f.Disk.Ref
	switch f.Kind {
	case DoMake:
		if f.Disk.Spec.Token != "" {
			out.Volume, err = disks.CreateVolume(ctx, f.Disk.Spec)
			return out, err //nolint:wrapcheck // the cloud says which call it was
		}
	case DoAttach:
		out.Device, err = disks.AttachVolume(ctx, ref, f.Disk.Machine)
		if !errors.Is(err, backends.NotFound) {
			return out, err //nolint:wrapcheck // as above
		}
		// Which of the two is not there?
		switch _, gone := disks.DescribeVolume(ctx, ref); {
		case gone == nil:
			return out, errAgain // the machine, which has a pass of its own
		case !errors.Is(gone, backends.NotFound):
			return out, gone //nolint:wrapcheck // as above
		}
		return out, err //nolint:wrapcheck // as above
	case DoErase:
		_, err := disks.DescribeVolume(ctx, ref)
		out.Shown = err == nil
		if err := disks.DeleteVolume(ctx, ref); err != nil {
			return out, deleteError{err}
		}
	case DoDetach:
		if err := disks.DetachVolume(ctx, ref, f.Disk.Machine, f.Disk.Force); err != nil {
			return out, deleteError{err}
		}
	}
	out.Volume, err = disks.DescribeVolume(ctx, ref)
	return out, err //nolint:wrapcheck // as above
}

// finishDisk writes down what a cloud answered about a volume. It returns nil
// if the errand is done, else why it has to be done again.
func (e *Engine) finishDisk(ctx context.Context, f Effect, out Outcome) error {
	again := out.Err
	err := e.write(ctx, "store answer of cloud", func(tx *store.Tx) error {
		v, err := e.volumeView(tx, f.Disk.VolumeID)
		if err != nil || v.volume.Deleted {
			again = nil
			if errors.Is(err, errGone) {
				err = nil
			}
			return err
		}
		d := &decision{}
		a := diskAnswer{v, d, out.Asked, out.Disk, out.Err}
		switch f.Kind {
		case DoMake:
			again = a.made()
		case DoErase:
			again = a.erased()
		case DoAttach:
			again = a.attached(f.InstanceID)
		case DoDetach:
			again = a.detachedFrom(f.InstanceID, f.Disk.Machine.ID)
		}
		if err := e.apply(tx, d, v.now); err != nil {
			return err
		}
		if d.final {
			return tx.DropWork(f.Key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return again
}

// diskAnswer takes a cloud's answer over into a volume.
type diskAnswer struct {
	volumeView

	d *decision
	// asked is when the cloud was asked, seen what it answered, if err is nil.
	asked time.Time
	seen  DiskAnswer
	err   error
}

// passing says whether the same call may have another answer later.
func passing(err error) bool {
	if errors.Is(err, errAgain) {
		return true
	}
	switch backends.KindOf(err) {
	case backends.Transient, backends.Throttled, backends.NotReady:
		return true
	}
	return false
}

// troubled keeps what is in the way, for who looks at the volume.
func (a diskAnswer) troubled() {
	if errors.Is(a.err, errAgain) {
		return
	}
	vol, text := a.volume, cloudText(a.err)
	if vol.StatusMessage != nil && *vol.StatusMessage == text {
		return
	}
	vol.StatusMessage = &text
	if vol.Deleting {
		a.d.event("Volume is not deleted yet: "+text, volumeTarget(vol))
	}
	a.d.saveVolume(vol)
}

func (a diskAnswer) made() error {
	vol := a.volume
	if vol.Status != api.VolumeProvisioning {
		return nil
	}
	to := api.VolumeActive
	switch {
	case a.err == nil:
		vol.Provisioning, vol.StatusMessage = provisioned(vol.Configuration.Backend, a.seen.Volume), nil
	case passing(a.err):
		a.troubled()
		return a.err
	default:
		if vol.StatusMessage == nil && vol.CreatedAt.After(a.recovered) {
			vol.Token = "" // no answer was ever in doubt: nothing was made
		}
		to, vol.StatusMessage = api.VolumeFailed, new(cloudText(a.err))
	}
	a.d.event(statusChanged("Volume", vol.Status, to, vol.StatusMessage), volumeTarget(vol))
	vol.Status = to
	a.d.saveVolume(vol)
	return nil
}

// provisioned is a volume of a cloud as clients see it.
func provisioned(backend string, seen backends.Volume) *api.VolumeProvisioningData {
	p := &api.VolumeProvisioningData{
		Backend: &backend, VolumeID: seen.ID, SizeGB: &seen.SizeGB, Price: &seen.Price, Attachable: true, Detachable: true,
	}
	if seen.Zone != "" {
		p.AvailabilityZone = &seen.Zone
	}
	if seen.Data != "" {
		p.BackendData = &seen.Data
	}
	return p
}

// erased is what became of a volume that is to go.
func (a diskAnswer) erased() error {
	if failed, refused := errors.AsType[deleteError](a.err); refused {
		a.err = failed.error
		a.troubled()
		return a.err
	}
	switch {
	case errors.Is(a.err, backends.NotFound) && !a.seen.Shown && a.hidden():
		return errAgain
	case errors.Is(a.err, backends.NotFound):
		a.removed(a.d)
		return nil
	case a.err != nil:
		a.troubled()
		return a.err
	}
	return errAgain
}

// hidden says that the cloud may not show the volume yet: that it knows none
// proves nothing.
func (a diskAnswer) hidden() bool {
	since := a.volume.CreatedAt
	if a.volume.Provisioning == nil {
		since = a.volume.LastProcessedAt // when what came of the token was asked for last
	}
	return a.asked.Before(since.Add(settleTime))
}

func (a diskAnswer) tenancy(instanceID string) (tenancy, bool) {
	i := slices.IndexFunc(a.holders, func(h tenancy) bool { return h.inst.ID == instanceID })
	if i < 0 {
		return tenancy{}, false
	}
	return a.holders[i], true
}

func (a diskAnswer) attached(instanceID string) error {
	h, ok := a.tenancy(instanceID)
	if !ok || h.at.DetachAt != nil {
		return nil
	}
	switch {
	case a.err == nil:
		h.at.Device, h.at.Trouble = &a.seen.Device, ""
		a.saveAttachment(a.d, h.at)
		a.d.event("Volume attached to "+h.inst.Name+" as "+a.seen.Device, volumeTarget(a.volume), instanceTarget(h.inst))
		h.wake(a.d)
	case passing(a.err) || errors.Is(a.err, backends.NotFound) && a.hidden():
		a.hindered(h)
		return a.err
	default:
		a.unattachable(a.d, h, cloudText(a.err))
		if errors.Is(a.err, backends.NotFound) && a.volume.Status == api.VolumeActive {
			a.volume.StatusMessage = new("Its cloud knows no such volume any more")
			a.d.event(statusChanged("Volume", a.volume.Status, api.VolumeFailed, a.volume.StatusMessage), volumeTarget(a.volume))
			a.volume.Status = api.VolumeFailed
		}
	}
	return nil
}

// hindered keeps what is in the way of an attachment.
func (a diskAnswer) hindered(h tenancy) {
	if text := cloudText(a.err); !errors.Is(a.err, errAgain) && text != h.at.Trouble {
		h.at.Trouble = text
		a.saveAttachment(a.d, h.at)
		what := "attached to "
		if h.at.DetachAt != nil {
			what = "detached from "
		}
		a.d.event("Volume is not "+what+h.inst.Name+" yet: "+text, volumeTarget(a.volume), instanceTarget(h.inst))
	}
}

// detachedFrom is what became of an attachment that is to go.
func (a diskAnswer) detachedFrom(instanceID, machineID string) error {
	h, ok := a.tenancy(instanceID)
	if !ok {
		return nil
	}
	if failed, refused := errors.AsType[deleteError](a.err); refused {
		a.err = failed.error
		a.hindered(h)
		return a.err
	}
	switch {
	case errors.Is(a.err, backends.NotFound) && !a.hidden():
	case a.err != nil:
		a.hindered(h)
		return a.err
	case slices.Contains(a.seen.Volume.Attached, machineID):
		return errAgain
	case h.at.Device == nil && a.asked.Before(h.at.DetachAt.Add(settleTime)):
		return errAgain // an attachment of which no answer came may not be shown yet
	}
	a.detached(a.d, h)
	return nil
}

// How long to wait between errands about volumes: clouds need seconds to
// attach and to detach.
const (
	diskPause  = 5 * time.Second
	erasePause = time.Minute
)
