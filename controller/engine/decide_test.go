package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// now is the time of all decisions under test.
func now() time.Time { return time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC) }

func ago(d time.Duration) *time.Time { t := now().Add(-d); return &t }

func ptr[T any](v T) *T { return &v }

func testRun(st api.RunStatus, change ...func(*store.Run)) *store.Run {
	name := "train"
	r := &store.Run{
		ID: "r1", ProjectID: "p1", UserID: "u1", Name: name, Status: st, SubmittedAt: *ago(time.Minute),
		Spec: api.RunSpec{RunName: &name, Configuration: config.Run{Task: &config.Task{Type: "task"}}},
	}
	for _, c := range change {
		c(r)
	}
	return r
}

func testJob(st api.JobStatus, change ...func(*store.Job)) store.Job {
	j := store.Job{
		ID: "j1", RunID: "r1", ProjectID: "p1", RunName: "train", Status: st, SubmittedAt: *ago(time.Minute),
		LastProcessedAt: *ago(time.Second),
		Spec:            api.JobSpec{JobName: "train-0-0", JobsPerReplica: 1, StopDuration: ptr(300)},
	}
	for _, c := range change {
		c(&j)
	}
	return j
}

// on puts a job on the test's instance.
func on(task *hostapi.Task) func(*store.Job) {
	return func(j *store.Job) {
		j.InstanceID, j.UsedInstanceID, j.Blocks = ptr("i1"), ptr("i1"), 1
		j.Provisioning = &api.JobProvisioningData{Dockerized: true}
		j.Runtime = &api.JobRuntimeData{NetworkMode: "host", Offer: &api.Offer{Blocks: 1, TotalBlocks: 1}}
		j.Task = task
		if j.Status == api.JobRunning {
			j.RunningAt = ago(30 * time.Second)
		}
	}
}

func failed(reason api.JobReason) func(*store.Job) {
	return func(j *store.Job) { j.Reason, j.FinishedAt = &reason, ago(time.Second) }
}

func numbered(id string, job, submission int) func(*store.Job) {
	return func(j *store.Job) {
		j.ID, j.JobNum, j.SubmissionNum = id, job, submission
		j.Spec.JobNum, j.Spec.JobName = job, fmt.Sprintf("train-%d-0", job)
	}
}

func retries(events ...string) func(*store.Job) {
	return func(j *store.Job) { j.Spec.Retry = &api.Retry{OnEvents: events, Duration: 3600} }
}

func testInstance(st api.InstanceStatus, change ...func(*store.Instance)) store.Instance {
	i := store.Instance{
		ID: "i1", ProjectID: "p1", FleetID: "f1", Name: "lab-0", Backend: "remote", Region: "remote", Status: st,
		CreatedAt: *ago(time.Minute), Hostname: "10.0.0.5", HostID: "h", TotalBlocks: 1,
		Type:   &api.InstanceType{Name: "instance", Resources: api.Resources{CPUs: 4, MemoryMiB: 16384, CPUArch: ptr("x86"), Disk: api.Disk{SizeMiB: 204800}}},
		Info:   &hostapi.Info{HostID: "h", Runtime: hostapi.Docker},
		Access: store.Access{Host: "10.0.0.5", Port: 22, User: "ubuntu"},
	}
	if st == api.InstanceBusy {
		i.BusyBlocks = 1
	}
	for _, c := range change {
		c(&i)
	}
	return i
}

func testFleet() store.Fleet {
	return store.Fleet{ID: "f1", ProjectID: "p1", Name: "lab", Status: api.FleetActive}
}

// told are the messages of a decision's events.
func told(d *decision) []string {
	var out []string
	for _, e := range d.events {
		out = append(out, e.Message)
	}
	return out
}

func doing(d *decision) []string {
	var out []string
	for _, f := range d.effects {
		s := string(f.Kind)
		if f.Kind == DoStop {
			s += fmt.Sprintf(" %d", f.Stop.Grace)
		}
		out = append(out, s)
	}
	return out
}

func woken(d *decision) []string {
	var out []string
	for _, k := range d.wakes {
		out = append(out, string(k.Kind)+" "+k.ID)
	}
	return out
}

func expect[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestRunFollowsJobs is orchestration.md 3.3 and appendix 14-23.
func TestRunFollowsJobs(t *testing.T) {
	t.Parallel()
	placed := on(nil)
	for name, c := range map[string]struct {
		run    *store.Run
		jobs   []store.Job
		status api.RunStatus
		reason api.RunReason
		events []string
	}{
		"14 provisioning": {
			testRun(api.RunSubmitted), []store.Job{testJob(api.JobProvisioning)}, api.RunProvisioning, "",
			[]string{"Run status changed SUBMITTED -> PROVISIONING"},
		},
		"14 pulling": {testRun(api.RunProvisioning), []store.Job{testJob(api.JobPulling)}, api.RunProvisioning, "", nil},
		"14 running": {
			testRun(api.RunProvisioning), []store.Job{testJob(api.JobRunning)}, api.RunRunning, "",
			[]string{"Run status changed PROVISIONING -> RUNNING"},
		},
		"a node that is late": {
			testRun(api.RunRunning),
			[]store.Job{testJob(api.JobDone, failed(api.ReasonDoneByRunner)), testJob(api.JobPulling, numbered("j2", 1, 0))},
			api.RunRunning, "", nil,
		},
		"14 all done": {
			testRun(api.RunRunning), []store.Job{testJob(api.JobDone, failed(api.ReasonDoneByRunner))}, api.RunDone, api.ReasonAllJobsDone,
			[]string{"Run status changed RUNNING -> TERMINATING. Termination reason: ALL_JOBS_DONE", "Run status changed TERMINATING -> DONE"},
		},
		"14 failed without retry": {
			testRun(api.RunRunning), []store.Job{testJob(api.JobFailed, failed(api.ReasonContainerError))}, api.RunFailed, api.ReasonJobFailed,
			[]string{"Run status changed RUNNING -> TERMINATING. Termination reason: JOB_FAILED", "Run status changed TERMINATING -> FAILED"},
		},
		"16 retryable": {
			testRun(api.RunRunning), []store.Job{testJob(api.JobFailed, placed, failed(api.ReasonContainerError), retries("error"))},
			api.RunPending, "", []string{"Run status changed RUNNING -> PENDING"},
		},
		"an event that is not in the policy": {
			testRun(api.RunRunning), []store.Job{testJob(api.JobFailed, placed, failed(api.ReasonContainerError), retries("interruption"))},
			api.RunFailed, api.ReasonJobFailed, nil,
		},
		"an error before the job had a place": {
			testRun(api.RunSubmitted), []store.Job{testJob(api.JobFailed, failed(api.ReasonVolumeError), retries("error"))},
			api.RunFailed, api.ReasonJobFailed, nil,
		},
		"stopped jobs are not retried": {
			testRun(api.RunRunning), []store.Job{testJob(api.JobTerminated, placed, failed(api.ReasonMaxDuration), retries("error"))},
			api.RunFailed, api.ReasonJobFailed, nil,
		},
		"19 no capacity, in time": {
			testRun(api.RunSubmitted), []store.Job{testJob(api.JobFailed, failed(api.ReasonNoCapacity), retries("no-capacity"))},
			api.RunPending, "", nil,
		},
		"19 no capacity, too late": {
			testRun(api.RunSubmitted, func(r *store.Run) { r.SubmittedAt = *ago(2 * time.Hour) }),
			[]store.Job{testJob(api.JobFailed, failed(api.ReasonNoCapacity), retries("no-capacity"))},
			api.RunFailed, api.ReasonRetryLimitExceeded, nil,
		},
		"19 no capacity, since this trigger": {
			testRun(api.RunSubmitted, func(r *store.Run) { r.SubmittedAt, r.NextTriggerAt = *ago(2 * time.Hour), ago(time.Minute) }),
			[]store.Job{testJob(api.JobFailed, failed(api.ReasonNoCapacity), retries("no-capacity"))},
			api.RunPending, "", nil,
		},
		"21 retry duration exceeded": {
			testRun(api.RunSubmitted),
			[]store.Job{
				testJob(api.JobFailed, placed, failed(api.ReasonInterrupted), retries("interruption", "no-capacity"),
					func(j *store.Job) { j.LastProcessedAt = *ago(2 * time.Hour) }),
				testJob(api.JobFailed, numbered("j2", 0, 1), failed(api.ReasonNoCapacity), retries("interruption", "no-capacity")),
			},
			api.RunFailed, api.ReasonRetryLimitExceeded, nil,
		},
		"22 master-done": {
			testRun(api.RunRunning, func(r *store.Run) { r.Spec.Configuration.Task.StopCriteria = ptr("master-done") }),
			[]store.Job{testJob(api.JobDone, failed(api.ReasonDoneByRunner)), testJob(api.JobRunning, numbered("j2", 1, 0))},
			api.RunTerminating, api.ReasonAllJobsDone, nil,
		},
		"a stop wins over what the jobs say": {
			testRun(api.RunRunning, func(r *store.Run) { r.Stop = ptr(api.ReasonStoppedByUser) }),
			[]store.Job{testJob(api.JobDone, failed(api.ReasonDoneByRunner))}, api.RunTerminated, api.ReasonStoppedByUser, nil,
		},
		"an abort replaces a stop": {
			testRun(api.RunTerminating, func(r *store.Run) {
				r.Reason, r.Stop = ptr(api.ReasonStoppedByUser), ptr(api.ReasonAbortedByUser)
			}),
			[]store.Job{testJob(api.JobTerminating)}, api.RunTerminating, api.ReasonAbortedByUser, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := decideRun(runView{now: now(), newID: ids(), run: c.run, jobs: c.jobs})
			expect(t, "status", c.run.Status, c.status)
			reason := api.RunReason("")
			if c.run.Reason != nil {
				reason = *c.run.Reason
			}
			expect(t, "reason", reason, c.reason)
			if c.events != nil {
				expect(t, "events", told(d), c.events)
			}
			expect(t, "final", d.final, c.run.Status.Finished())
		})
	}
}

func ids() func() string {
	n := 0
	return func() string { n++; return fmt.Sprintf("new-%d", n) }
}

// TestRunRetryTakesTheReplicaAlong is appendix 20.
func TestRunRetryTakesTheReplicaAlong(t *testing.T) {
	t.Parallel()
	r := testRun(api.RunRunning, func(r *store.Run) { r.FleetID = ptr("f1") })
	jobs := []store.Job{
		testJob(api.JobFailed, on(nil), failed(api.ReasonInterrupted), retries("interruption")),
		testJob(api.JobRunning, numbered("j2", 1, 0), on(nil)),
	}
	d := decideRun(runView{now: now(), newID: ids(), run: r, jobs: jobs})
	expect(t, "status", r.Status, api.RunPending)
	expect(t, "attempts", r.Resubmissions, 1)
	expect(t, "fleet", r.FleetID, nil)
	expect(t, "stop of the sibling", jobs[1].Stop,
		&store.JobStop{Reason: api.ReasonTerminatedByServer, Message: "Run is to be resubmitted", Grace: 300, At: now()})
	expect(t, "woken", woken(d), []string{"job j2", "run r1"})
}

// TestRunPending is appendix 7-9 and orchestration.md 3.5.
func TestRunPending(t *testing.T) {
	t.Parallel()
	retry := func(n int) func(*store.Run) { return func(r *store.Run) { r.Resubmissions = n } }
	scheduled := func(at *time.Time) func(*store.Run) {
		return func(r *store.Run) {
			r.NextTriggerAt = at
			r.Spec.Configuration.Task.Image = ptr("alpine")
			r.Spec.Configuration.Task.Schedule = &config.Schedule{Cron: []string{"0 * * * *"}}
		}
	}
	ended := func(d time.Duration) []store.Job {
		return []store.Job{testJob(api.JobFailed, failed(api.ReasonContainerError), func(j *store.Job) { j.FinishedAt = ago(d) })}
	}
	for name, c := range map[string]struct {
		run   *store.Run
		jobs  []store.Job
		added []int // submission numbers
		next  time.Duration
	}{
		"7 triggered":           {testRun(api.RunPending, scheduled(ago(time.Second))), nil, []int{0}, 0},
		"not yet triggered":     {testRun(api.RunPending, scheduled(ptr(now().Add(time.Hour)))), nil, nil, time.Hour},
		"triggered again":       {testRun(api.RunPending, scheduled(ago(0))), ended(time.Hour), []int{1}, 0},
		"8 delay not met":       {testRun(api.RunPending, retry(1)), ended(5 * time.Second), nil, 10 * time.Second},
		"9 delay met":           {testRun(api.RunPending, retry(1)), ended(15 * time.Second), []int{1}, 0},
		"delay of attempt 2":    {testRun(api.RunPending, retry(2)), ended(20 * time.Second), nil, 10 * time.Second},
		"delay of attempt 9":    {testRun(api.RunPending, retry(9)), ended(5 * time.Minute), nil, 5 * time.Minute},
		"waits for a live node": {testRun(api.RunPending, retry(1)), append(ended(time.Hour), testJob(api.JobTerminating, numbered("j2", 1, 0))), nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := decideRun(runView{now: now(), newID: ids(), run: c.run, jobs: c.jobs})
			var added []int
			for _, j := range d.newJobs {
				added = append(added, j.SubmissionNum)
			}
			expect(t, "added", added, c.added)
			if c.added != nil {
				expect(t, "status", c.run.Status, api.RunSubmitted)
				expect(t, "events", told(d), []string{"Job created on new submission. Status: SUBMITTED", "Run status changed PENDING -> SUBMITTED"})
				return
			}
			next := time.Duration(0)
			if !d.next.IsZero() {
				next = d.next.Sub(now())
			}
			expect(t, "next look", next, c.next)
		})
	}
}

// TestWaitingRunsTakeTurns: freed capacity goes to who comes first.
func TestWaitingRunsTakeTurns(t *testing.T) {
	t.Parallel()
	jobs := func() []store.Job {
		return []store.Job{testJob(api.JobFailed, failed(api.ReasonNoCapacity), retries("no-capacity"))}
	}
	view := func() runView {
		return runView{
			now: now(), newID: ids(), jobs: jobs(),
			run:   testRun(api.RunPending, func(r *store.Run) { r.Resubmissions = 3 }),
			pools: []offers.Pool{{Fleet: testFleet(), Instances: []store.Instance{testInstance(api.InstanceIdle)}}},
		}
	}
	v := view()
	decideRun(v)
	expect(t, "alone", v.run.Status, api.RunSubmitted)
	v = view()
	v.ahead = [][]offers.Request{{{Nodes: 1}}}
	decideRun(v)
	expect(t, "behind another", v.run.Status, api.RunPending)
}

// TestRunEnds is appendix 29-32.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	r := testRun(api.RunTerminating, func(r *store.Run) { r.Reason, r.Stop = ptr(api.ReasonStoppedByUser), ptr(api.ReasonStoppedByUser) })
	jobs := []store.Job{testJob(api.JobRunning, on(nil)), testJob(api.JobSubmitted, numbered("j2", 1, 0))}
	d := decideRun(runView{now: now(), run: r, jobs: jobs})
	expect(t, "status", r.Status, api.RunTerminating)
	for _, j := range jobs {
		expect(t, "stop of "+j.ID, j.Stop, &store.JobStop{Reason: api.ReasonTerminatedByUser, Grace: 300, At: now()})
	}
	expect(t, "woken", woken(d), []string{"job j1", "job j2"})
	d = decideRun(runView{now: now(), run: r, jobs: jobs})
	expect(t, "once told", woken(d), nil)

	r = testRun(api.RunTerminating, func(r *store.Run) {
		r.Reason = ptr(api.ReasonAllJobsDone)
		r.Resubmissions, r.FleetID = 2, ptr("f1")
		r.Spec.Configuration.Task.Schedule = &config.Schedule{Cron: []string{"0 12 * * *"}}
	})
	done := []store.Job{testJob(api.JobDone)}
	d = decideRun(runView{now: now(), run: r, jobs: done})
	expect(t, "scheduled: status", r.Status, api.RunPending)
	expect(t, "scheduled: next", r.NextTriggerAt, ptr(now().Add(2*time.Hour)))
	expect(t, "scheduled: fleet and attempts", []any{r.FleetID, r.Resubmissions}, []any{(*string)(nil), 0})
	expect(t, "scheduled: not final", d.final, false)

	r.Status, r.Stop = api.RunTerminating, ptr(api.ReasonStoppedByUser)
	decideRun(runView{now: now(), run: r, jobs: done})
	expect(t, "a stop ends the schedule", r.Status, api.RunTerminated)
}

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
		a, b := testJob(api.JobSubmitted, nodes), testJob(api.JobSubmitted, nodes, numbered("j2", 1, 0))
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
		"nothing helps": {testJob(api.JobTerminating, on(running), stop(api.ReasonTerminatedByUser, 300, 361*time.Second)), api.JobTerminated, nil, ""},
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

// TestInstance is appendix 104-106, 115, 116 and orchestration.md 8.1.
func TestInstance(t *testing.T) {
	t.Parallel()
	unmet := func(i *store.Instance) { i.HostID, i.Info, i.Type, i.TotalBlocks = "", nil, nil, 0 }
	met := func(i *store.Instance) {
		i.Type, i.TotalBlocks = nil, 0
		i.Info = &hostapi.Info{HostID: "h", Host: hostapi.Host{Arch: "amd64", CPUs: 4, MemoryBytes: 8 << 30, DiskBytes: 100 << 30, Addresses: []string{"203.0.113.9/24", "10.1.2.3/24"}}}
	}
	aged := func(i *store.Instance) { i.CreatedAt = *ago(10 * time.Minute) }
	said := func(s string) func(*store.Instance) { return func(i *store.Instance) { i.ReasonMessage = &s } }
	byUser := func(i *store.Instance) { i.Reason = ptr(api.ReasonInstanceTerminatedByUser) }
	for name, c := range map[string]struct {
		inst    store.Instance
		status  api.InstanceStatus
		message string
		effects []string
		events  []string
	}{
		"new":              {testInstance(api.InstancePending, unmet), api.InstancePending, "", []string{"ensure"}, nil},
		"115 comes up":     {testInstance(api.InstancePending, met), api.InstanceIdle, "", []string{"ensure"}, []string{"Instance status changed PENDING -> IDLE"}},
		"115 does not yet": {testInstance(api.InstancePending, unmet, said("refused")), api.InstancePending, "refused", []string{"ensure"}, nil},
		"115 too late": {
			testInstance(api.InstancePending, unmet, said("refused. look"), aged), api.InstanceTerminated,
			"Failed to add SSH instance in 600s. refused. look", []string{"ensure", "forget"},
			[]string{"Instance status changed PENDING -> TERMINATED. Termination reason: PROVISIONING_TIMEOUT (Failed to add SSH instance in 600s. refused. look)"},
		},
		"115 for good": {
			testInstance(api.InstancePending, unmet, said("wrong arch"), func(i *store.Instance) { i.Reason = ptr(api.ReasonInstanceError) }),
			api.InstanceTerminated, "wrong arch", []string{"ensure", "forget"},
			[]string{"Instance status changed PENDING -> TERMINATED. Termination reason: ERROR (wrong arch)"},
		},
		"115 odd blocks": {
			testInstance(api.InstancePending, met, func(i *store.Instance) { i.BlocksWanted.Count = 3 }),
			api.InstanceTerminating, "Cannot split into blocks: 4 CPUs and 0 GPUs do not divide by 3", []string{"ensure", "forget", "uninstall"}, nil,
		},
		"115 foreign address": {
			testInstance(api.InstancePending, met, func(i *store.Instance) { i.Access.Internal = "10.9.9.9" }),
			api.InstanceTerminating, "Specified internal IP not found among instance interfaces: 10.9.9.9", []string{"ensure", "forget", "uninstall"}, nil,
		},
		"115 foreign network": {
			testInstance(api.InstancePending, met, func(i *store.Instance) { i.Access.Network = "192.168.0.0/16" }),
			api.InstanceTerminating, "Failed to locate internal IP address on the given network", []string{"ensure", "forget", "uninstall"}, nil,
		},
		"105 away":        {testInstance(api.InstanceIdle, func(i *store.Instance) { i.Unreachable, i.UnreachableSince = true, ago(48*time.Hour) }), api.InstanceIdle, "", []string{"ensure"}, nil},
		"left over":       {testInstance(api.InstanceBusy, func(i *store.Instance) { i.Orphans = []string{"a", "b"} }), api.InstanceBusy, "", []string{"ensure", "remove", "remove"}, nil},
		"116 deleted":     {testInstance(api.InstanceTerminating, byUser), api.InstanceTerminating, "", []string{"forget", "uninstall"}, nil},
		"116 uninstalled": {testInstance(api.InstanceTerminating, byUser, func(i *store.Instance) { i.Uninstalled = true }), api.InstanceTerminated, "", []string{"forget"}, []string{"Instance status changed TERMINATING -> TERMINATED"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := decideInstance(instanceView{now: now(), inst: &c.inst})
			expect(t, "status", c.inst.Status, c.status)
			message := ""
			if c.inst.ReasonMessage != nil {
				message = *c.inst.ReasonMessage
			}
			expect(t, "message", message, c.message)
			expect(t, "effects", doing(d), c.effects)
			if c.events != nil {
				expect(t, "events", told(d), c.events)
			}
			expect(t, "final", d.final, c.status == api.InstanceTerminated)
		})
	}
}

func TestInstanceFacts(t *testing.T) {
	t.Parallel()
	i := store.Instance{BlocksWanted: config.Blocks{Auto: true}, Info: &hostapi.Info{Host: hostapi.Host{
		Arch: "arm64", CPUs: 8, MemoryBytes: 64 << 30, DiskBytes: 1 << 40, Addresses: []string{"203.0.113.9/24", "10.1.2.3/24"},
		GPUVendor: "nvidia", GPUDriver: "570.1", GPUs: []hostapi.GPU{{Name: "H100", MemoryBytes: 80 << 30}, {Name: "H100", MemoryBytes: 80 << 30}},
	}}}
	if err := describe(&i); err != nil {
		t.Fatal(err)
	}
	nvidia, gpu := ptr("nvidia"), api.GPU{Name: "H100", MemoryMiB: 81920, Vendor: ptr("nvidia")}
	expect(t, "type", i.Type, &api.InstanceType{Name: "instance", Resources: api.Resources{
		CPUs: 8, MemoryMiB: 65536, GPUs: []api.GPU{gpu, gpu}, Disk: api.Disk{SizeMiB: 1 << 20}, CPUArch: ptr("arm"),
	}})
	expect(t, "blocks, address, driver", []any{i.TotalBlocks, *i.InternalIP, *i.GPUDriver},
		[]any{2, "10.1.2.3", api.GPUDriverInfo{Vendor: nvidia, Version: "570.1"}})
}

// TestFleet is appendix 121.
func TestFleet(t *testing.T) {
	t.Parallel()
	f := testFleet()
	expect(t, "active and empty: kept", decideFleet(fleetView{fleet: &f}).changes(), false)
	f.Status = api.FleetTerminating
	expect(t, "not empty: waits", decideFleet(fleetView{fleet: &f, instances: []store.Instance{{}}}).changes(), false)
	d := decideFleet(fleetView{fleet: &f})
	expect(t, "gone", []any{f.Status, f.Deleted, d.final}, []any{api.FleetTerminated, true, true})
	expect(t, "events", told(d), []string{"Fleet status changed TERMINATING -> TERMINATED"})
}
