package engine

import (
	"slices"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	// lostAfter is how long a host may be away before its jobs are lost.
	lostAfter = 2 * time.Minute
	// durationSlack is how much longer than max_duration the server waits
	// for the agent to enforce it.
	durationSlack = 2 * time.Minute
)

// watch looks for the end of a job that has a place: its own, by time, or
// because its host is gone.
func (v *jobView) watch(d *decision) {
	j := v.job
	v.letIn(d)
	switch {
	case v.over():
		v.end(d, taskReason(*j.Task), j.Task.Message)
	case v.lost(d):
		v.end(d, v.lossReason(), v.lossText())
	case j.Status == api.JobProvisioning && !v.booting():
		v.startTask(d)
	case j.Status == api.JobRunning && !v.outlived(d) && !v.checkInactivity(d):
		v.checkUtilization(d)
	}
}

// letIn lets a job with `dstack: true` reach this server. It is asked for at
// each look: what is open stays open.
func (v *jobView) letIn(d *decision) {
	base := v.run.Spec.Configuration.Base()
	if j := v.job; base != nil && base.Dstack && j.Task != nil && j.InstanceID != nil && !v.over() {
		d.do(Effect{Kind: DoServe, Key: store.Key{Kind: store.KindJob, ID: j.ID}, InstanceID: *j.InstanceID, TaskID: j.ID})
	}
}

// outlived ends a job that runs longer than it may.
func (v *jobView) outlived(d *decision) bool {
	j := v.job
	if j.Spec.MaxDuration == nil {
		return false
	}
	limit := time.Duration(*j.Spec.MaxDuration) * time.Second
	if deadline := j.RunningAt.Add(limit + durationSlack); v.now.Before(deadline) {
		d.at(deadline)
		return false
	}
	v.endGently(d, api.ReasonMaxDuration, "The job exceeded the max_duration of "+secondsText(limit)+" seconds")
	return true
}

// endGently ends a running job with the grace that it has for a stop.
func (v *jobView) endGently(d *decision, reason api.JobReason, message string) {
	v.job.Stop = &store.JobStop{Reason: reason, Message: message, Grace: grace(v.job.Spec), At: v.now}
	v.end(d, reason, message)
}

// booting says that the job's machine, or that of a node beside it, is not
// ready yet: the instance looks after its limits.
func (v *jobView) booting() bool {
	if isBooting(v.instance) {
		return true
	}
	return slices.ContainsFunc(v.siblings, func(s *store.Job) bool {
		return s != v.job && (s.Status == api.JobSubmitted || s.Status == api.JobProvisioning && s.Provisioning != nil && s.Provisioning.Hostname == nil)
	})
}

func isBooting(i *store.Instance) bool {
	return i != nil && (i.Status == api.InstancePending || i.Status == api.InstanceProvisioning)
}

// lossReason is why a job ends that lost its host.
func (v *jobView) lossReason() api.JobReason {
	i := v.instance
	switch {
	case i == nil:
		return api.ReasonInstanceUnreachable
	case i.Machine != nil && i.Machine.Interrupted:
		return api.ReasonInterrupted
	case v.machineEnds() && i.Machine.ReadyAt == nil:
		return api.ReasonWaitingInstance
	case i.Type != nil && i.Type.Resources.Spot:
		return api.ReasonInterrupted
	}
	return api.ReasonInstanceUnreachable
}

// lossText says why the job's host is lost.
func (v *jobView) lossText() string {
	if v.machineEnds() && v.instance.ReasonMessage != nil {
		return *v.instance.ReasonMessage
	}
	return "Instance is unreachable"
}

// machineEnds says that the job's host is a machine of a cloud that is gone or
// has to go.
func (v *jobView) machineEnds() bool {
	return v.instance != nil && v.instance.Machine != nil && ended(v.instance)
}

// lost says whether the host has been away for too long.
func (v *jobView) lost(d *decision) bool {
	if v.machineEnds() {
		return true
	}
	if v.job.DisconnectedAt == nil || isBooting(v.instance) {
		return false
	}
	from := *v.job.DisconnectedAt
	if v.recovered.After(from) {
		from = v.recovered // while no server looks, no host can come back
	}
	deadline := from.Add(lostAfter)
	if v.now.Before(deadline) {
		d.at(deadline)
		return false
	}
	return true
}
