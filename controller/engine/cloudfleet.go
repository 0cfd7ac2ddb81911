package engine

import (
	"fmt"
	"slices"
	"time"

	"dstack/controller/backends"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// mostAttempts is how often in a row a cloud fleet is brought to its size.
const mostAttempts = 15

// consolidateAfter is how long a fleet waits before the next attempt (spec:
// orchestration.md 8.3).
func consolidateAfter(attempts int) time.Duration {
	delays := []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute}
	return delays[min(attempts, len(delays)-1)]
}

// isCloud says whether a fleet is made of machines of clouds.
func isCloud(f *store.Fleet) bool { return f.Spec.Configuration.Nodes != nil }

// consolidate brings a cloud fleet to its size: what ended goes, what is
// missing is created, what is too much is taken out of service. Each attempt
// that finds something to do waits longer than the one before.
func (v fleetView) consolidate(d *decision) {
	f := v.fleet
	if f.Attempts >= mostAttempts || f.Attempts == 0 && !v.unbalanced() {
		return
	}
	since := f.CreatedAt
	if f.AttemptedAt != nil {
		since = *f.AttemptedAt
	}
	if due := since.Add(consolidateAfter(f.Attempts)); v.now.Before(due) {
		d.at(due)
		return
	}
	f.AttemptedAt = &v.now
	d.saveFleet(f)
	if !v.unbalanced() {
		f.Attempts = 0
		return
	}
	f.Attempts++
	v.balance(d)
	if f.Attempts == mostAttempts {
		d.event(fmt.Sprintf("Fleet consolidation stopped after %d attempts. Update the fleet to resume", mostAttempts), fleetTarget(f))
		return
	}
	d.at(v.now.Add(consolidateAfter(f.Attempts)))
}

// live counts the instances that are in service or will be.
func (v fleetView) live() int {
	n := 0
	for i := range v.instances {
		if !ended(&v.instances[i]) {
			n++
		}
	}
	return n
}

func ended(i *store.Instance) bool {
	return i.Status == api.InstanceTerminating || i.Status == api.InstanceTerminated
}

// wakeUnused lets machines look that were idle for as long as they may be, and
// stayed because the fleet had no more than it must have.
func (v fleetView) wakeUnused(d *decision) {
	if v.live() <= v.fleet.Spec.Configuration.Nodes.Min {
		return
	}
	for n := range v.instances {
		i := &v.instances[n]
		if due := unusedUntil(i); !due.IsZero() && !v.now.Before(due) {
			d.wake(store.KindInstance, i.ID)
		}
	}
}

func (v fleetView) unbalanced() bool {
	nodes, n := v.fleet.Spec.Configuration.Nodes, v.live()
	return n < nodes.Min || nodes.Max != nil && n > *nodes.Max ||
		slices.ContainsFunc(v.instances, func(i store.Instance) bool {
			return i.Status == api.InstanceTerminated || v.mismatch(&i) != ""
		})
}

// mismatch says why a machine that nobody uses is none that its fleet would
// rent as it is configured now; empty if it is one.
func (v fleetView) mismatch(i *store.Instance) string {
	if !v.unused(i) {
		return ""
	}
	_, refused := offers.Rent(offers.Request{}, *v.fleet, []backends.Offer{{Offer: i.Machine.Offer}})
	if len(refused) == 0 {
		return ""
	}
	return refused[0].Text()
}

// unused says that there is a machine of ours that nobody uses or waits for.
func (v fleetView) unused(i *store.Instance) bool {
	unused := i.Status == api.InstanceIdle || i.Status == api.InstanceProvisioning && (i.Wish == nil || i.Wish.JobID == "")
	return i.Machine != nil && unused && i.BusyBlocks == 0 && !foreign(i, v.serverID)
}

func (v fleetView) balance(d *decision) {
	nodes := v.fleet.Spec.Configuration.Nodes
	v.dropMismatches(d)
	if v.splits() && v.fleet.Attempts < mostAttempts {
		v.moveOn(d)
	}
	surplus := 0
	if nodes.Max != nil {
		surplus = v.live() - *nodes.Max
	}
	var kept []store.Instance
	for n := range v.instances {
		i := &v.instances[n]
		switch {
		case i.Status == api.InstanceTerminated:
			i.Deleted = true
			d.saveInstance(i)
			continue
		case i.Status == api.InstanceIdle && surplus > 0 && !foreign(i, v.serverID):
			surplus--
			i.Reason = new(api.ReasonInstanceMaxInstances)
			setInstance(d, i, api.InstanceTerminating)
			d.wake(store.KindInstance, i.ID)
		}
		kept = append(kept, *i)
	}
	for _, num := range freeNums(kept, max(nodes.Min-v.live(), 0)) {
		i := newNode(v.fleet, num, v.newID(), v.now)
		d.newInstances = append(d.newInstances, i)
		d.event("Instance created to meet target fleet node count. Status: "+upper(i.Status), instanceTarget(i))
		d.wake(store.KindInstance, i.ID)
	}
}

// defaultIdle is how long a machine that the fleet itself is to have may be
// unused (orchestration.md 8.1).
const defaultIdle = 3 * 24 * time.Hour

// fleetWish is what the machines of a fleet shall be: its configuration says it.
func fleetWish(f *store.Fleet) store.Wish {
	w := store.Wish{IdleSeconds: int(defaultIdle / time.Second)}
	if idle := f.Spec.Configuration.IdleDuration; idle != nil {
		w.IdleSeconds = *idle
	}
	return w
}

// dropMismatches takes machines out of service that are none of the fleet's kind
// any more.
func (v fleetView) dropMismatches(d *decision) {
	for n := range v.instances {
		i := &v.instances[n]
		if why := v.mismatch(i); why != "" {
			i.Reason, i.ReasonMessage = new(api.ReasonInstanceSpecMismatch), &why
			setInstance(d, i, api.InstanceTerminating)
			d.wake(store.KindInstance, i.ID)
		}
	}
}

// newNode is a machine of a cloud fleet that has still to be found.
func newNode(f *store.Fleet, num int, id string, now time.Time) *store.Instance {
	wish := fleetWish(f)
	return &store.Instance{
		Wish: &wish,
		ID:   id, ProjectID: f.ProjectID, FleetID: f.ID, Name: fmt.Sprintf("%s-%d", f.Name, num), Num: num,
		Status: api.InstancePending, CreatedAt: now, LastProcessedAt: now, TotalBlocks: 1, BlocksWanted: f.Spec.Configuration.Blocks,
	}
}

// addNodes creates the first machines of a cloud fleet.
func (e *Engine) addNodes(tx *store.Tx, f *store.Fleet) error {
	now := e.now()
	for num := range f.Spec.Configuration.Nodes.Target {
		i := newNode(f, num, e.cfg.NewID(), now)
		if err := tx.InsertInstance(i); err != nil {
			return err
		}
		event := newEvent("Instance created on fleet submission. Status: "+upper(i.Status), nil, instanceTarget(i))
		if err := e.record(tx, now, []store.Event{event}); err != nil {
			return err
		}
		if err := tx.Wake(now, store.Key{Kind: store.KindInstance, ID: i.ID}); err != nil {
			return err
		}
	}
	return nil
}
