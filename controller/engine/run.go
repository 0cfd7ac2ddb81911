package engine

import (
	"slices"
	"time"

	"dstack/controller/engine/jobspec"
	"dstack/controller/engine/status"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// runView is what a decision about a run looks at.
type runView struct {
	now   time.Time
	newID func() string
	opts  jobspec.Options
	run   *store.Run
	// jobs are all submissions, ordered by replica, number and submission.
	jobs []store.Job

	// Only for a run that waits for capacity: the fleets, and what the runs
	// ask for that come first.
	pools   []offers.Pool
	ahead   [][]offers.Request
	noLocal bool
	disks   disks
}

// decideRun derives the state of a run from those of its jobs, and makes
// jobs when it is time.
func decideRun(v runView) *decision {
	d := &decision{}
	r := v.run
	if r.Status.Finished() {
		d.final = true
		return d
	}
	if r.Stop != nil {
		v.stop(d)
	}
	switch r.Status {
	case api.RunPending:
		v.pending(d)
	case api.RunSubmitted, api.RunProvisioning, api.RunRunning:
		v.active(d)
	}
	if r.Status == api.RunTerminating {
		v.terminate(d)
	}
	return d
}

// stop makes the user's wish the reason, whatever it was before.
func (v runView) stop(d *decision) {
	r := v.run
	if r.Reason == nil || *r.Reason != *r.Stop || r.Status != api.RunTerminating {
		v.end(d, *r.Stop)
	}
}

func (v runView) end(d *decision, reason api.RunReason) {
	r := v.run
	r.Reason = &reason
	if r.Status != api.RunTerminating {
		setRun(d, r, api.RunTerminating, nil)
	}
	d.saveRun(r)
}

func setRun(d *decision, r *store.Run, to api.RunStatus, actor *string) {
	reason := api.RunReason("")
	if to == api.RunTerminating && r.Reason != nil {
		reason = *r.Reason
	}
	d.events = append(d.events, newEvent(changed("Run", r.Status, to, reason, nil), actor, runTarget(r)))
	d.moves = append(d.moves, runMove{r, r.Status, to})
	r.Status = to
	d.saveRun(r)
}

// move takes the run forward, never back: a node that is late does not make
// a running run look as if it had not begun.
func (v runView) move(d *decision, to api.RunStatus) {
	order := []api.RunStatus{api.RunSubmitted, api.RunProvisioning, api.RunRunning}
	if slices.Index(order, v.run.Status) < slices.Index(order, to) {
		setRun(d, v.run, to, nil)
	}
}

func (v runView) masterDone(jobs []*store.Job) bool {
	criteria := v.run.Spec.Params().StopCriteria
	return criteria != nil && *criteria == config.StopMasterDone && slices.ContainsFunc(jobs, func(j *store.Job) bool {
		return j.JobNum == 0 && j.Status == api.JobDone
	})
}

// terminate ends the live jobs, then the run.
func (v runView) terminate(d *decision) {
	r := v.run
	live := false
	for i := range v.jobs {
		j := &v.jobs[i]
		if j.Status.Finished() {
			continue
		}
		live = true
		if stopJob(r, j, v.now) {
			d.saveJob(j)
			d.wake(store.KindJob, j.ID)
		}
	}
	if live {
		return
	}
	schedule := r.Spec.Params().Schedule
	if schedule != nil && r.Stop == nil {
		if next, ok := schedule.Next(v.now); ok {
			r.NextTriggerAt, r.FleetID, r.Resubmissions = &next, nil, 0
			setRun(d, r, api.RunPending, nil)
			d.at(next)
			return
		}
	}
	setRun(d, r, status.OfRunReason(*r.Reason), nil)
	d.final = true
}

// stopJob passes the end of a run on to a job; false if the job knows.
func stopJob(r *store.Run, j *store.Job, now time.Time) bool {
	if r.Reason == nil {
		return false
	}
	stop := store.JobStop{Reason: status.JobReasonOf(*r.Reason), Grace: grace(j.Spec), At: now}
	if *r.Reason == api.ReasonAbortedByUser {
		stop.Grace = 0
	}
	// Of two wishes the user's wins, and of two of the user's the later.
	byUser := stop.Reason == api.ReasonTerminatedByUser || stop.Reason == api.ReasonJobAbortedByUser
	if j.Stop != nil && (!byUser || j.Stop.Reason == stop.Reason) {
		return false
	}
	if j.Stop != nil {
		stop.Grace = min(stop.Grace, j.Stop.Grace)
	}
	j.Stop = &stop
	return true
}

// grace is how many seconds a job gets to stop; "off" means as long as it likes.
func grace(spec api.JobSpec) int {
	const forever = 1 << 30
	if spec.StopDuration == nil {
		return forever
	}
	return *spec.StopDuration
}
