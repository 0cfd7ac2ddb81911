package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
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
	var sold *store.Machine
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
		sold, inst.Machine = inst.Machine, &machine
		a := answerOf{
			now: e.now(), asked: out.Asked, replica: e.cfg.Replica, recovered: e.recoveredAt(), kind: f.Kind, inst: &inst, seen: out.Machine, err: out.Err,
			key: e.projectKey(tx, inst.ProjectID), jobs: jobs,
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
	if f.Kind == DoCreate && sold != nil {
		offer := backends.Offer{Offer: sold.Offer, Family: sold.Family}
		if out.Err == nil {
			e.cfg.Clouds.Given(f.Cloud.ProjectID, f.Cloud.Backend, offer)
		} else {
			e.cfg.Clouds.Refused(f.Cloud.ProjectID, f.Cloud.Backend, offer, cloudError(out.Err))
		}
	}
	return again
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

// answerOf takes a cloud's answer over into an instance.
type answerOf struct {
	now, recovered time.Time
	replica        string
	// asked is when the cloud was asked: what it did not show then proves
	// nothing about now.
	asked time.Time
	kind  EffectKind
	inst  *store.Instance
	// jobs wait for the machine, or run on it.
	jobs []store.Job
	seen backends.Machine
	err  error
	key  func() (string, error)

	changed bool
	events  []store.Event
}

func (a *answerOf) event(text string) {
	a.events = append(a.events, newEvent(text, nil, machineTargets(a.inst, a.jobs)...))
}

// take returns nil if the errand is done, else why it has to be done again.
func (a *answerOf) take() error {
	switch a.kind {
	case DoCreate:
		return a.created()
	case DoRelease:
		return a.released()
	}
	return a.described()
}

// created is the answer to the wish for a machine.
func (a *answerOf) created() error {
	i, m := a.inst, a.inst.Machine
	if a.err != nil {
		return a.refused()
	}
	a.changed = true
	a.note()
	m.CreatedAt, m.DoubtAt, m.DroppedAt, m.Trouble = &a.now, nil, nil, ""
	if i.Status != api.InstancePending {
		return nil // it is to go already, now by its id
	}
	i.StartedAt = &a.now
	i.Type = &api.InstanceType{Name: m.Offer.Instance.Name, Resources: m.Offer.Instance.Resources}
	a.event(fmt.Sprintf("Machine %s created: %s", m.ID, offerText(m)))
	a.events = append(a.events, instanceChanged(i, api.InstanceProvisioning, nil))
	i.Status = api.InstanceProvisioning
	if a.seen.Address != "" {
		return a.addressed()
	}
	return nil
}

// note takes over what the cloud says of the machine's identity.
func (a *answerOf) note() {
	m, s := a.inst.Machine, a.seen
	if s.ID != m.ID && s.ID != "" || s.Zone != m.Zone && s.Zone != "" || s.Data != m.Data && s.Data != "" {
		a.changed = true
	}
	for to, from := range map[*string]string{&m.ID: s.ID, &m.Zone: s.Zone, &m.Data: s.Data} {
		if from != "" {
			*to = from
		}
	}
}

// refused is an answer without a machine. Of one that leaves open whether the
// cloud acted, and of each that follows such a one, nothing may be concluded.
func (a *answerOf) refused() error {
	i, m := a.inst, a.inst.Machine
	switch backends.KindOf(a.err) {
	case backends.Transient:
		a.changed = true
		m.DoubtAt = &a.now
		a.troubled()
		return a.err
	case backends.Throttled, backends.NotReady:
		a.troubled()
		return a.err
	}
	a.changed = true
	why := cloudText(a.err)
	a.event("Machine refused: " + offerText(m) + ": " + why)
	switch {
	case i.Status != api.InstancePending:
		// It is to go; the release finds out whether there is anything.
	case a.doubtful():
		m.DroppedAt, m.Why = &a.now, why
	default:
		i.Tried = tried(i.Tried, m, why)
		forgetMachine(i)
	}
	return nil
}

// doubtful says that a call may have acted of which no answer came.
func (a *answerOf) doubtful() bool {
	m := a.inst.Machine
	return m.DoubtAt != nil || m.AskedBy != a.replica
}

// troubled keeps what a cloud answers, for who looks at the instance.
func (a *answerOf) troubled() {
	m := a.inst.Machine
	if text := cloudText(a.err); text != m.Trouble {
		m.Trouble, a.changed = text, true
		switch a.kind {
		case DoRelease:
			a.event("Machine " + nameOf(m) + " is not gone yet: " + text)
		case DoCreate:
			a.event("Machine " + nameOf(m) + " is not there yet: " + text)
		}
	}
}

func nameOf(m *store.Machine) string {
	if m.ID != "" {
		return m.ID
	}
	return m.Name
}

// described is what the cloud says of a machine that is not to go.
func (a *answerOf) described() error {
	m := a.inst.Machine
	switch {
	case errors.Is(a.err, backends.NotFound) && a.settled():
		a.ended("the cloud knows no such machine", true)
		return nil
	case errors.Is(a.err, backends.NotFound):
		return errAgain
	case a.err != nil:
		a.troubled()
		return a.err
	}
	a.note()
	if m.Trouble != "" {
		m.Trouble, a.changed = "", true
	}
	switch a.seen.State {
	case backends.MachineStopping, backends.MachineGone:
		m.Interrupted = a.seen.Interrupted
		a.ended(a.seen.Reason, a.seen.State == backends.MachineGone)
		return nil
	}
	if a.kind == DoWatch || a.seen.Address == "" {
		return errAgain
	}
	a.changed = true
	return a.addressed()
}

// settled says that when it was asked, the cloud showed what it had made.
func (a *answerOf) settled() bool {
	m := a.inst.Machine
	since := m.AskedAt
	for _, t := range []*time.Time{m.CreatedAt, m.DoubtAt, m.DroppedAt} {
		if t != nil && t.After(since) {
			since = *t
		}
	}
	if m.ID == "" && m.AskedBy != a.replica && a.recovered.After(since) {
		since = a.recovered
	}
	return !a.asked.Before(since.Add(settleTime))
}

// ended is a machine that went without being asked to.
func (a *answerOf) ended(said string, gone bool) {
	m := a.inst.Machine
	m.EndedAt, m.Said, a.changed = &a.now, said, true
	if gone && m.Data == "" { // else its release gives back what the driver made with it
		m.GoneAt = &a.now
	}
}

// addressed makes a machine one that can be connected to. Its host key is
// known: it came with user-data.
func (a *answerOf) addressed() error {
	i, m, s := a.inst, a.inst.Machine, a.seen
	key, err := a.key()
	if err != nil {
		return err
	}
	i.Access = store.Access{Host: s.Address, Port: s.SSHPort, User: loginUser, Keys: []string{key}, Internal: s.Internal}
	i.HostKeys, i.Hostname = []string{m.HostKeyPublic}, s.Address
	if s.Internal != "" {
		i.InternalIP = &s.Internal
	}
	m.AddressAt = &a.now
	a.event(fmt.Sprintf("Machine %s has the address %s", m.ID, s.Address))
	return nil
}

// released is what became of a machine that is to go.
func (a *answerOf) released() error {
	m := a.inst.Machine
	var failed deleteError
	switch {
	case errors.As(a.err, &failed) || a.err != nil && !errors.Is(a.err, backends.NotFound):
		a.troubled()
		return a.err
	case a.err == nil && a.seen.State != backends.MachineGone:
		a.note() // one that was known by its token only is deleted by its id next
		return errAgain
	case a.err != nil && !a.settled():
		return errAgain
	}
	m.GoneAt, a.changed = &a.now, true
	if m.ID != "" {
		a.event("Machine " + m.ID + " is gone")
	}
	return nil
}

// cloudError is a cloud's answer without our own steps.
func cloudError(err error) error {
	if known, ok := errors.AsType[*backends.Error](err); ok {
		return known
	}
	return err
}

// cloudText is a cloud's answer in one sentence.
func cloudText(err error) string { return cloudError(err).Error() }

// driverOf is the driver of a host's accelerators; nil if it has none.
func driverOf(h hostapi.Host) *api.GPUDriverInfo {
	if h.GPUDriver == "" {
		return nil
	}
	vendor := h.GPUVendor
	return &api.GPUDriverInfo{Vendor: &vendor, Version: h.GPUDriver}
}
