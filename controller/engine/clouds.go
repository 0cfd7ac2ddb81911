package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// cloudView reads what a decision about a machine of a cloud looks at.
func (e *Engine) cloudView(tx *store.Tx, inst *store.Instance) (cloudView, error) {
	v := cloudView{serverID: e.cfg.ServerID, newID: e.cfg.NewID, newKey: e.cfg.NewHostKey, recovered: e.recoveredAt(), replica: e.cfg.Replica}
	v.bootLimit, v.mostTries = cmp.Or(e.cfg.BootLimit, bootLimit), cmp.Or(e.cfg.MostTries, mostTries)
	v.shimFor = e.cfg.ShimFor
	fleet, err := tx.Fleet(inst.FleetID)
	if err != nil {
		return v, err
	}
	v.fleet = &fleet
	if looksAtOthers(inst, &fleet, e.now()) {
		if v.others, err = tx.InstancesOfFleet(inst.FleetID); err != nil {
			return v, err
		}
		v.others = slices.DeleteFunc(v.others, func(o store.Instance) bool { return o.ID == inst.ID })
	}
	attachments, err := tx.AttachmentsOf(inst.ID)
	if err != nil {
		return v, err
	}
	for _, a := range attachments {
		v.held = append(v.held, a.VolumeID)
	}
	if inst.Status != api.InstancePending {
		return v, nil
	}
	if v.project, err = tx.Project(inst.ProjectID); err != nil || e.cfg.Clouds == nil {
		return v, err
	}
	if inst.Machine != nil && inst.Machine.GoneAt == nil {
		return v, nil
	}
	configured, err := tx.Backends(inst.ProjectID)
	if err != nil {
		return v, err
	}
	v.shelves = e.cfg.Clouds.Peek(configured)
	if inst.Wish == nil || inst.Wish.JobID == "" {
		return v, nil
	}
	job, err := tx.Job(inst.Wish.JobID)
	if errors.Is(err, store.ErrNotFound) {
		return v, nil
	}
	if err == nil {
		v.volumes, err = offers.LoadVolumes(tx, job.ProjectID, job.Spec.Volumes)
		v.volumes = v.volumes.For(inst.ID)
	}
	return v, err
}

// looksAtOthers says whether a decision depends on the fleet's other instances:
// to stand beside them, or to go. A big fleet is not read for each look at each
// of its machines.
func looksAtOthers(i *store.Instance, f *store.Fleet, now time.Time) bool {
	if i.Status == api.InstancePending {
		return isCluster(f) || i.Wish != nil && i.Wish.Near != ""
	}
	due := unusedUntil(i)
	return unwanted(i) || !due.IsZero() && !now.Before(due)
}

// OffersArrived tells that more is known of what the backends of a project
// offer: what waits for it is looked at again.
func (e *Engine) OffersArrived(projectID string) {
	var keys []store.Key
	err := e.cfg.Store.Read(context.Background(), func(tx *store.Tx) error {
		list, err := tx.WantedMachines(projectID)
		for _, i := range list {
			keys = append(keys, store.Key{Kind: store.KindInstance, ID: i.ID})
		}
		if err != nil {
			return err
		}
		waiting, err := waitingIn(tx, projectID)
		keys = append(keys, waiting...)
		return err
	})
	if err != nil {
		e.cfg.Log.Error().Err(err).Msg("cannot read who waits for offers; they look again by themselves")
	}
	e.queue.push(keys...)
}
