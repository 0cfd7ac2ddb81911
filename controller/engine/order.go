package engine

import (
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// mayStart heeds startup_order, and tells since when the job may start: not
// before its host was ready and the nodes run that it has to wait for.
func (v *jobView) mayStart() (since time.Time, ok bool) {
	since = v.job.SubmittedAt
	later := func(t *time.Time) {
		if t != nil && t.After(since) {
			since = *t
		}
	}
	later(v.instance.StartedAt)
	if m := v.instance.Machine; m != nil {
		later(m.ReadyAt)
	}
	for _, s := range v.siblings {
		if s != v.job && s.Status == api.JobProvisioning {
			later(&s.LastProcessedAt) // its machine may have been the last one to come up
		}
		if !waitsFor(v.run, v.job, s) {
			continue
		}
		ran := began(s)
		if ran == nil {
			return since, false
		}
		later(ran)
	}
	return since, true
}

// waitsFor says whether startup_order lets another node of the replica run
// before a job (spec: orchestration.md 6).
func waitsFor(run *store.Run, j, other *store.Job) bool {
	order := run.Spec.Params().StartupOrder
	if order == nil || j.ReplicaNum != other.ReplicaNum {
		return false
	}
	switch *order {
	case config.StartupMasterFirst:
		return j.JobNum != 0 && other.JobNum == 0
	case config.StartupWorkersFirst:
		return j.JobNum == 0 && other.JobNum != 0
	}
	return false
}

// began is when a job ran, nil if it did not. One that is over quickly may
// never have been seen running.
func began(j *store.Job) *time.Time {
	if j.RunningAt == nil && j.Status == api.JobDone {
		return j.FinishedAt
	}
	return j.RunningAt
}

// HeldBack says whether a job waits because startup_order lets others of its
// run go first; jobs are the newest submissions of the run's jobs.
func HeldBack(run *store.Run, j *store.Job, jobs []store.Job) bool {
	if j.Status != api.JobProvisioning {
		return false
	}
	for i := range jobs {
		if waitsFor(run, j, &jobs[i]) && began(&jobs[i]) == nil {
			return true
		}
	}
	return false
}
