package engine

import (
	"fmt"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

func simInfo() config.Resources {
	one, gb := 1, 1.0
	return config.Resources{CPU: config.CPU{Count: config.Range[int]{Min: &one}}, Memory: config.Range[float64]{Min: &gb}}
}

// simSpec makes one of several kinds of runs.
func (w *world) simSpec(name string) api.RunSpec {
	task := &config.Task{Type: "task", Commands: []string{"echo"}, RunBase: config.RunBase{Resources: simInfo()}}
	image := "alpine"
	task.Image = &image
	yes := true
	switch w.pick(5) {
	case 0:
		task.Retry = &config.RetryPolicy{Bool: &yes}
	case 1:
		task.Retry = &config.RetryPolicy{OnEvents: []string{"no-capacity"}}
	case 2:
		task.MaxDuration = &config.OffableDuration{Seconds: 600}
		task.StopDuration = &config.OffableDuration{Seconds: 20}
	case 3:
		if w.chance(3) {
			task.Schedule = &config.Schedule{Cron: []string{"*/10 * * * *"}}
		}
	}
	if w.chance(3) {
		w.simNodes(task)
	}
	priority := w.pick(3)
	task.Priority = &priority
	return api.RunSpec{RunName: &name, Configuration: config.Run{Task: task}, Profile: &config.Profile{Name: "default"}}
}

// simNodes makes a task one of two or three nodes.
func (w *world) simNodes(task *config.Task) {
	task.Nodes = ptr(2)
	if w.chance(3) {
		task.Nodes, task.Commands = nil, nil
		task.Groups = []config.NodeGroup{
			{Nodes: 1, Commands: []string{"head"}, Resources: simInfo()}, {Nodes: 1 + w.pick(2), Commands: []string{"work"}, Resources: simInfo()},
		}
	}
	order := []string{config.StartupAny, config.StartupMasterFirst, config.StartupWorkersFirst}
	task.StartupOrder = &order[w.pick(len(order))]
	if w.chance(3) {
		task.StopCriteria = ptr(config.StopMasterDone)
	}
}

func (w *world) submit() {
	w.submitted++
	spec := w.simSpec(fmt.Sprintf("run-%d", w.pick(6)))
	switch w.pick(6) {
	case 0, 1:
		spec.Configuration = config.Run{Service: w.simService()}
		spec.RunName = ptr(fmt.Sprintf("svc-%d", w.pick(3)))
	case 2:
		spec.Configuration = config.Run{DevEnvironment: &config.DevEnvironment{
			Type: config.TypeDevEnvironment, RunBase: spec.Configuration.Task.RunBase,
		}}
	}
	run, err := w.engine.SubmitRun(w.ctx(), Submission{ProjectID: w.project, UserID: w.user, Spec: spec})
	w.notef("submit %s: %v", run.Name, err)
	w.guard("submit", err)
}

func (w *world) createFleet() {
	w.fleets++
	name, cluster := fmt.Sprintf("fleet-%d", w.fleets), "cluster"
	spec := api.FleetSpec{Configuration: config.Fleet{Type: "fleet", Name: &name, Placement: &cluster}}
	var list []NewHost
	if w.fleets > 1 && w.chance(2) {
		// No backend has a machine: the fleet never gets any.
		low, most := w.pick(2), 1+w.pick(2)
		spec.Configuration.Nodes = &config.FleetNodes{Min: low, Target: low + w.pick(most), Max: &most}
		_, err := w.engine.CreateFleet(w.ctx(), NewFleet{ProjectID: w.project, ActorID: &w.user, Spec: spec})
		w.notef("create cloud %s: %v", name, err)
		w.guard("create fleet", err)
		return
	}
	for _, h := range w.hosts {
		list = append(list, NewHost{Hostname: h.name, Access: store.Access{Host: h.name, Port: 22, User: "u"}, Blocks: config.Blocks{Count: h.blocks}})
	}
	_, err := w.engine.CreateFleet(w.ctx(), NewFleet{ProjectID: w.project, ActorID: &w.user, Spec: spec, Hosts: list})
	w.notef("create %s: %v", name, err)
	w.guard("create fleet", err)
}

func (w *world) stop(abort bool) {
	var runs []store.Run
	err := w.store.Read(w.ctx(), func(tx *store.Tx) (err error) {
		runs, err = tx.Runs(store.RunFilter{OnlyActive: true, Page: store.Page{Ascending: true}})
		return err
	})
	if err != nil || len(runs) == 0 {
		return
	}
	run := runs[w.pick(len(runs))]
	err = w.engine.StopRuns(w.ctx(), w.user, w.project, []string{run.Name}, abort)
	w.notef("stop %s abort=%v: %v", run.Name, abort, err)
	if err == nil {
		w.stopped[run.ID] = true
	}
	w.guard("stop", err)
}

// user does one of the things that users do.
func (w *world) act() {
	w.arm()
	switch w.pick(12) {
	case 0:
		w.stop(true)
	case 1, 2:
		w.stop(false)
	case 3:
		name := fmt.Sprintf("run-%d", w.pick(6))
		w.guard("delete run", w.engine.DeleteRuns(w.ctx(), w.user, w.project, []string{name}))
		w.notef("delete %s", name)
	case 5, 6:
		w.update()
	case 4:
		if w.chance(3) {
			name := fmt.Sprintf("fleet-%d", w.fleets)
			err := w.engine.DeleteFleets(w.ctx(), w.user, w.project, []string{name})
			w.notef("delete %s: %v", name, err)
			w.guard("delete fleet", err)
			return
		}
		w.createFleet()
	default:
		w.submit()
	}
	w.disarm()
}
