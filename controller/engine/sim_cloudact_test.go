package engine

import (
	"fmt"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// createCloudFleet makes one of several kinds of fleets of cloud machines.
func (w *world) createCloudFleet() {
	w.fleets++
	name := fmt.Sprintf("fleet-%d", w.fleets)
	f := config.Fleet{Type: "fleet", Name: &name, Nodes: w.fleetNodes(), Resources: ptr(simInfo())}
	if !w.chance(3) {
		f.Placement = ptr("cluster")
	}
	f.IdleDuration = ptr([]int{-1, 0, 120, 3600}[w.pick(4)]) // the default is days, in which too much happens
	if w.chance(8) {
		f.Regions = []string{"region-1"}
	}
	if w.chance(4) {
		f.Blocks = config.Blocks{Count: 2}
	}
	f.SpotPolicy = w.spotPolicy()
	spec := api.FleetSpec{Configuration: f}
	fleet, err := w.engine.CreateFleet(w.ctx(), NewFleet{ProjectID: w.project, ActorID: &w.user, Spec: spec})
	w.notef("create cloud %s %s: %v", name, nodesText(f.Nodes), err)
	if err == nil {
		w.mayHave(fleet)
	}
	w.guard("create fleet", err)
}

func (w *world) fleetNodes() *config.FleetNodes {
	low := max(w.pick(4)-1, 0)
	n := &config.FleetNodes{Min: low, Target: low}
	if w.chance(5) {
		return n
	}
	most := max(low+w.pick(4), 1)
	n.Target, n.Max = low+w.pick(most-low+1), &most
	return n
}

func nodesText(n *config.FleetNodes) string {
	if n.Max == nil {
		return fmt.Sprintf("%d..", n.Min)
	}
	return fmt.Sprintf("%d..%d target %d", n.Min, *n.Max, n.Target)
}

// spotPolicy is mostly one that leaves the choice, so that runs find fleets.
func (w *world) spotPolicy() *string {
	if !w.chance(4) {
		return ptr(config.SpotPolicyAuto)
	}
	return []*string{nil, ptr(config.SpotPolicySpot), ptr(config.SpotPolicyOnDemand)}[w.pick(3)]
}

// resizeFleet changes how many nodes a fleet may have.
func (w *world) resizeFleet() {
	var fleets []store.Fleet
	err := w.store.Read(w.ctx(), func(tx *store.Tx) (err error) {
		fleets, err = tx.Fleets(store.FleetFilter{OnlyActive: true})
		return err
	})
	if err != nil {
		w.failf("list fleets: %w", err)
	}
	for _, f := range fleets {
		if f.Status != api.FleetActive || !isCloud(&f) || !w.chance(len(fleets)) {
			continue
		}
		spec := f.Spec
		spec.Configuration.Nodes = w.fleetNodes()
		spec.Configuration.Tags = map[string]string{"owner_team": fmt.Sprint(w.pick(3))}
		_, err := w.engine.UpdateFleet(w.ctx(), FleetUpdate{ActorID: w.user, FleetID: f.ID, Version: f.Version, Spec: spec})
		w.notef("resize %s %s: %v", f.Name, nodesText(spec.Configuration.Nodes), err)
		f.Spec = spec
		w.mayHave(f)
		w.guard("resize fleet", err)
		return
	}
}

// submitCloud submits a run that asks for something that only some offers are.
func (w *world) submitCloud() {
	w.submitted++
	spec := w.simSpec(fmt.Sprintf("run-%d", w.pick(6)))
	p := &spec.Configuration.Task.ProfileParams
	p.SpotPolicy = w.spotPolicy()
	if w.chance(2) {
		p.Retry = &config.RetryPolicy{OnEvents: []string{"interruption", "no-capacity"}}
	}
	switch w.pick(16) {
	case 0:
		p.CreationPolicy = ptr(config.CreationReuse)
	case 1:
		p.Regions = []string{"region-2"}
	case 2:
		p.MaxPrice = ptr(0.2)
	case 3:
		p.InstanceTypes = []string{"large", "gpu"}
	}
	if w.chance(3) {
		p.IdleDuration = ptr([]int{-1, 0, 60, 600}[w.pick(4)])
	}
	if t := spec.Configuration.Task; w.volumes > 0 && t.Nodes == nil && t.Groups == nil && w.chance(3) {
		spec.Configuration.Task.Volumes = config.List[config.Mount]{{Names: []string{w.someVolume()}, Path: "/data"}}
	}
	if w.chance(6) {
		s := w.simService()
		s.ProfileParams = *p
		s.Schedule = nil
		spec.Configuration = config.Run{Service: s}
		spec.RunName = ptr(fmt.Sprintf("svc-%d", w.pick(3)))
	}
	run, err := w.engine.SubmitRun(w.ctx(), Submission{ProjectID: w.project, UserID: w.user, Spec: spec})
	w.notef("submit %s: %v", run.Name, err)
	w.guard("submit", err)
}

// cloudAct does one of the things that users of clouds do.
func (w *world) cloudAct() {
	w.arm()
	defer w.disarm()
	switch w.pick(24) {
	case 10:
		w.dropVolume()
	case 9:
		w.createVolume()
	case 0:
		w.stop(true)
	case 1, 2:
		w.stop(false)
	case 3:
		name := fmt.Sprintf("run-%d", w.pick(6))
		w.guard("delete run", w.engine.DeleteRuns(w.ctx(), w.user, w.project, []string{name}))
		w.notef("delete %s", name)
	case 4:
		if w.chance(2) {
			return
		}
		name := fmt.Sprintf("fleet-%d", 1+w.pick(w.fleets))
		err := w.engine.DeleteFleets(w.ctx(), w.user, w.project, []string{name})
		w.notef("delete %s: %v", name, err)
		w.guard("delete fleet", err)
	case 5:
		name, num := fmt.Sprintf("fleet-%d", 1+w.pick(w.fleets)), w.pick(3)
		err := w.engine.DeleteInstances(w.ctx(), w.user, w.project, name, []int{num})
		w.notef("delete %s/%d: %v", name, num, err)
		if err == nil || !isNotFound(err) {
			w.guard("delete instance", err)
		}
	case 6:
		w.resizeFleet()
	case 7:
		w.update()
	case 8:
		if w.fleets < 4 {
			w.createCloudFleet()
		}
	default:
		w.submitCloud()
	}
}
