package engine

import (
	"errors"
	"fmt"
	"time"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

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
	jobs  []store.Job
	seen  backends.Machine
	err   error
	key   func() (string, error)
	newID func() string

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
	case len(zonesLeft(a.err)) > 0:
		// Nothing came of this token, and its cloud takes it for no other zone.
		m.Token, m.Zones, m.AskedAt, m.AskedBy = a.newID(), zonesLeft(a.err), a.now, a.replica
	default:
		i.Tried = tried(i.Tried, m, why, errors.Is(a.err, backends.NoCapacity))
		forgetMachine(i)
	}
	return nil
}

// zonesLeft are the zones that a refusal leaves to ask.
func zonesLeft(err error) []string {
	if known, ok := errors.AsType[*backends.Error](err); ok && known.Kind == backends.NoCapacity {
		return known.Zones
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
