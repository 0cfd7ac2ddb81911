package engine

import (
	"dstack/controller/engine/jobspec"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// pending waits for the trigger of a schedule, for the next attempt, or until
// a service wants replicas again.
func (v runView) pending(d *decision) {
	r := v.run
	jobs := latest(v.jobs)
	for _, j := range jobs {
		if !j.Status.Finished() {
			return // it wakes the run when it ends
		}
	}
	switch {
	case r.Resubmissions > 0:
		due := r.LastProcessedAt
		if t, ok := lastEnd(jobs); ok {
			due = t
		}
		due = due.Add(resubmitAfter(r.Resubmissions))
		if v.now.Before(due) && !v.fits(jobs) {
			d.at(due)
			return
		}
	case r.NextTriggerAt != nil && v.now.Before(*r.NextTriggerAt):
		d.at(*r.NextTriggerAt)
		return
	}
	if wantedReplicas(r) == 0 {
		return // an update wakes it
	}
	v.resubmit(d, replicasOf(jobs))
}

// wantedReplicas is how many replicas a run should have.
func wantedReplicas(r *store.Run) int {
	n := 0
	for _, g := range jobspec.ReplicaGroups(r.Spec.Configuration) {
		n += g.Min
	}
	return n
}

// fits says whether there is room for a replica of the run now, after those
// that come first got theirs.
func (v runView) fits(jobs []*store.Job) bool {
	if !lacksCapacity(jobs) {
		return false
	}
	left := without(v.pools, v.ahead)
	for _, gang := range gangs(v.run, jobs, v.noLocal, v.disks) {
		if got, _ := offers.Place(gang, left); got != nil {
			return true
		}
	}
	return false
}

// resubmit makes the next submission of every job of a pending run.
func (v runView) resubmit(d *decision, list []replica) {
	next := v.nextReplica()
	for _, g := range jobspec.ReplicaGroups(v.run.Spec.Configuration) {
		missing := g.Min
		for _, r := range of(list, g.Name) {
			if missing > 0 {
				missing--
				v.submitReplica(d, g.Name, r.num, r.jobs, "new submission")
			}
		}
		for ; missing > 0; missing-- {
			v.submitReplica(d, g.Name, next, nil, "new submission")
			next++
		}
	}
	if v.run.Status == api.RunPending {
		setRun(d, v.run, api.RunSubmitted, nil)
	}
}

// forget deletes the submissions before the given one that never found a
// place: a run that waits for days would else leave hundreds.
func (v runView) forget(d *decision, predecessor *store.Job) {
	for i := range v.jobs {
		j := &v.jobs[i]
		if j.ReplicaNum == predecessor.ReplicaNum && j.JobNum == predecessor.JobNum && j.ID != predecessor.ID &&
			j.Provisioning == nil && lacksCapacity([]*store.Job{j}) {
			d.oldJobs = append(d.oldJobs, j.ID)
		}
	}
}

func newJob(r *store.Run, spec api.JobSpec, submission int) *store.Job {
	return &store.Job{
		RunID:         r.ID,
		ProjectID:     r.ProjectID,
		RunName:       r.Name,
		ReplicaNum:    spec.ReplicaNum,
		JobNum:        spec.JobNum,
		SubmissionNum: submission,
		DeploymentNum: r.DeploymentNum,
		Status:        api.JobSubmitted,
		Spec:          spec,
	}
}

func (v runView) add(d *decision, j *store.Job, on string) {
	j.ID, j.SubmittedAt, j.LastProcessedAt = v.newID(), v.now, v.now
	d.newJobs = append(d.newJobs, j)
	d.event("Job created on "+on+". Status: "+upper(j.Status), jobTarget(j))
	d.wake(store.KindJob, j.ID)
}

// backToPending takes the run back to wait for its next attempt; its live jobs
// end.
func (v runView) backToPending(d *decision, jobs []*store.Job) {
	r := v.run
	r.Resubmissions++
	r.FleetID = nil
	for _, j := range jobs {
		if !j.Status.Finished() && j.Stop == nil {
			j.Stop = &store.JobStop{
				Reason: api.ReasonTerminatedByServer, Message: "Run is to be resubmitted",
				Grace: grace(j.Spec), At: v.now,
			}
			d.saveJob(j)
			d.wake(store.KindJob, j.ID)
		}
	}
	setRun(d, r, api.RunPending, nil)
	d.at(v.now.Add(resubmitAfter(r.Resubmissions)))
	d.wake(store.KindRun, r.ID) // it may fit elsewhere at once
}

// asleep takes a service without replicas to pending.
func (v runView) asleep(d *decision) {
	v.run.FleetID = nil
	setRun(d, v.run, api.RunPending, nil)
	d.wake(store.KindRun, v.run.ID)
}
