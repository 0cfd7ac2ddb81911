package engine

import (
	"context"
	"fmt"
	"time"

	"dstack/controller/store"
)

// HostReached tells once that a machine of a cloud lets us in.
func (e *Engine) HostReached(ctx context.Context, instanceID string) error {
	return e.observe(ctx, instanceID, "store that SSH answers", func(_ *store.Tx, s *scene) error {
		m := s.inst.Machine
		if m == nil || m.ReachedAt != nil {
			return nil
		}
		seen := *m
		seen.ReachedAt = &s.now
		s.inst.Machine, s.instDirty = &seen, true
		s.step("SSH of machine "+m.ID+" answers", m.AddressAt)
		return nil
	})
}

// shimAnswers tells once that a machine's shim is there.
func shimAnswers(s *scene) {
	m := s.inst.Machine
	if m == nil || m.ShimAt != nil {
		return
	}
	seen := *m
	seen.ShimAt = &s.now
	s.inst.Machine, s.instDirty = &seen, true
	s.step("The shim on machine "+m.ID+" answers", m.ReachedAt)
}

// step tells of a step on the way of a machine into service, and how long it
// took, to all who wait for it.
func (s *scene) step(what string, since *time.Time) {
	if since != nil {
		what += fmt.Sprintf(" after %.1fs", s.now.Sub(*since).Seconds())
	}
	s.events = append(s.events, newEvent(what, nil, machineTargets(&s.inst, s.jobs)...))
}

// machineTargets are an instance and the jobs that have it.
func machineTargets(i *store.Instance, jobs []store.Job) []store.EventTarget {
	targets := []store.EventTarget{instanceTarget(i)}
	for n := range jobs {
		targets = append(targets, jobTarget(&jobs[n]))
	}
	return targets
}
