package engine

import (
	"fmt"

	"dstack/controller/engine/jobspec"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// simService makes one of several kinds of services.
func (w *world) simService() *config.Service {
	s := &config.Service{
		Type: config.TypeService, Port: config.PortMapping{ContainerPort: 80}, Commands: []string{"serve"},
		RunBase: config.RunBase{Image: ptr("alpine"), Resources: simInfo(), Priority: ptr(w.pick(3))},
	}
	if w.chance(2) {
		s.Retry = &config.RetryPolicy{Bool: ptr(true)}
	}
	if w.chance(6) {
		s.Schedule = &config.Schedule{Cron: []string{"*/10 * * * *"}}
	}
	w.scale(s)
	return s
}

// scale sets how many replicas a service has, in one group or two.
func (w *world) scale(s *config.Service) {
	count := func(n int) config.Range[int] { return config.Range[int]{Min: &n, Max: &n} }
	if w.chance(3) {
		s.Replicas, s.Commands = nil, nil
		s.Groups = []config.ReplicaGroup{{Replicas: count(1), Resources: simInfo(), Commands: []string{"a"}}}
		if w.chance(2) {
			s.Groups = append(s.Groups, config.ReplicaGroup{Name: ptr("d"), Replicas: count(w.pick(3)), Resources: simInfo(), Commands: []string{"b"}})
		}
		return
	}
	n := w.pick(4)
	if s.Schedule != nil {
		n = max(n, 1)
	}
	s.Groups, s.Replicas, s.Commands = nil, ptr(count(n)), []string{"serve"}
}

// update changes an active run in place.
func (w *world) update() {
	var active []store.Run
	for _, r := range w.runs() {
		if !r.Status.Finished() && !r.Deleted {
			active = append(active, r)
		}
	}
	if len(active) == 0 {
		return
	}
	r := active[w.pick(len(active))]
	spec := r.Spec
	spec.Configuration = spec.Configuration.Clone()
	changed := "configuration.priority"
	spec.Configuration.Base().Priority = ptr(w.pick(3))
	if s := spec.Configuration.Service; s != nil {
		switch w.pick(3) {
		case 0:
			w.scale(s)
			changed = "configuration.replicas"
		case 1:
			s.Env = config.Env{"X": {Value: fmt.Sprint(w.pick(100))}}
			changed = "configuration.env"
		}
	}
	_, err := w.engine.UpdateRun(w.ctx(), RunUpdate{
		ActorID: w.user, RunID: r.ID, Version: r.Version, Spec: spec, Changed: []string{changed},
	})
	w.notef("update %s %s: %v", r.Name, changed, err)
	w.guard("update", err)
}

// checkServices looks at the replicas of services: never more than one too
// many, and at rest none too few unless there is no room.
func (w *world) checkServices(atRest bool) {
	for _, r := range w.runs() {
		if r.Spec.Configuration.Service == nil || r.Status != api.RunRunning {
			continue
		}
		var jobs []store.Job
		err := w.store.Read(w.ctx(), func(tx *store.Tx) (err error) {
			jobs, err = tx.LatestJobsByRun(r.ID)
			return err
		})
		if err != nil {
			w.failf("list replicas: %w", err)
		}
		list := replicasOf(latest(jobs))
		for _, g := range jobspec.ReplicaGroups(r.Spec.Configuration) {
			w.checkGroup(r, g, of(list, g.Name), atRest)
		}
	}
}

func (w *world) checkGroup(r store.Run, g jobspec.ReplicaGroup, list []replica, atRest bool) {
	live, present, full := 0, 0, false
	for _, m := range list {
		if !m.ending() {
			live++
		}
		if m.ready() && m.jobs[0].DeploymentNum == r.DeploymentNum {
			present++
		}
		full = full || lacksCapacity(m.jobs)
	}
	const mostWanted = 3
	if live > mostWanted+1 {
		w.failf("%s has %d replicas in group %s, at most %d are wanted", r.Name, live, g.Name, mostWanted)
	}
	if !atRest || full {
		return
	}
	if present != g.Min || live != g.Min {
		w.failf("%s has %d replicas in group %s, %d of them up to date, wanted are %d", r.Name, live, g.Name, present, g.Min)
	}
}
