package engine

import (
	"context"
	"fmt"
	"slices"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

var _ backends.Volumes = simAccount{}

func (a simAccount) CreateVolume(ctx context.Context, spec backends.VolumeSpec) (out backends.Volume, err error) {
	err = a.w.cloud.call(a.w, "create volume", spec.Token, func() error {
		out, err = a.inner.CreateVolume(ctx, spec)
		if err == nil || backends.KindOf(err) == backends.Transient {
			a.w.owned[spec.Token] = true
		}
		return err
	})
	return out, err
}

func (a simAccount) DescribeVolume(ctx context.Context, ref backends.VolumeRef) (out backends.Volume, err error) {
	err = a.w.cloud.call(a.w, "describe volume", ref.Token, func() error {
		out, err = a.inner.DescribeVolume(ctx, ref)
		return err
	})
	return out, err
}

func (a simAccount) DeleteVolume(ctx context.Context, ref backends.VolumeRef) error {
	return a.w.cloud.call(a.w, "delete volume", ref.Token, func() error { return a.inner.DeleteVolume(ctx, ref) })
}

func (a simAccount) AttachVolume(ctx context.Context, ref backends.VolumeRef, to backends.Ref) (device string, err error) {
	err = a.w.cloud.call(a.w, "attach volume", ref.Token, func() error {
		device, err = a.inner.AttachVolume(ctx, ref, to)
		return err
	})
	return device, err
}

func (a simAccount) DetachVolume(ctx context.Context, ref backends.VolumeRef, from backends.Ref, force bool) error {
	return a.w.cloud.call(a.w, "detach volume", ref.Token, func() error {
		if h := a.w.hostOf(from.ID); h != nil && !h.dead && !force {
			for _, t := range h.live() {
				if slices.Contains(t.disks, ref.ID) {
					a.w.failf("volume %s is detached, and job %s uses it", ref.ID, short(t.ID))
				}
			}
		}
		return a.inner.DetachVolume(ctx, ref, from, force)
	})
}

func (w *world) someVolume() string { return fmt.Sprintf("vol-%d", 1+w.pick(w.volumes)) }

func (w *world) createVolume() {
	w.volumes++
	name := fmt.Sprintf("vol-%d", w.volumes)
	c := config.Volume{Type: config.TypeVolume, Backend: fake.Type, Name: &name, Region: "region-1", Size: ptr(10.0)}
	if w.chance(3) {
		c.Region = "region-2"
	}
	if w.chance(3) {
		c.AutoCleanupDuration = ptr(600)
	}
	_, err := w.engine.CreateVolume(w.ctx(), NewVolume{ProjectID: w.project, UserID: w.user, Configuration: c})
	w.notef("create volume %s: %v", name, err)
	w.guard("create volume", err)
}

func (w *world) dropVolume() {
	if w.volumes == 0 {
		return
	}
	name := w.someVolume()
	err := w.engine.DeleteVolumes(w.ctx(), w.user, w.project, []string{name})
	w.notef("delete volume %s: %v", name, err)
	w.guard("delete volume", err)
}

func (w *world) deleteVolumes() {
	for n := range w.volumes {
		name := fmt.Sprintf("vol-%d", n+1)
		w.guard("delete "+name, w.engine.DeleteVolumes(w.ctx(), w.user, w.project, []string{name}))
	}
}

// checkVolumes compares the volumes that cost money with those that the
// database knows.
func (w *world) checkVolumes() {
	known := map[string]bool{}
	err := w.store.Read(w.ctx(), func(tx *store.Tx) error {
		list, err := tx.Volumes(store.VolumeFilter{})
		for _, v := range list {
			known[v.Token] = known[v.Token] || !v.Deleted
		}
		return err
	})
	if err != nil {
		w.failf("list volumes: %w", err)
	}
	for _, v := range w.cloud.fake.Volumes() {
		if w.owned[v.Token] && !known[v.Token] && !w.restored() {
			w.failf("volume %s costs money and the database knows nothing of it", v.ID)
		}
	}
}

// strayVolume says that a volume is one that a restored database lost.
func (c cluster) strayVolume(v backends.Volume) bool {
	return slices.ContainsFunc(c.worlds, func(w *world) bool { return w.restored() && w.owned[v.Token] })
}

// checkAttached looks whether a job finds its volumes at its machine.
func (w *world) checkAttached(h *simHost, spec hostapi.TaskSpec) (disks []string) {
	for _, want := range spec.Volumes {
		for _, v := range w.cloud.fake.Volumes() {
			if v.ID != want.ID {
				continue
			}
			disks = append(disks, v.ID)
			if !slices.Equal(v.Attached, []string{h.machine.ID}) {
				w.failf("job %s starts on %s, and its volume %s is at %v", short(spec.Job.JobID), h.machine.ID, v.ID, v.Attached)
			}
		}
	}
	return disks
}

// awaitsVolume says whether a job waits for a volume that others use.
func (w *world) awaitsVolume(id string) bool {
	if w.cloud == nil {
		return false
	}
	taken := false
	err := w.store.Read(w.ctx(), func(tx *store.Tx) error {
		j, err := tx.Job(id)
		if err != nil || j.Status != api.JobSubmitted {
			return err
		}
		run, err := tx.Run(j.RunID)
		if err != nil || run.Spec.Configuration.Task == nil {
			return err
		}
		for _, m := range run.Spec.Configuration.Task.Volumes {
			vol, err := tx.VolumeByName(j.ProjectID, m.Names[0])
			if err != nil {
				return err
			}
			at, err := tx.VolumeAttachments([]string{vol.ID})
			if err != nil {
				return err
			}
			taken = taken || len(at) > 0
		}
		return nil
	})
	if err != nil && !isNotFound(err) {
		w.failf("look for volumes of a job: %w", err)
	}
	return taken
}
