package engine

import (
	"errors"
	"slices"
	"strings"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// check looks at what can be seen from outside after every step.
func (w *world) check() {
	for id, at := range w.starts {
		if n := len(at); n > 1 {
			w.failf("job %s ran %d times", short(id), n)
		}
	}
	for _, h := range w.hosts {
		if n := len(h.live()); n > h.blocks {
			w.failf("%s runs %d tasks on %d blocks", h.name, n, h.blocks)
		}
	}
}

// checkRows compares the rows with each other.
func (w *world) checkRows() {
	err := w.store.Read(w.ctx(), func(tx *store.Tx) error {
		instances, err := tx.Instances(store.InstanceFilter{})
		if err != nil {
			return err
		}
		for _, i := range instances {
			jobs, err := tx.JobsOnInstance(i.ID)
			if err != nil {
				return err
			}
			busy := 0
			for _, j := range jobs {
				busy += j.Blocks
				if j.Status.Finished() || j.Status == api.JobSubmitted && !mayBeClaimed(&i) {
					w.failf("job %s is %s and holds an instance", short(j.ID), j.Status)
				}
			}
			if busy != i.BusyBlocks {
				w.failf("%s: %d blocks busy, its jobs hold %d", i.Name, i.BusyBlocks, busy)
			}
			if i.BusyBlocks > 0 && i.Status != api.InstanceBusy && !mayBeClaimed(&i) || i.Status == api.InstanceBusy && i.BusyBlocks == 0 {
				w.failf("%s is %s with %d busy blocks", i.Name, i.Status, i.BusyBlocks)
			}
			if i.TotalBlocks > 0 && i.BusyBlocks > i.TotalBlocks {
				w.failf("%s: %d of %d blocks busy", i.Name, i.BusyBlocks, i.TotalBlocks)
			}
		}
		return nil
	})
	if err != nil {
		w.failf("check rows: %w", err)
	}
}

// checkOrder looks whether a container that starts had to wait for others.
func (w *world) checkOrder(id string) {
	err := w.store.Read(w.ctx(), func(tx *store.Tx) error {
		j, err := tx.Job(id)
		if errors.Is(err, store.ErrNotFound) {
			return nil // its run was deleted before the host heard of it
		}
		if err != nil {
			return err
		}
		run, err := tx.Run(j.RunID)
		if err != nil {
			return err
		}
		siblings, err := tx.LatestJobsByRun(j.RunID)
		order := run.Spec.Params().StartupOrder
		for _, s := range siblings {
			before := order != nil && s.ReplicaNum == j.ReplicaNum && s.SubmissionNum == j.SubmissionNum &&
				(*order == config.StartupMasterFirst && j.JobNum > 0 && s.JobNum == 0 || *order == config.StartupWorkersFirst && j.JobNum == 0 && s.JobNum > 0)
			if before && len(w.starts[s.ID]) == 0 {
				w.failf("%s starts before %s, startup_order is %s", j.Spec.JobName, s.Spec.JobName, *order)
			}
		}
		return err
	})
	if err != nil {
		w.failf("check order: %w", err)
	}
}

// checkRest looks at a world in which nothing happens any more: jobs run, or
// are over.
func (w *world) checkRest() {
	for _, r := range w.runs() {
		var jobs []store.Job
		err := w.store.Read(w.ctx(), func(tx *store.Tx) (err error) {
			jobs, err = tx.LatestJobsByRun(r.ID)
			return err
		})
		if err != nil {
			w.failf("check rest: %w", err)
		}
		for _, j := range jobs {
			if j.InstanceID != nil && w.leftAlone(*j.InstanceID) {
				continue
			}
			if !j.Status.Finished() && j.Status != api.JobRunning && !w.awaitsVolume(j.ID) {
				w.failf("%s rests in %s", j.Spec.JobName, j.Status)
			}
		}
	}
}

// checkNodes looks at how runs of several nodes ended.
func (w *world) checkNodes(run store.Run, jobs []*store.Job) {
	places := map[string]bool{}
	for _, j := range jobs {
		if j.UsedInstanceID != nil && places[*j.UsedInstanceID] {
			w.failf("two nodes of %s were on one host", run.Name)
		}
		if j.UsedInstanceID != nil {
			places[*j.UsedInstanceID] = true
		}
	}
	if len(places) > 0 && len(places) < len(jobs) {
		w.failf("only %d of %d nodes of %s got a place", len(places), len(jobs), run.Name)
	}
	if run.Spec.Configuration.Service != nil {
		return // one that was scaled down may have ended replicas
	}
	criteria := run.Spec.Params().StopCriteria
	masterOnly := criteria != nil && *criteria == config.StopMasterDone
	for _, j := range jobs {
		if run.Status == api.RunDone && j.Status != api.JobDone && (j.JobNum == 0 || !masterOnly) {
			w.failf("run %s is done, its node %d is %s", run.Name, j.JobNum, j.Status)
		}
	}
}

// checkEnd looks at a world in which all runs ended.
func (w *world) checkEnd() {
	w.checkRows()
	for _, r := range w.runs() {
		if !r.Status.Finished() {
			w.failf("run %s is stuck in %s", r.Name, r.Status)
		}
		if w.stopped[r.ID] && r.Status != api.RunTerminated {
			w.failf("run %s was stopped and is %s", r.Name, r.Status)
		}
	}
	alone := map[string]bool{}
	for _, i := range w.instances() {
		if i.Machine != nil {
			alone[i.Machine.Token] = w.leftAlone(i.ID)
		}
	}
	for _, h := range w.hosts {
		// Nobody reaches a machine that the database lost, or that is another
		// server's, until it is ended.
		unreached := h.machine != nil && (w.lost[h.machine.Token] || alone[h.machine.Token])
		if len(h.tasks) > 0 && !h.dead && !unreached {
			w.failf("%d tasks are left on %s", len(h.tasks), h.name)
		}
	}
	w.checkEvents()
	w.checkJobs()
}

// checkJobs looks at the submissions of runs that all ended.
func (w *world) checkJobs() {
	var ids []string
	runs := w.runs()
	for _, r := range runs {
		ids = append(ids, r.ID)
	}
	err := w.store.Read(w.ctx(), func(tx *store.Tx) error {
		jobs, err := tx.JobsByRuns(ids, 0)
		// One that lacked capacity is kept for one resubmission.
		superseded := map[string]int{}
		for i := range jobs {
			j := &jobs[i]
			if !j.Status.Finished() {
				w.failf("job %s is stuck in %s", short(j.ID), j.Status)
			}
			if j.Provisioning == nil && lacksCapacity([]*store.Job{j}) {
				superseded[j.Spec.JobName+j.RunID]++
			}
		}
		for _, r := range runs {
			for _, replica := range replicasOf(latest(slices.DeleteFunc(slices.Clone(jobs), func(j store.Job) bool { return j.RunID != r.ID }))) {
				w.checkNodes(r, replica.jobs)
			}
		}
		for id, n := range superseded {
			if n > 2 {
				w.failf("%d submissions of %s that lacked capacity are left", n, id)
			}
		}
		return err
	})
	if err != nil {
		w.failf("check jobs: %w", err)
	}
}

// checkGone looks at a world in which all fleets were deleted.
func (w *world) checkGone() {
	err := w.store.Read(w.ctx(), func(tx *store.Tx) error {
		instances, err := tx.Instances(store.InstanceFilter{})
		if err != nil {
			return err
		}
		for _, h := range w.hosts {
			if h.installed && h.machine == nil && !slices.ContainsFunc(instances, func(i store.Instance) bool {
				return i.Hostname == h.name && i.ReasonMessage != nil // it says that this was given up
			}) {
				w.failf("the shim is left on %s", h.name)
			}
		}
		fleets, err := tx.Fleets(store.FleetFilter{OnlyActive: true})
		if err != nil {
			return err
		}
		for _, f := range fleets {
			w.failf("fleet %s is stuck in %s", f.Name, f.Status)
		}
		keys, err := tx.AllWork()
		if err == nil && len(keys) > 0 {
			w.failf("%s %s still has work", keys[0].Kind, short(keys[0].ID))
		}
		return err
	})
	if err != nil {
		w.failf("check gone: %w", err)
	}
}

// legal are the changes of status that may happen.
func legal() map[string][]string {
	return map[string][]string{
		"Run": {
			"PENDING SUBMITTED", "PENDING TERMINATING", "SUBMITTED PROVISIONING", "SUBMITTED RUNNING",
			"SUBMITTED TERMINATING", "SUBMITTED PENDING", "PROVISIONING RUNNING", "PROVISIONING TERMINATING",
			"PROVISIONING PENDING", "RUNNING TERMINATING", "RUNNING PENDING",
			"TERMINATING TERMINATED", "TERMINATING FAILED", "TERMINATING DONE", "TERMINATING PENDING",
		},
		"Job": {
			"SUBMITTED PROVISIONING", "SUBMITTED TERMINATING", "PROVISIONING PULLING", "PROVISIONING TERMINATING",
			"PULLING RUNNING", "PULLING TERMINATING", "RUNNING TERMINATING", "TERMINATING TERMINATED",
			"TERMINATING ABORTED", "TERMINATING FAILED", "TERMINATING DONE",
		},
		"Instance": {
			"PENDING IDLE", "PENDING TERMINATING", "PENDING TERMINATED", "IDLE BUSY", "BUSY IDLE",
			"IDLE TERMINATING", "TERMINATING TERMINATED",
			"PENDING PROVISIONING", "PROVISIONING IDLE", "PROVISIONING BUSY", "PROVISIONING TERMINATING", "BUSY TERMINATING",
		},
		"Fleet":  {"ACTIVE TERMINATING", "TERMINATING TERMINATED"},
		"Volume": {"SUBMITTED PROVISIONING", "SUBMITTED FAILED", "PROVISIONING ACTIVE", "PROVISIONING FAILED"},
	}
}

// mayBeClaimed says that a job may hold an instance that does not serve: a
// machine of a cloud that is being made for it, or of which it does not know
// yet that it goes.
func mayBeClaimed(i *store.Instance) bool { return i.Wish != nil && i.Status != api.InstanceIdle }

// checkEvents follows the history of every resource: each change starts
// where the one before ended, is legal, and is told once.
func (w *world) checkEvents() {
	var events []store.Event
	err := w.store.Read(w.ctx(), func(tx *store.Tx) (err error) {
		events, err = tx.Events(store.EventFilter{Page: store.Page{Ascending: true}})
		return err
	})
	if err != nil {
		w.failf("read events: %w", err)
	}
	// Within one instant, ids tell the order.
	slices.SortStableFunc(events, func(a, b store.Event) int { return strings.Compare(a.ID, b.ID) })
	at := map[string]string{}
	for _, ev := range events {
		id := ev.Targets[0].ID
		what, rest, found := strings.Cut(ev.Message, " status changed ")
		if !found {
			if _, st, ok := strings.Cut(ev.Message, "Status: "); ok && at[id] == "" {
				at[id] = st
			}
			if _, st, ok := strings.Cut(ev.Message, "Instance status: "); ok {
				at[ev.Targets[1].ID] = st
			}
			continue
		}
		change, _, _ := strings.Cut(rest, ".")
		change, _, _ = strings.Cut(change, " (")
		from, to, _ := strings.Cut(change, " -> ")
		if at[id] != from {
			w.failf("%s %s: %q, but it was %s", what, short(id), ev.Message, at[id])
		}
		if !slices.Contains(legal()[what], from+" "+to) {
			w.failf("%s %s: illegal change %q", what, short(id), ev.Message)
		}
		at[id] = to
	}
}
