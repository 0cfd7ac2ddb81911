package engine

import (
	"context"
	"slices"

	"dstack/controller/hosts"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

// rented is what is to be done on the instance's host because it is a machine
// of a cloud; nil for other hosts.
func rented(i *store.Instance) *hosts.Rented {
	m := i.Machine
	if m == nil {
		return nil
	}
	return &hosts.Rented{Cloud: m.Backend, Spot: m.Offer.Instance.Resources.Spot, FirstKey: m.HostKeyPublic}
}

// HostKeyPinned stores which host keys the host may show. Once the first one of
// a machine is not among them, nobody needs it any more.
func (e *Engine) HostKeyPinned(ctx context.Context, instanceID string, keys []string) error {
	return e.observe(ctx, instanceID, "store host keys", func(_ *store.Tx, s *scene) error {
		if slices.Equal(s.inst.HostKeys, keys) {
			return nil
		}
		s.inst.HostKeys, s.instDirty = keys, true
		if m := s.inst.Machine; m != nil && m.HostKey != "" && !slices.Contains(keys, m.HostKeyPublic) {
			forgetful := *m
			forgetful.HostKey = ""
			s.inst.Machine = &forgetful
			s.event("The machine made a host key of its own", instanceTarget(&s.inst))
		}
		return nil
	})
}

// heed tells users what the cloud announced about their machine, once.
func heed(s *scene, n *hostapi.Notice) {
	if before := noticeOf(&s.inst); n == nil || before != nil && before.Kind == n.Kind {
		return
	}
	targets := []store.EventTarget{instanceTarget(&s.inst)}
	for k := range s.jobs {
		if j := &s.jobs[k]; !j.Status.Finished() {
			targets = append(targets, jobTarget(j))
		}
	}
	s.events = append(s.events, newEvent(noticeText(n), nil, targets...))
}

func noticeOf(i *store.Instance) *hostapi.Notice {
	if i.Info == nil {
		return nil
	}
	return i.Info.Notice
}

func noticeText(n *hostapi.Notice) string {
	switch {
	case n.Kind == hostapi.NoticeRebalance:
		return "The cloud says that it is likely to take the spot machine back"
	case n.Ends.IsZero():
		return "The cloud takes the spot machine back"
	}
	return "The cloud takes the spot machine back at " + n.Ends.UTC().Format("15:04:05 MST")
}

// announced ends a machine that the cloud is about to take, once no job is on
// it: it takes no others.
func (v instanceView) announced(d *decision) bool {
	n := noticeOf(v.inst)
	if n == nil || n.Kind != hostapi.NoticeInterruption || len(v.jobs) > 0 || v.foreign() {
		return false
	}
	v.leave(d, api.ReasonInstanceUnreachableTooLong, noticeText(n))
	return true
}
