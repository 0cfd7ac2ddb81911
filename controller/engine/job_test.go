package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

func jobViewOf(run *store.Run, j store.Job, inst *store.Instance) jobView {
	return jobView{now: now(), job: &j, run: run, siblings: []*store.Job{&j}, instance: inst}
}

// TestPlaceJob is appendix 36, 45, 50, 52, 53, 58.
func TestPlaceJob(t *testing.T) {
	t.Parallel()
	pool := func(list ...store.Instance) []offers.Pool {
		return []offers.Pool{{Fleet: testFleet(), Instances: list}}
	}
	v := jobViewOf(testRun(api.RunSubmitted), testJob(api.JobSubmitted), nil)
	v.pools = pool(testInstance(api.InstanceIdle))
	d := decideJob(v)
	expect(t, "status", v.job.Status, api.JobProvisioning)
	expect(t, "instance", v.job.InstanceID, ptr("i1"))
	expect(t, "run's fleet", v.run.FleetID, ptr("f1"))
	expect(t, "busy", []any{d.instances[0].Status, d.instances[0].BusyBlocks}, []any{api.InstanceBusy, 1})
	expect(t, "network", v.job.Runtime.NetworkMode, "host")
	expect(t, "started at once", doing(d), []string{"start"})
	expect(t, "events", told(d), []string{
		"Job assigned to instance. Instance blocks: 1/1 busy",
		"Instance status changed IDLE -> BUSY",
		"Job status changed SUBMITTED -> PROVISIONING",
	})

	reuse := func(r *store.Run) { r.Spec.Configuration.Task.CreationPolicy = ptr("reuse") }
	big := func(j *store.Job) { j.Spec.Requirements.Resources.CPU.Count.Min = ptr(64) }
	for name, c := range map[string]struct {
		run     *store.Run
		job     store.Job
		pools   []offers.Pool
		message string
		waits   bool
	}{
		"no fleet":        {testRun(api.RunSubmitted), testJob(api.JobSubmitted), nil, noFleets, false},
		"busy fleet":      {testRun(api.RunSubmitted), testJob(api.JobSubmitted), pool(testInstance(api.InstanceBusy)), noFleets + " (lab: its hosts are busy)", false},
		"too small":       {testRun(api.RunSubmitted), testJob(api.JobSubmitted, big), pool(testInstance(api.InstanceIdle)), "Fleet is at capacity (lab-0: needs 64 or more CPUs, has 4)", false},
		"reuse":           {testRun(api.RunSubmitted, reuse), testJob(api.JobSubmitted, big), pool(testInstance(api.InstanceIdle)), "Could not reuse any instance for this job (lab-0: needs 64 or more CPUs, has 4)", false},
		"other fleet":     {testRun(api.RunSubmitted, func(r *store.Run) { r.Spec.Configuration.Task.Fleets = []config.EntityReference{{Name: "x"}} }), testJob(api.JobSubmitted), pool(testInstance(api.InstanceIdle)), "Failed to use specified fleets (lab: the run asks for other fleets)", false},
		"other instances": {testRun(api.RunSubmitted, func(r *store.Run) { r.Spec.Configuration.Task.Instances = []config.InstanceSelector{{Name: ptr("x")}} }), testJob(api.JobSubmitted), pool(testInstance(api.InstanceIdle)), "Failed to use specified instances (lab-0: the run asks for other instances)", false},
		"unreachable host": {testRun(api.RunSubmitted), testJob(api.JobSubmitted), pool(testInstance(api.InstanceIdle, func(i *store.Instance) {
			i.Unreachable, i.ReasonMessage = true, ptr("no route. look")
		})), "Fleet is at capacity (lab-0: unreachable: no route. look)", false},
		"full disk": {testRun(api.RunSubmitted), testJob(api.JobSubmitted), pool(testInstance(api.InstanceIdle, func(i *store.Instance) {
			i.Info = &hostapi.Info{Problem: &hostapi.Problem{Code: "disk_full", Message: "The disk is full", Remedy: "Free some space"}}
		})), "Fleet is at capacity (lab-0: The disk is full. Free some space)", false},
		"host being prepared": {testRun(api.RunSubmitted), testJob(api.JobSubmitted), pool(testInstance(api.InstancePending)), "", true},
		"host in trouble": {testRun(api.RunSubmitted), testJob(api.JobSubmitted), pool(testInstance(api.InstancePending, func(i *store.Instance) {
			i.ReasonMessage = ptr("auth failed")
		})), noFleets + " (lab: none of its hosts is ready)", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := jobViewOf(c.run, c.job, nil)
			v.pools = c.pools
			d := decideJob(v)
			if c.waits {
				expect(t, "status", v.job.Status, api.JobSubmitted)
				expect(t, "looks again", d.next.IsZero(), false)
				return
			}
			expect(t, "status", v.job.Status, api.JobFailed)
			expect(t, "message", *v.job.ReasonMessage, c.message)
			expect(t, "events", told(d), []string{
				"Job status changed SUBMITTED -> TERMINATING. Termination reason: FAILED_TO_START_DUE_TO_NO_CAPACITY (" + c.message + ")",
				"Job status changed TERMINATING -> FAILED",
			})
		})
	}
}

// TestPlaceReplica is appendix 47, 63, 64: all nodes at once, or none.
func TestPlaceReplica(t *testing.T) {
	t.Parallel()
	view := func(hosts int) jobView {
		run := testRun(api.RunSubmitted)
		nodes := func(j *store.Job) { j.Spec.JobsPerReplica = 2 }
		a, b := testJob(api.JobSubmitted, nodes), testJob(api.JobSubmitted, nodes, numbered(1, 0))
		fleet := testFleet()
		fleet.Spec.Configuration.Placement = ptr("cluster")
		pool := offers.Pool{Fleet: fleet}
		for n := range hosts {
			pool.Instances = append(pool.Instances, testInstance(api.InstanceIdle, func(i *store.Instance) {
				i.ID, i.Name, i.InternalIP = fmt.Sprint("i", n), fmt.Sprint("lab-", n), ptr(fmt.Sprint("10.0.0.", n))
			}))
		}
		return jobView{now: now(), job: &a, run: run, siblings: []*store.Job{&a, &b}, pools: []offers.Pool{pool}}
	}
	v := view(2)
	d := decideJob(v)
	expect(t, "both placed", []any{*v.siblings[0].InstanceID, *v.siblings[1].InstanceID}, []any{"i0", "i1"})
	expect(t, "woken", woken(d), []string{"run r1", "job j2"})
	spec := d.effects[0].Spec.Job
	expect(t, "nodes", []any{spec.NodesIPs, spec.MasterIP, spec.NodesNum}, []any{[]string{"10.0.0.0", "10.0.0.1"}, "10.0.0.0", 2})

	v = view(1)
	decideJob(v)
	expect(t, "none placed", []any{v.job.Status, v.siblings[1].InstanceID}, []any{api.JobFailed, (*string)(nil)})

	v = view(2)
	v.job = v.siblings[1]
	expect(t, "the first node places all", decideJob(v).changes(), false)
}

// TestJobRuns is appendix 69-71, 73, 77 and orchestration.md 4.2.
func TestJobRuns(t *testing.T) {
	t.Parallel()
	task := func(s hostapi.TaskState) *hostapi.Task { return &hostapi.Task{ID: "j1", State: s} }
	ended := func(reason, message string, exit *int) *hostapi.Task {
		return &hostapi.Task{ID: "j1", State: hostapi.TaskTerminated, Reason: reason, Message: message, ExitStatus: exit}
	}
	away := func(d time.Duration) func(*store.Job) { return func(j *store.Job) { j.DisconnectedAt = ago(d) } }
	limited := func(j *store.Job) { j.Spec.MaxDuration, j.RunningAt = ptr(60), ago(4*time.Minute) }
	old := func(j *store.Job) { j.SubmittedAt = *ago(11 * time.Minute) }
	for name, c := range map[string]struct {
		job     store.Job
		status  api.JobStatus
		reason  api.JobReason
		effects []string
	}{
		"not accepted yet":      {testJob(api.JobProvisioning, on(nil)), api.JobProvisioning, "", []string{"start"}},
		"69 accepted":           {testJob(api.JobProvisioning, on(task(hostapi.TaskPreparing))), api.JobPulling, "", nil},
		"70 started":            {testJob(api.JobPulling, on(task(hostapi.TaskRunning))), api.JobRunning, "", nil},
		"70 still pulling":      {testJob(api.JobPulling, on(task(hostapi.TaskPulling))), api.JobPulling, "", nil},
		"accepted and started":  {testJob(api.JobProvisioning, on(task(hostapi.TaskRunning))), api.JobRunning, "", nil},
		"77 exit 0":             {testJob(api.JobRunning, on(ended("done_by_runner", "", ptr(0)))), api.JobDone, api.ReasonDoneByRunner, nil},
		"77 exit 0, no reason":  {testJob(api.JobRunning, on(ended("", "", ptr(0)))), api.JobDone, api.ReasonDoneByRunner, nil},
		"exit 3":                {testJob(api.JobRunning, on(ended("container_exited_with_error", "", ptr(3)))), api.JobFailed, api.ReasonContainerError, nil},
		"exit 3, odd reason":    {testJob(api.JobRunning, on(ended("whatever", "", ptr(3)))), api.JobFailed, api.ReasonContainerError, nil},
		"no such image":         {testJob(api.JobPulling, on(ended("creating_container_error", "no image", nil))), api.JobFailed, api.ReasonCreatingContainer, nil},
		"refused":               {testJob(api.JobProvisioning, on(ended("creating_container_error", "bad", nil))), api.JobFailed, api.ReasonCreatingContainer, nil},
		"73 away for a moment":  {testJob(api.JobRunning, on(task(hostapi.TaskRunning)), away(time.Minute)), api.JobRunning, "", nil},
		"73 away for 2 minutes": {testJob(api.JobRunning, on(task(hostapi.TaskRunning)), away(2*time.Minute)), api.JobFailed, api.ReasonInstanceUnreachable, nil},
		"max_duration":          {testJob(api.JobRunning, on(task(hostapi.TaskRunning)), limited), api.JobTerminating, api.ReasonMaxDuration, []string{"stop 300"}},
		"never accepted":        {testJob(api.JobProvisioning, on(nil), old), api.JobFailed, api.ReasonWaitingRunner, nil},
		"old but pulling":       {testJob(api.JobPulling, on(task(hostapi.TaskPulling)), old), api.JobPulling, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inst := testInstance(api.InstanceBusy)
			v := jobViewOf(testRun(api.RunRunning), c.job, &inst)
			d := decideJob(v)
			expect(t, "status", v.job.Status, c.status)
			reason := api.JobReason("")
			if v.job.Reason != nil {
				reason = *v.job.Reason
			}
			expect(t, "reason", reason, c.reason)
			expect(t, "effects", doing(d), c.effects)
			if v.job.Status.Finished() {
				expect(t, "freed", []any{inst.Status, inst.BusyBlocks, inst.Orphans, v.job.InstanceID},
					[]any{api.InstanceIdle, 0, []string{"j1"}, (*string)(nil)})
				expect(t, "woken", woken(d), []string{"run r1", "instance i1"})
				expect(t, "released", d.released, "p1")
			}
		})
	}
}

// TestTimeToAccept: it counts from when the job may start.
func TestTimeToAccept(t *testing.T) {
	t.Parallel()
	old := func(j *store.Job) { j.SubmittedAt, j.Spec.JobsPerReplica = *ago(time.Hour), 2 }
	ordered := testRun(api.RunProvisioning, func(r *store.Run) { r.Spec.Configuration.Task.StartupOrder = ptr("workers-first") })
	for name, c := range map[string]struct {
		run    *store.Run
		worker store.Job
		host   *time.Time
		status api.JobStatus
		effect []string
	}{
		"the host was late":         {testRun(api.RunProvisioning), testJob(api.JobPulling, numbered(1, 0)), ago(time.Minute), api.JobProvisioning, []string{"start"}},
		"the host was there":        {testRun(api.RunProvisioning), testJob(api.JobPulling, numbered(1, 0)), ago(2 * time.Hour), api.JobFailed, nil},
		"a worker still pulls":      {ordered, testJob(api.JobPulling, numbered(1, 0)), ago(2 * time.Hour), api.JobProvisioning, nil},
		"the worker has begun":      {ordered, testJob(api.JobRunning, numbered(1, 0), func(j *store.Job) { j.RunningAt = ago(time.Minute) }), ago(2 * time.Hour), api.JobProvisioning, []string{"start"}},
		"the worker was quick":      {ordered, testJob(api.JobDone, numbered(1, 0), failed(api.ReasonDoneByRunner)), ago(time.Minute), api.JobProvisioning, []string{"start"}},
		"the worker began long ago": {ordered, testJob(api.JobRunning, numbered(1, 0), func(j *store.Job) { j.RunningAt = ago(30 * time.Minute) }), ago(2 * time.Hour), api.JobFailed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inst := testInstance(api.InstanceBusy, func(i *store.Instance) { i.StartedAt = c.host })
			v := jobViewOf(c.run, testJob(api.JobProvisioning, on(nil), old), &inst)
			v.siblings = append(v.siblings, &c.worker)
			d := decideJob(v)
			expect(t, "status", v.job.Status, c.status)
			expect(t, "effects", doing(d), c.effect)
		})
	}
}

// TestNobodyIsLostWhileNoServerLooked: the two minutes begin anew with the server.
func TestNobodyIsLostWhileNoServerLooked(t *testing.T) {
	t.Parallel()
	inst := testInstance(api.InstanceBusy)
	task := &hostapi.Task{ID: "j1", State: hostapi.TaskRunning}
	v := jobViewOf(testRun(api.RunRunning), testJob(api.JobRunning, on(task), func(j *store.Job) { j.DisconnectedAt = ago(time.Hour) }), &inst)
	v.recovered = *ago(time.Minute)
	d := decideJob(v)
	expect(t, "status", v.job.Status, api.JobRunning)
	expect(t, "looks again", d.next, now().Add(time.Minute))
	v.recovered = *ago(2 * time.Minute)
	decideJob(v)
	expect(t, "status", v.job.Status, api.JobFailed)
}

// TestNoStartBesideOrphans: the host is clean before it gets a new job.
func TestNoStartBesideOrphans(t *testing.T) {
	t.Parallel()
	inst := testInstance(api.InstanceBusy, func(i *store.Instance) { i.Orphans = []string{"old"} })
	v := jobViewOf(testRun(api.RunProvisioning), testJob(api.JobProvisioning, on(nil)), &inst)
	expect(t, "effects", doing(decideJob(v)), nil)
}

// TestStopJob is appendix 93, 94, 97, 99 and the grace of stop_duration.
func TestStopJob(t *testing.T) {
	t.Parallel()
	running := &hostapi.Task{ID: "j1", State: hostapi.TaskRunning}
	stop := func(reason api.JobReason, grace int, since time.Duration) func(*store.Job) {
		return func(j *store.Job) { j.Stop = &store.JobStop{Reason: reason, Grace: grace, At: *ago(since)} }
	}
	for name, c := range map[string]struct {
		job     store.Job
		status  api.JobStatus
		effects []string
		event   string
	}{
		"93 running": {
			testJob(api.JobRunning, on(running), stop(api.ReasonTerminatedByUser, 300, 0)), api.JobTerminating,
			[]string{"stop 300"}, "Graceful job stop requested",
		},
		"later":         {testJob(api.JobTerminating, on(running), stop(api.ReasonTerminatedByUser, 300, 100*time.Second)), api.JobTerminating, []string{"stop 200"}, ""},
		"grace is over": {testJob(api.JobTerminating, on(running), stop(api.ReasonTerminatedByUser, 300, 300*time.Second)), api.JobTerminating, []string{"stop 0"}, ""},
		"nothing helps": {testJob(api.JobTerminating, on(running), stop(api.ReasonTerminatedByUser, 300, 601*time.Second)), api.JobTerminated, nil, ""},
		"abort":         {testJob(api.JobRunning, on(running), stop(api.ReasonJobAbortedByUser, 0, 0)), api.JobTerminating, []string{"stop 0"}, "ABORTED_BY_USER"},
		"99 not placed": {testJob(api.JobSubmitted, stop(api.ReasonTerminatedByUser, 300, 0)), api.JobTerminated, nil, ""},
		"not accepted":  {testJob(api.JobProvisioning, on(nil), stop(api.ReasonTerminatedByUser, 300, 0)), api.JobTerminated, nil, ""},
		"pulling":       {testJob(api.JobPulling, on(&hostapi.Task{ID: "j1", State: hostapi.TaskPulling}), stop(api.ReasonTerminatedByUser, 300, 0)), api.JobTerminating, []string{"stop 300"}, ""},
		"94 ended":      {testJob(api.JobTerminating, on(&hostapi.Task{ID: "j1", State: hostapi.TaskTerminated}), stop(api.ReasonTerminatedByUser, 300, 0), failed(api.ReasonTerminatedByUser)), api.JobTerminated, nil, "Job status changed TERMINATING -> TERMINATED"},
		"ended meanwhile": {
			testJob(api.JobRunning, on(&hostapi.Task{ID: "j1", State: hostapi.TaskTerminated, Reason: "done_by_runner", ExitStatus: ptr(0)}),
				stop(api.ReasonTerminatedByUser, 300, 0)), api.JobTerminated, nil, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inst := testInstance(api.InstanceBusy)
			v := jobViewOf(testRun(api.RunTerminating), c.job, &inst)
			if c.job.InstanceID == nil {
				v.instance = nil
			}
			if c.job.Status == api.JobTerminating {
				v.job.Reason = &c.job.Stop.Reason
			}
			d := decideJob(v)
			expect(t, "status", v.job.Status, c.status)
			expect(t, "effects", doing(d), c.effects)
			if all := strings.Join(told(d), "\n"); !strings.Contains(all, c.event) {
				t.Errorf("events %q lack %q", all, c.event)
			}
		})
	}
}

// TestStopIsSeenBeforeTheRunsPass: a job never starts once its run is stopped.
func TestStopIsSeenBeforeTheRunsPass(t *testing.T) {
	t.Parallel()
	run := testRun(api.RunSubmitted, func(r *store.Run) { r.Stop = ptr(api.ReasonStoppedByUser) })
	v := jobViewOf(run, testJob(api.JobSubmitted), nil)
	v.pools = []offers.Pool{{Fleet: testFleet(), Instances: []store.Instance{testInstance(api.InstanceIdle)}}}
	decideJob(v)
	expect(t, "status", v.job.Status, api.JobTerminated)
}

func TestStopOverridesStop(t *testing.T) {
	t.Parallel()
	run := testRun(api.RunTerminating, func(r *store.Run) { r.Reason = ptr(api.ReasonStoppedByUser) })
	j := testJob(api.JobRunning)
	expect(t, "stop", stopJob(run, &j, now()), true)
	expect(t, "stop again", stopJob(run, &j, now()), false)
	run.Reason = ptr(api.ReasonAbortedByUser)
	expect(t, "abort", stopJob(run, &j, now()), true)
	expect(t, "kills", *j.Stop, store.JobStop{Reason: api.ReasonJobAbortedByUser, Grace: 0, At: now()})
	run.Reason = ptr(api.ReasonJobFailed)
	expect(t, "the server's wish is weaker", stopJob(run, &j, now()), false)
}
