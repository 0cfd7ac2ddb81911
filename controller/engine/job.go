package engine

import (
	"slices"
	"time"

	"dstack/controller/engine/jobspec"
	"dstack/controller/engine/status"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

const (
	// acceptLimit is how long the host may take to accept a job.
	acceptLimit = 10 * time.Minute
	// stopSlack is how much longer than its grace a task may take to end
	// before the instance is used for others. It is long because an end
	// counts only when the whole log has arrived.
	stopSlack = 5 * time.Minute
)

// jobView is what a decision about a job looks at.
type jobView struct {
	now  time.Time
	opts jobspec.Options
	job  *store.Job
	run  *store.Run
	// project and siblings (the newest submissions of the replica, this job
	// among them) say what the task has to know.
	project  store.Project
	siblings []*store.Job
	// usage is what a running job with a utilization_policy used in its
	// time_window, the newest first.
	usage []store.MetricsPoint
	// idle is what the host said of a running job's connections, if it did.
	idle *idleness
	// secrets are those that a job which is to start refers to, by name.
	secrets map[string]string
	// source is what there is of the code and files of such a job.
	source jobspec.Source
	// instance is the one that the job holds, if any.
	instance *store.Instance
	// peers are the newest submissions of all replicas, for a job whose
	// commands mention them.
	peers []*store.Job
	// pools are set for a job that looks for a place, and ahead is what
	// those ask for that come first.
	pools   []offers.Pool
	ahead   [][]offers.Request
	noLocal bool
	growthView
	// disks are the volumes that the siblings ask for, volumes the rows of those
	// by name, attached those that the job got with its place.
	disks   disks
	volumes map[string]*store.Volume
	// holders are their attachments by the volume's id.
	holders  map[string]*store.VolumeAttachment
	attached []attached
	// recovered is when this server began to look at hosts.
	recovered time.Time

	loseWakes bool
}

// decideJob moves a job on, several steps at once if they are due.
func decideJob(v jobView) *decision {
	d := &decision{}
	j := v.job
	if j.Status.Finished() {
		d.final = true
		return d
	}
	v.heedStop(d)
	v.noteFormatted(d)
	switch {
	case j.Status == api.JobSubmitted && v.instance != nil:
		v.await(d)
	case j.Status == api.JobSubmitted && !v.lacksSecrets(d) && !v.lacksSource(d):
		v.place(d)
	case j.Status == api.JobProvisioning && j.Task == nil && v.instance != nil && v.instance.Machine != nil:
		v.settleIn(d, j, v.instance)
	}
	if j.Status == api.JobProvisioning && j.Task != nil && !v.over() {
		v.set(d, api.JobPulling)
	}
	if j.Status == api.JobPulling && j.Task.State == hostapi.TaskRunning {
		v.started(d)
	}
	switch j.Status {
	case api.JobProvisioning, api.JobPulling, api.JobRunning:
		v.watch(d)
	}
	if j.Status == api.JobTerminating {
		v.terminate(d)
	}
	return d
}

// over says whether the host reported the end of the task.
func (v *jobView) over() bool {
	return v.job.Task != nil && v.job.Task.State == hostapi.TaskTerminated
}

// heedStop turns the wish to end the job into its status. The end of the run
// is such a wish, whether the run's own pass came by already or not.
func (v *jobView) heedStop(d *decision) {
	j := v.job
	if v.run.Stop != nil {
		r := *v.run
		r.Reason = v.run.Stop
		if stopJob(&r, j, v.now) {
			d.saveJob(j)
		}
	}
	switch {
	case j.Stop == nil:
	case j.Status != api.JobTerminating:
		graceful := j.Stop.Grace > 0 && j.Status == api.JobRunning && !v.over()
		v.end(d, j.Stop.Reason, j.Stop.Message)
		if graceful {
			d.event("Graceful job stop requested", jobTarget(j))
		}
	case j.Reason != nil && *j.Reason != j.Stop.Reason && byUser(j.Stop.Reason):
		reason := j.Stop.Reason
		j.Reason = &reason
		d.saveJob(j)
	}
}

func byUser(r api.JobReason) bool {
	return r == api.ReasonTerminatedByUser || r == api.ReasonJobAbortedByUser
}

// end moves the job to terminating.
func (v *jobView) end(d *decision, reason api.JobReason, message string) {
	j := v.job
	j.Reason = &reason
	j.ReasonMessage = nil
	if message != "" {
		j.ReasonMessage = &message
	}
	v.set(d, api.JobTerminating)
}

// set changes the status; the run and the other nodes hear of it.
func (v *jobView) set(d *decision, to api.JobStatus) {
	setJob(d, v.job, to)
	v.tell(d)
}

func (v *jobView) tell(d *decision) {
	if !v.loseWakes || !v.job.Status.Finished() {
		d.wake(store.KindRun, v.job.RunID)
	}
	for _, s := range v.siblings {
		if s.ID != v.job.ID && !s.Status.Finished() {
			d.wake(store.KindJob, s.ID)
		}
	}
}

func setJob(d *decision, j *store.Job, to api.JobStatus) {
	reason := api.JobReason("")
	if to == api.JobTerminating && j.Reason != nil {
		reason = *j.Reason
	}
	d.event(changed("Job", j.Status, to, reason, j.ReasonMessage), jobTarget(j))
	j.Status = to
	d.saveJob(j)
}

// started takes over what became known when the job started.
func (v *jobView) started(d *decision) {
	j := v.job
	j.RunningAt = &v.now
	rt := *j.Runtime
	rt.Ports = map[string]int{}
	for inside, outside := range j.Task.Ports {
		rt.Ports[portName(inside)] = outside
	}
	if j.Task.Username != "" {
		name := j.Task.Username
		rt.Username = &name
	}
	if j.Task.WorkingDir != "" {
		dir := j.Task.WorkingDir
		rt.WorkingDir = &dir
	}
	j.Runtime = &rt
	if port, ok := j.Task.Ports[sshPort]; ok && j.Provisioning != nil && !j.Provisioning.Dockerized {
		p := *j.Provisioning
		p.SSHPort = &port
		if j.Task.Username != "" {
			p.Username = j.Task.Username
		}
		j.Provisioning = &p
	}
	v.set(d, api.JobRunning)
	if j.Spec.ServicePort != nil {
		d.event("Service replica ready to receive requests", jobTarget(j))
	}
}

// startTask asks the host to run the job, as long as it has not accepted it.
func (v *jobView) startTask(d *decision) {
	j := v.job
	disks, ok := v.mounts(d)
	if !ok {
		return
	}
	since, may := v.mayStart()
	if !may {
		return
	}
	if deadline := since.Add(acceptLimit); v.now.Before(deadline) {
		d.at(deadline)
	} else if j.DisconnectedAt == nil {
		v.end(d, api.ReasonWaitingRunner, "The host did not accept the job within "+secondsText(acceptLimit)+"s")
		return
	}
	if len(v.instance.Orphans) > 0 {
		return
	}
	addresses := v.addresses()
	if !addresses.Known(j.Spec.Commands) {
		d.at(v.now.Add(addressWait))
		return
	}
	// Only what goes to the host has the values of secrets.
	job := *j
	var err error
	if job.Spec, err = jobspec.WithSecrets(j.Spec, v.secrets); err != nil {
		v.end(d, api.ReasonTerminatedByServer, "Secrets interpolation error: "+err.Error())
		return
	}
	if v.lacksSource(d) {
		return
	}
	d.do(Effect{
		Kind:       DoStart,
		Key:        store.Key{Kind: store.KindJob, ID: j.ID},
		InstanceID: v.instance.ID,
		TaskID:     j.ID,
		Spec: jobspec.Task(jobspec.Place{
			Project: v.project, Run: *v.run, Job: job, Instance: *v.instance, Nodes: v.nodes(), Addresses: addresses, Source: v.source, Volumes: disks,
		}, v.opts),
	})
}

// lacksSecrets ends a job that no host could start, before it takes a place.
func (v *jobView) lacksSecrets(d *decision) bool {
	_, err := jobspec.WithSecrets(v.job.Spec, v.secrets)
	if err != nil {
		v.end(d, api.ReasonTerminatedByServer, "Secrets interpolation error: "+err.Error())
	}
	return err != nil
}

// terminate stops the task, then gives the instance back. The task's folder
// and container go afterwards, before the instance starts another.
func (v *jobView) terminate(d *decision) {
	j := v.job
	stop := j.Stop
	if j.InstanceID == nil || j.Task == nil || v.over() || stop == nil || v.lost(d) {
		v.finish(d)
		return
	}
	end := stop.At.Add(time.Duration(stop.Grace) * time.Second)
	if !v.now.Before(end.Add(stopSlack)) {
		v.finish(d)
		return
	}
	d.at(end.Add(stopSlack))
	left := 0
	if v.now.Before(end) {
		// Rounded up, so that a grace never becomes a kill by rounding.
		left = int((end.Sub(v.now) + time.Second - 1) / time.Second)
		d.at(end)
	}
	d.do(Effect{
		Kind:       DoStop,
		Key:        store.Key{Kind: store.KindJob, ID: j.ID},
		InstanceID: *j.InstanceID,
		TaskID:     j.ID,
		Stop:       hostapi.StopTask{Grace: left, Reason: string(stop.Reason), Message: stop.Message},
	})
}

// finish gives the job its final status and frees what it held.
func (v *jobView) finish(d *decision) {
	j := v.job
	if j.Task != nil && j.Task.ExitStatus != nil {
		exit := *j.Task.ExitStatus
		j.ExitStatus = &exit
	}
	v.free(d)
	j.FinishedAt = &v.now
	v.set(d, status.OfJobReason(j.Reason))
	d.final = true
}

// free takes the job off its instance.
func (v *jobView) free(d *decision) {
	j, i := v.job, v.instance
	if i == nil {
		return
	}
	i.BusyBlocks = max(i.BusyBlocks-j.Blocks, 0)
	if i.HostID != "" && !slices.Contains(i.Orphans, j.ID) {
		i.Orphans = append(slices.Clone(i.Orphans), j.ID)
	}
	v.leaveVolumes(d)
	if v.stranded() {
		wish := *i.Wish
		wish.IdleSeconds, i.Wish = 0, &wish
	}
	j.InstanceID = nil
	d.event("Job unassigned from instance. "+blocksText(i), jobTarget(j), instanceTarget(i))
	if i.BusyBlocks == 0 && i.Status == api.InstanceBusy {
		setInstance(d, i, api.InstanceIdle)
	}
	d.saveInstance(i)
	d.wake(store.KindInstance, i.ID)
	d.released = i.ProjectID
}

// taskReason is the reason that the host gave for the end of a task.
func taskReason(t hostapi.Task) api.JobReason {
	r := api.JobReason(t.Reason)
	switch r {
	case api.ReasonNoCapacity, api.ReasonInterrupted, api.ReasonInstanceUnreachable, api.ReasonVolumeError,
		api.ReasonContainerError, api.ReasonPortsBindingFailed, api.ReasonCreatingContainer, api.ReasonExecutorError,
		api.ReasonLogQuota, api.ReasonTerminatedByUser, api.ReasonTerminatedByServer, api.ReasonMaxDuration,
		api.ReasonJobAbortedByUser, api.ReasonDoneByRunner:
		return r
	}
	if t.ExitStatus != nil && *t.ExitStatus == 0 {
		return api.ReasonDoneByRunner
	}
	return api.ReasonContainerError
}
