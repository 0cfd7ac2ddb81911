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
	r.Status = to
	d.saveRun(r)
}

// backoffs is how long a run waits before its jobs are submitted again, by
// the number of the attempt.
func resubmitAfter(attempt int) time.Duration {
	delays := []time.Duration{
		15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
	}
	return delays[min(max(attempt, 1), len(delays))-1]
}

// pending waits for the trigger of a schedule, or for the next attempt.
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
	v.submit(d, jobs)
}

func lastEnd(jobs []*store.Job) (time.Time, bool) {
	var last time.Time
	for _, j := range jobs {
		if j.FinishedAt != nil && j.FinishedAt.After(last) {
			last = *j.FinishedAt
		}
	}
	return last, !last.IsZero()
}

// fits says whether there is room for the run now, after those that come
// first got theirs.
func (v runView) fits(jobs []*store.Job) bool {
	if !lacksCapacity(jobs) {
		return false
	}
	got, _ := offers.Place(requests(v.run, jobs, v.noLocal), without(v.pools, v.ahead))
	return got != nil
}

// lacksCapacity says whether the jobs ended because there was no room.
func lacksCapacity(jobs []*store.Job) bool {
	return slices.ContainsFunc(jobs, func(j *store.Job) bool {
		return j.Status.Finished() && j.Reason != nil && *j.Reason == api.ReasonNoCapacity
	})
}

// submit makes the next submission of every job.
func (v runView) submit(d *decision, jobs []*store.Job) {
	r := v.run
	if len(jobs) == 0 {
		specs, err := jobspec.Build(r.Spec, nil, v.opts)
		if err != nil {
			v.end(d, api.ReasonServerError)
			return
		}
		for _, spec := range specs {
			v.add(d, newJob(r, spec, 0), "new submission")
		}
	}
	for _, j := range jobs {
		v.forget(d, j)
		v.add(d, newJob(r, j.Spec, j.SubmissionNum+1), "new submission")
	}
	setRun(d, r, api.RunSubmitted, nil)
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

// tally is what the jobs of a run say together.
type tally struct {
	failed, exceeded                     bool
	done, running, provisioning, waiting bool
	retry                                bool
}

// active follows the jobs (spec: orchestration.md 3.3).
func (v runView) active(d *decision) {
	r := v.run
	jobs := latest(v.jobs)
	t := v.count(jobs)
	switch {
	case t.failed:
		v.end(d, api.ReasonJobFailed)
	case t.exceeded:
		v.end(d, api.ReasonRetryLimitExceeded)
	case v.masterDone(jobs):
		v.end(d, api.ReasonAllJobsDone)
	case t.retry:
		// One node that is lost takes its replica with it.
		v.retry(d, jobs)
	case t.running:
		v.move(d, api.RunRunning)
	case t.provisioning:
		r.Resubmissions = 0
		v.move(d, api.RunProvisioning)
	case t.waiting:
		v.move(d, api.RunSubmitted)
	case t.done:
		v.end(d, api.ReasonAllJobsDone)
	default:
		v.end(d, api.ReasonServerError) // a run without jobs cannot go on
	}
}

// move takes the run forward, never back: a node that is late does not make
// a running run look as if it had not begun.
func (v runView) move(d *decision, to api.RunStatus) {
	order := []api.RunStatus{api.RunSubmitted, api.RunProvisioning, api.RunRunning}
	if slices.Index(order, v.run.Status) < slices.Index(order, to) {
		setRun(d, v.run, to, nil)
	}
}

func (v runView) count(jobs []*store.Job) tally {
	var t tally
	for _, j := range jobs {
		done := j.Reason != nil && *j.Reason == api.ReasonDoneByRunner
		switch {
		case j.Status == api.JobDone || j.Status == api.JobTerminating && done:
			t.done = true
		case j.Status == api.JobRunning:
			t.running = true
		case j.Status == api.JobProvisioning || j.Status == api.JobPulling:
			t.provisioning = true
		case j.Status == api.JobSubmitted:
			t.waiting = true
		default:
			switch v.mayRetry(j) {
			case retryNo:
				t.failed = true
			case retryTooLate:
				t.exceeded = true
			case retryYes:
				t.retry = true
			}
		}
	}
	return t
}

func (v runView) masterDone(jobs []*store.Job) bool {
	criteria := v.run.Spec.Params().StopCriteria
	return criteria != nil && *criteria == config.StopMasterDone && slices.ContainsFunc(jobs, func(j *store.Job) bool {
		return j.JobNum == 0 && j.Status == api.JobDone
	})
}

type verdict int

const (
	retryNo verdict = iota
	retryTooLate
	retryYes
)

// mayRetry judges a job that ended badly (spec: orchestration.md 3.4).
func (v runView) mayRetry(j *store.Job) verdict {
	event := status.RetryEvent(j.Reason)
	if j.Spec.Retry == nil || event == "" || !slices.Contains(j.Spec.Retry.OnEvents, event) {
		return retryNo
	}
	var since time.Time
	if p := v.lastPlaced(j); p != nil {
		since = p.LastProcessedAt
	} else if event == config.RetryNoCapacity {
		since = v.run.SubmittedAt
		if v.run.NextTriggerAt != nil {
			since = *v.run.NextTriggerAt
		}
	} else {
		return retryNo
	}
	if v.now.Sub(since) > time.Duration(j.Spec.Retry.Duration)*time.Second {
		return retryTooLate
	}
	return retryYes
}

// lastPlaced is the newest submission of a job that had found a place.
func (v runView) lastPlaced(j *store.Job) *store.Job {
	var last *store.Job
	for i := range v.jobs {
		s := &v.jobs[i]
		if s.ReplicaNum == j.ReplicaNum && s.JobNum == j.JobNum && s.Provisioning != nil {
			last = s
		}
	}
	return last
}

// retry takes the run back to pending; its live jobs end.
func (v runView) retry(d *decision, jobs []*store.Job) {
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
