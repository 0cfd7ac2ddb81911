package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dstack/controller/backends"
	"dstack/controller/store"
)

// Errand is what an effect asks of a cloud.
type Errand struct {
	ProjectID, Backend string
	// Ref is the machine, Spec the one that is wanted.
	Ref  backends.Ref
	Spec backends.MachineSpec
	// Reservation is looked for Among these backends.
	Reservation string
	Among       []string
}

// errandLimit is how long an errand may take in all; each of its calls has a
// shorter limit of its own.
const errandLimit = 2 * time.Minute

// How long to wait between errands of one kind: polls come quickly at first.
const (
	describePause = 5 * time.Second
	watchPause    = 15 * time.Second
	createPause   = 30 * time.Second
	releasePause  = time.Minute
)

// errAgain says that the cloud answered, and has to be asked again.
var errAgain = errors.New("not yet")

// errNoClouds is for an engine that was made without any.
var errNoClouds = errors.New("this server uses no clouds")

// onCloud says whether the effect is an errand. Of one machine there is one at
// a time.
func (f Effect) onCloud() bool {
	switch f.Kind {
	case DoCreate, DoDescribe, DoWatch, DoRelease, DoReserve, DoUngroup:
		return true
	}
	return false
}

// subject is what a cloud is asked about, one question at a time; empty if it
// is asked nothing.
func (f Effect) subject() string {
	switch {
	case f.onCloud():
		return "machine/" + f.InstanceID
	case f.onDisk():
		return "volume/" + f.Disk.VolumeID
	}
	return ""
}

// pause is how long to wait before an effect is tried again: on a host 0.25,
// 0.5, 1, ... up to 10 seconds.
func (f Effect) pause(tries int, err error) time.Duration {
	least := 250 * time.Millisecond
	most := maxBackoff
	switch f.Kind {
	case DoDescribe:
		most = describePause
	case DoWatch:
		least, most = watchPause, watchPause
	case DoCreate:
		least, most = time.Second, createPause
	case DoMake, DoAttach, DoDetach:
		least, most = time.Second, diskPause
	case DoErase:
		least, most = time.Second, erasePause
	case DoRelease, DoUngroup:
		least, most = 500*time.Millisecond, releasePause
	}
	wait := min(least<<min(tries, 10), most)
	if known, ok := errors.AsType[*backends.Error](err); ok {
		wait = max(wait, min(known.After, releasePause))
	}
	return wait
}

// run does an errand.
func (e *Engine) run(ctx context.Context, f Effect) (backends.Machine, error) {
	if e.cfg.Clouds == nil {
		return backends.Machine{}, errNoClouds
	}
	b, err := e.cfg.Clouds.Open(ctx, f.Cloud.ProjectID, f.Cloud.Backend)
	if err != nil {
		return backends.Machine{}, fmt.Errorf("open backend: %w", err)
	}
	ref := f.Cloud.Ref
	switch f.Kind {
	case DoUngroup:
		return backends.Machine{}, deleteGroup(ctx, b, f)
	case DoCreate:
		spec := f.Cloud.Spec
		if err := makeGroup(ctx, b, &spec); err != nil {
			return backends.Machine{}, err
		}
		m, err := b.Create(ctx, spec)
		if err != nil {
			return m, fmt.Errorf("create machine: %w", err)
		}
		return m, nil
	case DoRelease:
		if err := b.Delete(ctx, ref); err != nil {
			return backends.Machine{}, deleteError{err}
		}
		ref.Data = "" // it gets nothing more
	}
	m, err := b.Describe(ctx, ref)
	if err != nil {
		return m, fmt.Errorf("describe machine: %w", err)
	}
	return m, nil
}

// deleteError is an error of the deletion itself: that there is no such machine
// is none.
type deleteError struct{ error }

func (e deleteError) Unwrap() error { return e.error }

// finishErrand writes down what a cloud answered.
func (e *Engine) finishErrand(ctx context.Context, f Effect, out Outcome) error {
	switch f.Kind {
	case DoReserve:
		return e.foundReservation(ctx, f, out.Reserved, out.Err)
	case DoUngroup:
		return e.ungrouped(ctx, f, out.Err)
	}
	return e.finishMachine(ctx, f, out)
}

// finishMachine writes down what a cloud said of a machine.
func (e *Engine) finishMachine(ctx context.Context, f Effect, out Outcome) error {
	e.tellMarket(f, out.Err) // before the instance looks for another offer
	again := out.Err
	err := e.write(ctx, "store answer of cloud", func(tx *store.Tx) error {
		inst, err := tx.Instance(f.InstanceID)
		if err != nil {
			return err
		}
		if inst.Machine == nil || inst.Machine.Token != f.Cloud.Ref.Token {
			again = nil
			return nil
		}
		jobs, err := tx.JobsOnInstance(inst.ID)
		if err != nil {
			return err
		}
		machine := *inst.Machine
		inst.Machine = &machine
		a := answerOf{
			now: e.now(), asked: out.Asked, replica: e.cfg.Replica, recovered: e.recoveredAt(), kind: f.Kind, inst: &inst, seen: out.Machine, err: out.Err,
			key: e.projectKey(tx, inst.ProjectID), jobs: jobs, newID: e.cfg.NewID,
		}
		again = a.take()
		if !a.changed {
			return nil
		}
		if err := tx.UpdateInstance(&inst); err != nil {
			return err
		}
		if err := e.record(tx, a.now, a.events); err != nil {
			return err
		}
		return e.wakeNear(tx, inst, a)
	})
	if err != nil {
		return err
	}
	return again
}

// tellMarket says whether a cloud gave what it had offered.
func (e *Engine) tellMarket(f Effect, err error) {
	if f.Kind != DoCreate || e.cfg.Clouds == nil {
		return
	}
	var offer backends.Offer
	offer.Region, offer.Instance.Name, offer.Instance.Resources.Spot = f.Cloud.Spec.Region, f.Cloud.Spec.Type, f.Cloud.Spec.Spot
	switch {
	case err == nil:
		e.cfg.Clouds.Given(f.Cloud.ProjectID, f.Cloud.Backend, offer)
	case len(zonesLeft(err)) == 0:
		e.cfg.Clouds.Refused(f.Cloud.ProjectID, f.Cloud.Backend, offer, cloudError(err))
	}
}

// projectKey is the private key with which machines of a project are reached.
func (e *Engine) projectKey(tx *store.Tx, projectID string) func() (string, error) {
	return func() (string, error) {
		p, err := tx.Project(projectID)
		return p.PrivateKey, err
	}
}

// wakeNear wakes the instance, and those of its fleet that wait to stand
// beside it.
func (e *Engine) wakeNear(tx *store.Tx, inst store.Instance, a answerOf) error {
	keys := []store.Key{{Kind: store.KindInstance, ID: inst.ID}}
	if a.kind == DoCreate {
		waiting, err := tx.WantedMachines(inst.ProjectID)
		if err != nil {
			return err
		}
		for _, w := range waiting {
			if w.FleetID == inst.FleetID {
				keys = append(keys, store.Key{Kind: store.KindInstance, ID: w.ID})
			}
		}
		if inst.Wish != nil && inst.Wish.JobID != "" {
			keys = append(keys, store.Key{Kind: store.KindJob, ID: inst.Wish.JobID})
		}
	}
	return tx.Wake(a.now, keys...)
}
