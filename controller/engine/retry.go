package engine

import (
	"slices"
	"time"

	"dstack/controller/engine/status"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// resubmitAfter is how long a run waits before its jobs are submitted again,
// by the number of the attempt.
func resubmitAfter(attempt int) time.Duration {
	delays := []time.Duration{
		15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
	}
	return delays[min(max(attempt, 1), len(delays))-1]
}

// shortLife is how long a job has to be there for its end not to count as one
// more failure of the same kind.
const shortLife = time.Minute

type verdict int

const (
	retryNo verdict = iota
	retryTooLate
	retryYes
)

// mayRetry judges a job that ended badly (spec: orchestration.md 3.4).
func (v runView) mayRetry(j *store.Job) verdict {
	if v.spare(j) {
		return retryYes
	}
	event := status.RetryEvent(j.Reason)
	if j.Spec.Retry == nil || event == "" || !slices.Contains(j.Spec.Retry.OnEvents, event) {
		return retryNo
	}
	since, ok := v.retrySince(j, event)
	if !ok {
		return retryNo
	}
	if v.now.Sub(since) > time.Duration(j.Spec.Retry.Duration)*time.Second {
		return retryTooLate
	}
	return retryYes
}

// retrySince is from when the time counts in which a job is tried again; false
// if it is not.
func (v runView) retrySince(j *store.Job, event string) (since time.Time, ok bool) {
	last := v.lastPlaced(j)
	if event == config.RetryNoCapacity {
		last = v.lastWhole(j)
	}
	trigger := v.run.NextTriggerAt
	switch {
	case last != nil:
		return last.LastProcessedAt, true
	case event == config.RetryNoCapacity && trigger != nil:
		return *trigger, true
	case event == config.RetryNoCapacity:
		return v.run.SubmittedAt, true
	}
	for i := range v.jobs {
		s := &v.jobs[i]
		if s.ReplicaNum != j.ReplicaNum || s.JobNum != j.JobNum || s.Provisioning == nil {
			continue
		}
		if trigger != nil && trigger.After(s.SubmittedAt) {
			return *trigger, true
		}
		return s.SubmittedAt, true
	}
	return time.Time{}, false
}

// stillborn are the submissions of a replica for which a machine was made that
// never came up. They do not begin the time anew in which a run is tried again:
// it would rent machines for ever.
func (v runView) stillborn(replicaNum int) map[int]bool {
	out := map[int]bool{}
	for i := range v.jobs {
		if s := &v.jobs[i]; s.ReplicaNum == replicaNum && s.Reason != nil && *s.Reason == api.ReasonWaitingInstance {
			out[s.SubmissionNum] = true
		}
	}
	return out
}

// spare says that a job is that of a replica which a service that runs wants
// in addition: that there is no room for it does not end the service.
func (v runView) spare(j *store.Job) bool {
	return v.run.Status == api.RunRunning && lacksCapacity([]*store.Job{j}) && v.lastPlaced(j) == nil &&
		slices.ContainsFunc(v.jobs, func(o store.Job) bool { return o.ReplicaNum != j.ReplicaNum && o.Status == api.JobRunning })
}

// lastPlaced is the newest submission of a job that had found a place, with
// machines that came up.
func (v runView) lastPlaced(j *store.Job) *store.Job {
	var last *store.Job
	vain := v.stillborn(j.ReplicaNum)
	for i := range v.jobs {
		s := &v.jobs[i]
		if s.ReplicaNum == j.ReplicaNum && s.JobNum == j.JobNum && s.Provisioning != nil && !vain[s.SubmissionNum] {
			last = s
		}
	}
	return last
}

// lastWhole is the newest submission of a job in which all jobs of its replica
// had found places. That some of them find one does not begin the time anew in
// which there has to be room for all: the run would rent and end machines for
// ever.
func (v runView) lastWhole(j *store.Job) *store.Job {
	placed := map[int]int{} // by submission
	for i := range v.jobs {
		if s := &v.jobs[i]; s.ReplicaNum == j.ReplicaNum && s.Provisioning != nil {
			placed[s.SubmissionNum]++
		}
	}
	var last *store.Job
	vain := v.stillborn(j.ReplicaNum)
	for i := range v.jobs {
		s := &v.jobs[i]
		if s.ReplicaNum == j.ReplicaNum && s.JobNum == j.JobNum && s.Provisioning != nil && !vain[s.SubmissionNum] &&
			placed[s.SubmissionNum] >= j.Spec.JobsPerReplica {
			last = s
		}
	}
	return last
}

// restartAt is when an ended replica of a service may start again: at once,
// but later and later when it ends soon after each start, or finds no room.
func (v runView) restartAt(r replica) time.Time {
	ended, _ := lastEnd(r.jobs)
	failures := v.shortLives(r) - 1
	if lacksCapacity(r.jobs) {
		failures = v.attempts(r.jobs[0])
	}
	if failures <= 0 {
		return ended
	}
	return ended.Add(min(resubmitAfter(failures), mostRestart))
}

// mostRestart bounds how long a replica waits: that there is room again does
// not wake its run.
const mostRestart = 2 * time.Minute

// shortLives counts the last submissions in a row that ended soon.
func (v runView) shortLives(r replica) int {
	n := 0
	for i := len(v.jobs) - 1; i >= 0; i-- {
		j := &v.jobs[i]
		if j.ReplicaNum != r.num || j.JobNum != 0 {
			continue
		}
		if j.FinishedAt == nil || j.FinishedAt.Sub(j.SubmittedAt) >= shortLife {
			break
		}
		n++
	}
	return n
}

// attempts counts the submissions since a job had a place; most of them are
// not there any more.
func (v runView) attempts(j *store.Job) int {
	if p := v.lastPlaced(j); p != nil {
		return j.SubmissionNum - p.SubmissionNum
	}
	return j.SubmissionNum + 1
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

// lacksCapacity says whether the jobs ended because there was no room.
func lacksCapacity(jobs []*store.Job) bool {
	return slices.ContainsFunc(jobs, func(j *store.Job) bool {
		return j.Status.Finished() && j.Reason != nil && *j.Reason == api.ReasonNoCapacity
	})
}
