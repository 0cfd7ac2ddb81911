package engine

import (
	"dstack/controller/store"
	"dstack/protocol/api"
)

// tally is what the jobs of a run say together.
type tally struct {
	failed, exceeded                     bool
	done, running, provisioning, waiting bool
	// retry says that replicas are to be submitted again, placed that there is one
	// of which no job looks for a place.
	retry, placed bool
}

// live says that something of the run is under way.
func (t tally) live() bool { return t.running || t.provisioning || t.waiting }

// active follows the jobs (spec: orchestration.md 3.3).
func (v runView) active(d *decision) {
	r := v.run
	jobs := latest(v.jobs)
	list := replicasOf(jobs)
	service := r.Spec.Configuration.Service != nil
	t := v.count(list)
	switch {
	case t.failed:
		v.end(d, api.ReasonJobFailed)
	case t.exceeded:
		v.end(d, api.ReasonRetryLimitExceeded)
	case v.masterDone(jobs):
		v.end(d, api.ReasonAllJobsDone)
	case t.live():
		v.follow(d, t)
		if service {
			v.balance(d, list)
		}
	case t.retry:
		v.backToPending(d, jobs)
	case t.done:
		v.end(d, api.ReasonAllJobsDone)
	case service && wantedReplicas(r) == 0:
		v.asleep(d)
	case service:
		v.balance(d, list)
	default:
		v.end(d, api.ReasonServerError) // a run without jobs cannot go on
	}
}

func (v runView) follow(d *decision, t tally) {
	switch {
	case t.running:
		v.move(d, api.RunRunning)
	case t.provisioning:
		v.move(d, api.RunProvisioning)
	default:
		v.move(d, api.RunSubmitted)
		return
	}
	if v.run.Resubmissions > 0 && t.placed {
		v.run.Resubmissions = 0
		d.saveRun(v.run)
	}
}

// count adds up what the replicas say; one that is not wanted any more says
// nothing, nor does one that is to be submitted again.
func (v runView) count(list []replica) tally {
	var t tally
	for _, r := range list {
		if r.leaving() {
			continue
		}
		of := v.countJobs(r.jobs)
		t.failed, t.exceeded = t.failed || of.failed, t.exceeded || of.exceeded
		if of.retry {
			t.retry = true
			continue
		}
		t.placed = t.placed || !of.waiting
		t.done, t.running = t.done || of.done, t.running || of.running
		t.provisioning, t.waiting = t.provisioning || of.provisioning, t.waiting || of.waiting
	}
	return t
}

func (v runView) countJobs(jobs []*store.Job) tally {
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
