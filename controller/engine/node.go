package engine

import (
	"cmp"
	"strings"
	"time"

	"dstack/cloudinit"
	"dstack/controller/backends"
	"dstack/controller/market"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	// bootLimit is how long a machine may take from the cloud's answer until it
	// takes jobs, unless the server is told otherwise (shared spec, backends.md 1.5).
	bootLimit = 10 * time.Minute
	// bootGrace is how long a machine has at least since the server began, which
	// may have been away when it came up.
	bootGrace = 2 * time.Minute
	// askLimit is how long one offer is asked for while the cloud gives no clear
	// answer.
	askLimit = 10 * time.Minute
	// lostMachine is how long a machine may be unreachable (orchestration.md 8.1).
	lostMachine = 20 * time.Minute
	// settleTime is how long a cloud may take to show what it made: before that,
	// "there is no such machine" proves nothing.
	settleTime = time.Minute
	// offersAgain is when to look again for offers that did not arrive.
	offersAgain = 30 * time.Second
)

// cloudView is what a decision about a machine of a cloud looks at besides.
type cloudView struct {
	serverID  string
	bootLimit time.Duration
	mostTries int
	shimFor   func(cpu string) *cloudinit.Download
	newID     func() string
	newKey    func() (private, public string, err error)
	// recovered is when this server began: whatever was asked for before may
	// have been asked for already.
	recovered time.Time
	// replica names this process.
	replica string
	project store.Project
	fleet   *store.Fleet
	// others are the fleet's other instances that are not deleted; only where
	// the decision depends on them.
	others []store.Instance
	// volumes are those that the job needs for which it is made, held the ids of
	// those that are attached to it.
	volumes *offers.Volumes
	held    []string
	// shelves are what the project's backends offer; only for one that looks for
	// a machine.
	shelves []market.Shelf
}

// decideNode is decideInstance for a machine of a cloud: it is rented, comes
// up, is kept as long as it is needed, and goes only when the cloud says so.
func decideNode(v instanceView) *decision {
	d := &decision{}
	i := v.inst
	if i.Status == api.InstancePending {
		v.rent(d)
	}
	switch i.Status {
	case api.InstanceProvisioning:
		v.boot(d)
	case api.InstanceIdle, api.InstanceBusy:
		v.keep(d)
	}
	if i.Status == api.InstanceTerminating {
		v.release(d)
	}
	if i.Status == api.InstanceTerminated {
		d.do(v.effect(DoForget))
		d.final = true
	}
	return d
}

// errand is an effect on the instance's machine.
func (v instanceView) errand(kind EffectKind) Effect {
	f, m := v.effect(kind), v.inst.Machine
	f.Cloud = Errand{
		ProjectID: v.inst.ProjectID, Backend: m.Backend,
		Ref: backends.Ref{ID: m.ID, Token: m.Token, Region: m.Region, Data: m.Data},
	}
	return f
}

// boot waits until a machine has an address and its shim answers.
func (v instanceView) boot(d *decision) {
	i, m := v.inst, v.inst.Machine
	deadline := i.StartedAt.Add(v.bootLimit)
	if grace := v.recovered.Add(bootGrace); deadline.Before(grace) && v.recovered.After(*i.StartedAt) {
		deadline = grace
	}
	connected := i.HostID != "" && i.UnreachableSince == nil && !v.foreign()
	switch {
	case m.EndedAt != nil:
		v.leave(d, api.ReasonInstanceError, "The machine ended before it was ready"+because(m.Said))
	case unwanted(i) && !v.foreign() && !v.indispensable():
		d.saveFleet(v.fleet) // as when one goes that idled
		v.leave(d, api.ReasonInstanceJobFinished, "")
	case connected && fit(i.Info.Problem):
		v.takeUp(d)
	case connected && i.Info.Problem.Permanent:
		v.leave(d, api.ReasonInstanceError, i.Info.Problem.Error())
	case !v.now.Before(deadline) && !v.foreign():
		v.leave(d, api.ReasonInstanceProvisioningTimeout, "The machine was not ready within "+secondsText(v.bootLimit)+"s"+because(v.trouble()))
	case !v.now.Before(deadline):
		v.forsake(d)
	case m.AddressAt == nil:
		d.do(v.errand(DoDescribe))
	default:
		d.do(v.effect(DoEnsure))
		if i.UnreachableSince != nil {
			d.do(v.errand(DoWatch))
		}
	}
	if i.Status == api.InstanceProvisioning && v.now.Before(deadline) {
		d.at(deadline)
	}
}

// forsake no longer counts on a foreign machine that did not come up in time:
// nobody waits for it. All that is awaited of it is that it ends, or answers.
func (v instanceView) forsake(d *decision) {
	if v.inst.ReasonMessage == nil {
		text := "The machine was not ready within " + secondsText(v.bootLimit) + "s; the server that made it, of whose database this is a copy, looks after it"
		v.inst.ReasonMessage = &text
		d.saveInstance(v.inst)
		d.released = v.inst.ProjectID
	}
	if v.inst.Machine.AddressAt != nil {
		d.do(v.effect(DoEnsure))
	}
	d.do(v.errand(DoWatch))
}

// trouble is what is known to be in the way of a machine that comes up.
func (v instanceView) trouble() string {
	return cmp.Or(deref(v.inst.ReasonMessage), v.inst.Machine.Problem, v.inst.Machine.Trouble)
}

// takeUp takes a machine into service.
func (v instanceView) takeUp(d *decision) {
	i := v.inst
	total, err := offers.SplitBlocks(i.BlocksWanted, i.Type.Resources)
	if err != nil {
		v.leave(d, api.ReasonInstanceError, err.Error())
		return
	}
	i.TotalBlocks, i.GPUDriver = total, driverOf(i.Info.Host)
	i.Machine.ReadyAt = &v.now
	to := api.InstanceIdle
	if i.BusyBlocks > 0 {
		to = api.InstanceBusy
	}
	setInstance(d, i, to)
	v.wakeJobs(d)
	d.wake(store.KindInstance, i.ID) // to see for how long it may be idle
	d.released = i.ProjectID
	d.do(v.effect(DoEnsure))
}

// keep looks after a machine in service.
func (v instanceView) keep(d *decision) {
	i, m := v.inst, v.inst.Machine
	switch {
	case m.EndedAt != nil:
		v.leave(d, api.ReasonInstanceUnreachableTooLong, v.lossText())
		return
	case v.announced(d):
		return
	case i.UnreachableSince != nil:
		if v.lost(d) {
			return
		}
		d.do(v.errand(DoWatch))
	case v.unused(d):
		return
	}
	d.do(v.effect(DoEnsure))
	v.clean(d)
}

// lost ends a machine in service that was unreachable for too long.
func (v instanceView) lost(d *decision) bool {
	if v.foreign() {
		return false
	}
	deadline := v.inst.UnreachableSince.Add(lostMachine)
	if v.recovered.After(*v.inst.UnreachableSince) {
		deadline = v.recovered.Add(lostMachine)
	}
	if v.now.Before(deadline) {
		d.at(deadline)
		return false
	}
	v.leave(d, api.ReasonInstanceUnreachableTooLong, "The machine was unreachable for "+secondsText(lostMachine)+"s"+because(v.trouble()))
	return true
}

// foreign says that another server looks after the machine, or did: this
// database was copied, or its host took the connection of a copy. Until the
// host takes ours, only a person ends it.
func (v instanceView) foreign() bool { return foreign(v.inst, v.serverID) }

func foreign(i *store.Instance, serverID string) bool {
	return i.Machine != nil && i.Machine.Keeper != serverID
}

// lossText says why a machine in service is gone.
func (v instanceView) lossText() string {
	m := v.inst.Machine
	if m.Interrupted {
		return "The cloud took the spot machine back" + because(m.Said)
	}
	return "The machine ended, and nobody here asked for that" + because(m.Said)
}

// unused ends a machine that was idle for as long as it may be, as long as its
// fleet has more than it must have.
func (v instanceView) unused(d *decision) bool {
	due := unusedUntil(v.inst)
	if due.IsZero() || len(v.jobs) > 0 || v.foreign() {
		return false
	}
	if v.now.Before(due) {
		d.at(due)
		return false
	}
	if v.indispensable() {
		return false // the fleet wakes it when it has more
	}
	// Two that go at the same time would each count on the other one.
	d.saveFleet(v.fleet)
	v.leave(d, api.ReasonInstanceIdleTimeout, "")
	return true
}

// indispensable says that the fleet has no more machines than it must have.
func (v instanceView) indispensable() bool {
	live := 1
	for n := range v.others {
		if !ended(&v.others[n]) {
			live++
		}
	}
	nodes := v.fleet.Spec.Configuration.Nodes
	return nodes != nil && live <= nodes.Min
}

// unusedUntil is when an idle machine has been unused for as long as it may be;
// zero for never.
func unusedUntil(i *store.Instance) time.Time {
	if i.Status != api.InstanceIdle || i.IdleSince == nil || i.Wish == nil || i.Wish.IdleSeconds < 0 {
		return time.Time{}
	}
	return i.IdleSince.Add(time.Duration(i.Wish.IdleSeconds) * time.Second)
}

// leave takes a machine out of service; it stays until it is gone.
func (v instanceView) leave(d *decision, reason api.InstanceReason, message string) {
	i := v.inst
	i.Reason, i.ReasonMessage = &reason, nil
	if message != "" {
		i.ReasonMessage = &message
	}
	setInstance(d, i, api.InstanceTerminating)
	v.wakeJobs(d)
	d.wake(store.KindFleet, i.FleetID)
	d.released = i.ProjectID
}

// wakeJobs lets the jobs look that hold the instance, or wait for it.
func (v instanceView) wakeJobs(d *decision) {
	for n := range v.jobs {
		d.wake(store.KindJob, v.jobs[n].ID)
	}
	if w := v.inst.Wish; w != nil && w.JobID != "" {
		d.wake(store.KindJob, w.JobID)
	}
}

// release ends a machine at its cloud, for as long as that takes.
func (v instanceView) release(d *decision) {
	i, m := v.inst, v.inst.Machine
	if m != nil && m.GoneAt == nil {
		d.do(v.effect(DoForget))
		d.do(v.errand(DoRelease))
		return
	}
	i.FinishedAt, i.Deleted, i.Uninstalled = &v.now, true, true
	setInstance(d, i, api.InstanceTerminated)
	v.wakeJobs(d)
	for _, id := range v.held {
		d.wake(store.KindVolume, id)
	}
	d.wake(store.KindFleet, i.FleetID)
}

// because appends a cause to a sentence.
func because(cause string) string {
	if cause == "" {
		return ""
	}
	return ": " + strings.TrimSuffix(cause, ".")
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
