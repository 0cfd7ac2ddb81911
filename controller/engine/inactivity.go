package engine

import (
	"fmt"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

const (
	// idleSlack is how old what a host said of a job's connections may be.
	idleSlack = time.Minute
	// idleAgain is how soon a job is looked at again whose host has to say
	// something new first.
	idleAgain = 5 * time.Second
	// maxIdle bounds what hosts can make us remember; what is forgotten comes
	// back with the next measurement.
	maxIdle = 100_000
)

// holder is a job and the instance that tells of it: hosts are whatever a
// member of a project calls so, and know nothing of the jobs of others.
type holder struct{ instance, job string }

// idleness is for how long nobody had been connected to a job at some time.
type idleness struct {
	at   time.Time
	secs int
}

// TaskUsed keeps in memory for how long nobody has been connected to a job.
// The job's agent has the clock, so a server that starts anew loses nothing.
func (e *Engine) TaskUsed(instanceID string, u hostapi.TaskUsage) {
	secs := u.Usage.NoConnectionsSecs
	if secs == nil {
		return
	}
	age := time.Duration(max(u.AgeMillis, 0)) * time.Millisecond
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.idle) >= maxIdle {
		clear(e.idle)
	}
	e.idle[holder{instanceID, u.TaskID}] = idleness{at: e.now().Add(-age), secs: *secs}
}

// Inactive is for how long nobody has been connected to a job, in seconds, as
// its instance said last.
func (e *Engine) Inactive(instanceID, jobID string) (secs int, known bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, known := e.idle[holder{instanceID, jobID}]
	return i.secs, known
}

// idleOf is what is known of a job's connections; nil for nothing.
func (e *Engine) idleOf(j *store.Job) *idleness {
	if j.InstanceID == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if i, known := e.idle[holder{*j.InstanceID, j.ID}]; known {
		return &i
	}
	return nil
}

// checkInactivity ends a development environment to which nobody has been
// connected for as long as it may be (spec: job-execution.md 11).
func (v *jobView) checkInactivity(d *decision) bool {
	dev := v.run.Spec.Configuration.DevEnvironment
	if dev == nil || dev.InactivityDuration == nil || v.job.DisconnectedAt != nil {
		return false
	}
	limit := time.Duration(*dev.InactivityDuration) * time.Second
	if v.idle == nil || v.now.Sub(v.idle.at) > idleSlack {
		d.at(laterOf(v.job.RunningAt.Add(limit), v.now.Add(idleAgain)))
		return false
	}
	if left := limit - time.Duration(v.idle.secs)*time.Second; left > 0 {
		d.at(laterOf(v.idle.at.Add(left), v.now.Add(idleAgain)))
		return false
	}
	v.endGently(d, api.ReasonInactivity, fmt.Sprintf(
		"The job was inactive for %d seconds, exceeding the inactivity_duration of %d seconds", v.idle.secs, *dev.InactivityDuration))
	return true
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
