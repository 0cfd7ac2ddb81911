package api

import (
	"math"
	"time"

	"dstack/controller/engine/jobspec"
	"dstack/controller/engine/status"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

// runRows is a run with what is needed to render it.
type runRows struct {
	run     *store.Run
	project string
	user    string
	fleet   *api.RunFleet
	// jobs are the submissions, by replica, job and submission.
	jobs []store.Job
	runShape
	sshProxy SSHProxy
	pull     func(jobID string) (hostapi.PullProgress, bool)
	idle     func(instanceID, jobID string) (secs int, known bool)
	now      time.Time
}

// runView renders a run (spec: rest-api.md 8).
func runView(r runRows) api.Run {
	v := api.Run{
		ID: r.run.ID, ProjectName: r.project, User: r.user, Fleet: r.fleet,
		SubmittedAt: api.At(r.run.SubmittedAt), LastProcessedAt: api.At(r.run.LastProcessedAt),
		Status: r.run.Status, TerminationReason: text(r.run.Reason),
		RunSpec: r.run.Spec, Jobs: []api.Job{},
		Service: r.run.Service, DeploymentNum: r.run.DeploymentNum, Error: status.RunError(r.run.Reason),
		Deleted: r.run.Deleted, NextTriggeredAt: nextTrigger(r.run),
	}
	groups := groupJobs(r.jobs)
	v.StatusMessage = status.OfRun(r.run.Status, jobFacts(groups))
	if r.hideJobs {
		return v
	}
	cost := 0.0
	for _, g := range groups {
		job := api.Job{JobSpec: g[len(g)-1].Spec, JobSubmissions: []api.JobSubmission{}}
		for i := max(0, len(g)-r.submissions); i < len(g); i++ {
			job.JobSubmissions = append(job.JobSubmissions, r.submissionView(&g[i]))
			cost += costOf(&g[i], r.now)
		}
		if r.connection {
			job.JobConnectionInfo = connectionInfo(r.run, &g[len(g)-1])
			r.sshProxy.proxied(job.JobConnectionInfo, r.run, &g[len(g)-1])
		}
		v.Jobs = append(v.Jobs, job)
	}
	if len(v.Jobs) > 0 {
		if all := v.Jobs[0].JobSubmissions; len(all) > 0 {
			v.LatestJobSubmission = &all[len(all)-1]
		}
	}
	const digits = 1e4
	v.Cost = math.Round(cost*digits) / digits
	return v
}

// nextTrigger is null for a run that has ended.
func nextTrigger(r *store.Run) *api.Time {
	if r.Status.Finished() {
		return nil
	}
	return timeRef(r.NextTriggerAt)
}

// groupJobs splits ordered submissions into jobs.
func groupJobs(jobs []store.Job) [][]store.Job {
	var out [][]store.Job
	for i := range jobs {
		j := &jobs[i]
		if n := len(out); n > 0 && out[n-1][0].ReplicaNum == j.ReplicaNum && out[n-1][0].JobNum == j.JobNum {
			out[n-1] = append(out[n-1], *j)
			continue
		}
		out = append(out, []store.Job{*j})
	}
	return out
}

func jobFacts(groups [][]store.Job) []status.JobFacts {
	facts := make([]status.JobFacts, len(groups))
	for i, g := range groups {
		latest := &g[len(g)-1]
		facts[i] = status.JobFacts{Latest: latest.Status, Retry: latest.Spec.Retry}
		for n := len(g) - 1; n >= 0 && facts[i].LastReason == nil; n-- {
			facts[i].LastReason = g[n].Reason
		}
	}
	return facts
}

func (r *runRows) submissionView(j *store.Job) api.JobSubmission {
	v := api.JobSubmission{
		ID: j.ID, SubmissionNum: j.SubmissionNum, DeploymentNum: j.DeploymentNum,
		SubmittedAt: api.At(j.SubmittedAt), LastProcessedAt: api.At(j.LastProcessedAt), FinishedAt: timeRef(j.FinishedAt),
		Status: j.Status, StatusMessage: status.OfSubmission(j.Status, j.Reason, j.ReasonMessage, j.ExitStatus),
		TerminationReason: text(j.Reason), TerminationReasonMessage: j.ReasonMessage, ExitStatus: j.ExitStatus,
		JobProvisioningData: provisioningView(j.Provisioning), JobRuntimeData: j.Runtime,
		Error: status.JobError(j.Reason), Probes: probesOf(j),
	}
	if j.Status.Finished() && v.FinishedAt == nil {
		v.FinishedAt = new(v.LastProcessedAt)
	}
	v.InactivitySecs = r.inactivity(j)
	if j.Status == api.JobPulling && r.pull != nil {
		if p, ok := r.pull(j.ID); ok {
			v.ImagePullProgress = &api.ImagePullProgress{
				DownloadedBytes: p.Downloaded, ExtractedBytes: p.Extracted, TotalBytes: p.Total, IsTotalBytesFinal: p.TotalFinal,
			}
		}
	}
	return v
}

// inactivity is for how long nobody has been connected to a running
// development environment that has a limit for that; nil for other jobs.
func (r *runRows) inactivity(j *store.Job) *int {
	d := r.run.Spec.Configuration.DevEnvironment
	if d == nil || d.InactivityDuration == nil || j.Status != api.JobRunning || j.InstanceID == nil || r.idle == nil {
		return nil
	}
	if secs, known := r.idle(*j.InstanceID, j.ID); known {
		return &secs
	}
	return nil
}

// probesOf are the states of a replica's probes, from its start on. They are
// not executed yet.
func probesOf(j *store.Job) []api.Probe {
	if j.RunningAt == nil {
		return []api.Probe{}
	}
	return make([]api.Probe, len(j.Spec.Probes))
}

// provisioningView fills what older clients cannot take as null.
func provisioningView(p *api.JobProvisioningData) *api.JobProvisioningData {
	if p == nil {
		return nil
	}
	v := *p
	if v.Hostname == nil {
		v.Hostname = new("")
	}
	if v.SSHPort == nil {
		v.SSHPort = new(22)
	}
	return &v
}

// costOf is USD for the time that the submission held its instance.
func costOf(j *store.Job, now time.Time) float64 {
	if j.Provisioning == nil {
		return 0
	}
	end := now
	if j.FinishedAt != nil {
		end = *j.FinishedAt
	} else if j.Status.Finished() {
		end = j.LastProcessedAt
	}
	return max(0, end.Sub(j.SubmittedAt).Hours()) * j.Provisioning.Price
}

// connectionInfo tells how to reach a running job; nil while it is not.
func connectionInfo(r *store.Run, latest *store.Job) *api.JobConnectionInfo {
	if latest.Status != api.JobRunning {
		return nil
	}
	host := latest.Spec.JobName
	if latest.ReplicaNum == 0 && latest.JobNum == 0 {
		host = r.Name
	}
	info := &api.JobConnectionInfo{AttachedSSHCommand: []string{"ssh", host}}
	if d := r.Spec.Configuration.DevEnvironment; d != nil && d.IDE != nil {
		folder := ""
		if latest.Runtime != nil {
			folder = deref(latest.Runtime.WorkingDir, "")
		}
		name, link := jobspec.IDE(*d.IDE, host, folder)
		info.IDEName, info.AttachedIDEURL = &name, &link
	}
	return info
}
