package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// plan is a decision with what it takes to commit it.
type plan struct {
	key      store.Key
	seq      int64
	decision *decision
	// began is how many errands had ended before the view was read.
	began uint64
}

// Step works on a key once: it reads, decides, commits, and starts the
// effects. A change by somebody else in between makes it begin again.
func (e *Engine) Step(ctx context.Context, key store.Key) error {
	for {
		p, err := e.plan(ctx, key)
		if err != nil {
			return err
		}
		err = e.commit(ctx, p)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// plan reads the view of a key in one transaction and decides.
func (e *Engine) plan(ctx context.Context, key store.Key) (plan, error) {
	e.mu.Lock()
	p := plan{key: key, began: e.mark}
	e.mu.Unlock()
	err := e.cfg.Store.Read(ctx, func(tx *store.Tx) (err error) {
		if p.seq, err = tx.WorkSeq(key); err != nil {
			return err
		}
		switch key.Kind {
		case store.KindRun:
			v, err := e.runView(tx, key.ID)
			if err != nil {
				return err
			}
			p.decision = decideRun(v)
		case store.KindJob:
			v, err := e.jobView(tx, key.ID)
			if err != nil {
				return err
			}
			p.decision = decideJob(v)
		case store.KindInstance:
			v, err := e.instanceView(tx, key.ID)
			if err != nil {
				return err
			}
			p.decision = decideInstance(v)
		case store.KindFleet:
			v, err := e.fleetView(tx, key.ID)
			if err != nil {
				return err
			}
			p.decision = decideFleet(v)
		case store.KindVolume:
			v, err := e.volumeView(tx, key.ID)
			if err != nil {
				return err
			}
			p.decision = decideVolume(v)
		case store.KindGateway:
			v, err := e.gatewayView(tx, key.ID)
			if err != nil {
				return err
			}
			p.decision = decideGateway(v)
		}
		return nil
	})
	if errors.Is(err, errGone) {
		p.decision, err = &decision{final: true}, nil
	}
	if err != nil {
		return plan{}, fmt.Errorf("decide %s %s: %w", key.Kind, key.ID, err)
	}
	return p, nil
}

// commit stores a decision, then starts its effects. Of one that changes no
// row, no conflict tells that it was made before something happened: its
// effects are left to the next decision, for which the key was woken.
func (e *Engine) commit(ctx context.Context, p plan) error {
	mine, fresh := false, false
	err := e.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
		now := e.now()
		if mine, err = tx.Claim(p.key, e.cfg.Replica, now.Add(lease)); err != nil || !mine {
			return err
		}
		seq, err := tx.WorkSeq(p.key)
		if err != nil {
			return err
		}
		fresh = seq == p.seq
		if err := e.apply(tx, p.decision, now); err != nil {
			return err
		}
		if p.decision.final {
			return tx.DropWork(p.key)
		}
		var next *time.Time
		if !p.decision.next.IsZero() {
			next = &p.decision.next
		}
		if err := tx.Settle(p.key, p.seq, next); err != nil {
			return err
		}
		return tx.Release(p.key, e.cfg.Replica)
	})
	if err != nil {
		return fmt.Errorf("commit %s %s: %w", p.key.Kind, p.key.ID, err)
	}
	if !mine {
		return nil // another replica works on it, and starts the effects
	}
	if !p.decision.next.IsZero() {
		e.mu.Lock()
		e.timers.set(p.key, p.decision.next)
		e.mu.Unlock()
	}
	for _, j := range p.decision.jobs {
		if j.Status.Finished() && j.UsedInstanceID != nil {
			e.forgetEffects(*j.UsedInstanceID, j.ID)
		}
	}
	e.count(p.decision)
	if fresh || p.decision.final {
		e.launch(p.decision.effects, p.began)
	}
	return nil
}

// count tells who counts what a committed decision did.
func (e *Engine) count(d *decision) {
	if e.cfg.Stats == nil {
		return
	}
	for _, m := range d.moves {
		e.cfg.Stats.RunMoved(m.run.ProjectID, m.run.Spec.Configuration.Type(), m.from, m.to, e.now().Sub(m.run.SubmittedAt))
	}
}

// apply writes the rows, events and wake-ups of a decision.
func (e *Engine) apply(tx *store.Tx, d *decision, now time.Time) error {
	for _, r := range d.runs {
		r.LastProcessedAt = now
		if err := e.updateRun(tx, r); err != nil {
			return err
		}
	}
	for _, i := range d.instances {
		i.LastProcessedAt = now
		noteIdle(i, now)
		if err := tx.UpdateInstance(i); err != nil {
			return err
		}
	}
	for _, i := range d.newInstances {
		if err := tx.InsertInstance(i); err != nil {
			return err
		}
	}
	for _, id := range d.oldJobs {
		if err := tx.DeleteJob(id); err != nil {
			return err
		}
	}
	for _, j := range d.newJobs {
		if err := tx.InsertJob(j); err != nil {
			return err
		}
	}
	for _, j := range d.jobs {
		j.LastProcessedAt = now
		if err := tx.UpdateJob(j); err != nil {
			return err
		}
	}
	for _, f := range d.fleets {
		f.LastProcessedAt = now
		if err := tx.UpdateFleet(f); err != nil {
			return err
		}
	}
	if err := applyClouds(tx, d, now); err != nil {
		return err
	}
	if err := e.record(tx, now, d.events); err != nil {
		return err
	}
	if d.released != "" {
		waiting, err := waitingFor(tx, d.released)
		if err != nil {
			return err
		}
		d.wakes = append(d.wakes, waiting...)
	}
	return tx.Wake(now, d.wakes...)
}

// noteIdle keeps since when an instance is idle.
func noteIdle(i *store.Instance, now time.Time) {
	switch {
	case i.Status != api.InstanceIdle:
		i.IdleSince = nil
	case i.IdleSince == nil:
		i.IdleSince = &now
	}
}

// applyClouds writes the volumes and gateways of a decision.
func applyClouds(tx *store.Tx, d *decision, now time.Time) error {
	for _, v := range d.volumes {
		v.LastProcessedAt = now
		if err := tx.UpdateVolume(v); err != nil {
			return err
		}
	}
	for _, a := range d.attachments {
		if err := tx.PutAttachment(a); err != nil {
			return err
		}
	}
	for _, a := range d.goneAttachments {
		if err := tx.DeleteAttachment(a); err != nil {
			return err
		}
	}
	for _, g := range d.gateways {
		g.LastProcessedAt = now
		if err := tx.UpdateGateway(g); err != nil {
			return err
		}
	}
	for _, id := range d.goneGateways {
		if err := tx.DeleteGateway(id); err != nil {
			return err
		}
	}
	return nil
}

// updateRun saves a run; the simulator's test makes it overwrite a conflict.
func (e *Engine) updateRun(tx *store.Tx, r *store.Run) error {
	err := tx.UpdateRun(r)
	if !e.faults.blindWrites || !errors.Is(err, store.ErrConflict) {
		return err
	}
	theirs, err := tx.Run(r.ID)
	if err != nil {
		return err
	}
	r.Version = theirs.Version
	return tx.UpdateRun(r)
}

// record stores events with fresh ids. No two get the same time, so that a
// list shows them in the order in which they happened.
func (e *Engine) record(tx *store.Tx, now time.Time, events []store.Event) error {
	e.mu.Lock()
	for i := range events {
		if next := e.lastEvent.Add(time.Microsecond); now.Before(next) {
			now = next
		}
		e.lastEvent = now
		events[i].ID, events[i].RecordedAt = e.cfg.NewID(), now
	}
	e.mu.Unlock()
	return tx.InsertEvents(events...)
}

// waitingFor lists what waits for capacity in a project and in those that
// import of it: runs that are to be resubmitted and jobs that wait for a host.
func waitingFor(tx *store.Tx, projectID string) ([]store.Key, error) {
	borrowers, err := tx.Borrowers(projectID)
	if err != nil {
		return nil, err
	}
	var keys []store.Key
	for _, id := range append([]string{projectID}, borrowers...) {
		waiting, err := waitingIn(tx, id)
		if err != nil {
			return nil, err
		}
		keys = append(keys, waiting...)
	}
	return keys, nil
}

// waitingIn lists what waits in one project, by priority, then age.
func waitingIn(tx *store.Tx, projectID string) ([]store.Key, error) {
	runs, err := tx.WaitingRuns(projectID)
	if err != nil {
		return nil, err
	}
	jobs, err := waitingJobs(tx, projectID)
	if err != nil {
		return nil, err
	}
	var list []waiter
	for _, r := range runs {
		list = append(list, waiter{store.Key{Kind: store.KindRun, ID: r.ID}, r})
	}
	for _, j := range jobs {
		list = append(list, waiter{store.Key{Kind: store.KindJob, ID: j.job.ID}, j.run})
	}
	slices.SortStableFunc(list, func(a, b waiter) int { return before(a.run, b.run) })
	var keys []store.Key
	for _, w := range list {
		keys = append(keys, w.key)
	}
	return keys, nil
}

type waiter struct {
	key store.Key
	run store.Run
}
