package engine

import (
	"fmt"
	"testing"
	"time"

	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

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
			[]store.Job{testJob(api.JobDone, failed(api.ReasonDoneByRunner)), testJob(api.JobPulling, numbered(1, 0))},
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
				testJob(api.JobFailed, numbered(0, 1), failed(api.ReasonNoCapacity), retries("interruption", "no-capacity")),
			},
			api.RunFailed, api.ReasonRetryLimitExceeded, nil,
		},
		"a gang of which only some had places, in time": {
			testRun(api.RunSubmitted), gang(0, time.Minute), api.RunPending, "", nil,
		},
		"a gang of which only some had places, too late": {
			testRun(api.RunSubmitted, func(r *store.Run) { r.SubmittedAt = *ago(2 * time.Hour) }),
			gang(0, time.Minute), api.RunTerminating, api.ReasonRetryLimitExceeded, nil,
		},
		"a gang of which all had places before": {
			testRun(api.RunSubmitted, func(r *store.Run) { r.SubmittedAt = *ago(20 * time.Hour) }),
			gang(1, time.Minute), api.RunPending, "", nil,
		},
		"a gang of which all had places long before": {
			testRun(api.RunSubmitted, func(r *store.Run) { r.SubmittedAt = *ago(20 * time.Hour) }),
			gang(1, 2*time.Hour), api.RunTerminating, api.ReasonRetryLimitExceeded, nil,
		},
		"a machine that never came up, in time": {
			testRun(api.RunProvisioning), stillborn(40 * time.Minute), api.RunPending, "", nil,
		},
		"machines that never came up, too late": {
			testRun(api.RunProvisioning), stillborn(2*time.Hour, 40*time.Minute), api.RunFailed, api.ReasonRetryLimitExceeded, nil,
		},
		"machines that never came up, since this trigger": {
			testRun(api.RunProvisioning, func(r *store.Run) { r.NextTriggerAt = ago(50 * time.Minute) }),
			stillborn(2*time.Hour, 40*time.Minute), api.RunPending, "", nil,
		},
		"a machine that never came up, long after one that did": {
			testRun(api.RunProvisioning), append([]store.Job{
				testJob(api.JobFailed, placed, failed(api.ReasonContainerError), retries("error"), func(j *store.Job) { j.LastProcessedAt = *ago(2 * time.Hour) }),
			}, stillborn(40*time.Minute)...), api.RunFailed, api.ReasonRetryLimitExceeded, nil,
		},
		"machines of different nodes that never came up, too late": {
			testRun(api.RunProvisioning, func(r *store.Run) { r.SubmittedAt = *ago(2 * time.Hour) }), stillbornGang(), api.RunTerminating, api.ReasonRetryLimitExceeded, nil,
		},
		"22 master-done": {
			testRun(api.RunRunning, func(r *store.Run) { r.Spec.Configuration.Task.StopCriteria = ptr("master-done") }),
			[]store.Job{testJob(api.JobDone, failed(api.ReasonDoneByRunner)), testJob(api.JobRunning, numbered(1, 0))},
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

// gang are the jobs of a replica of two: so many submissions in which both had
// places, until so long ago; two with a place for one of them each.
func gang(whole int, end time.Duration) []store.Job {
	var out []store.Job
	for num := range 2 {
		for submission := range whole + 2 {
			j := testJob(api.JobFailed, numbered(num, submission), failed(api.ReasonNoCapacity), retries("no-capacity"))
			j.Spec.JobsPerReplica = 2
			switch {
			case submission < whole:
				on(nil)(&j)
				j.LastProcessedAt = *ago(end)
			case submission%2 == num:
				on(nil)(&j)
				failed(api.ReasonTerminatedByServer)(&j)
				if submission == whole+1 { // it waits for the others still
					j.Status, j.Reason, j.FinishedAt = api.JobProvisioning, nil, nil
				}
			}
			out = append(out, j)
		}
	}
	return out
}

// stillborn are submissions of a job, each so long ago, whose machines never
// came up.
func stillborn(since ...time.Duration) []store.Job {
	var out []store.Job
	for n, d := range since {
		j := testJob(api.JobFailed, numbered(0, n+1), on(nil), failed(api.ReasonWaitingInstance), retries("error"))
		j.SubmittedAt, j.LastProcessedAt = *ago(d), *ago(d - 10*time.Minute)
		out = append(out, j)
	}
	return out
}

// stillbornGang are submissions of two nodes: of each, the machine of another
// one never came up.
func stillbornGang() []store.Job {
	var out []store.Job
	for num := range 2 {
		list := stillborn(2*time.Hour, 40*time.Minute)
		for n := range list {
			list[n].JobNum, list[n].Spec.JobNum = num, num
			switch n {
			case num:
			case 0:
				failed(api.ReasonTerminatedByServer)(&list[n])
			default: // it waits for the others still
				list[n].Status, list[n].Reason, list[n].FinishedAt = api.JobProvisioning, nil, nil
			}
		}
		out = append(out, list...)
	}
	return out
}

// TestRetriesComeLater: that there is room for one of two does not let the next
// attempt come sooner.
func TestRetriesComeLater(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		second api.JobStatus
		want   int
	}{
		"one has a place":  {api.JobSubmitted, 4},
		"both have places": {api.JobProvisioning, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testRun(api.RunSubmitted, func(r *store.Run) { r.Resubmissions = 4 })
			jobs := []store.Job{testJob(api.JobProvisioning, on(nil)), testJob(c.second, numbered(1, 0))}
			decideRun(runView{now: now(), newID: ids(), run: r, jobs: jobs})
			expect(t, "status", r.Status, api.RunProvisioning)
			expect(t, "attempts", r.Resubmissions, c.want)
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
		testJob(api.JobRunning, numbered(1, 0), on(nil)),
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
		"waits for a live node": {testRun(api.RunPending, retry(1)), append(ended(time.Hour), testJob(api.JobTerminating, numbered(1, 0))), nil, 0},
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

// TestResubmissionForgets is appendix 10: submissions that lacked capacity go,
// except the direct predecessor.
func TestResubmissionForgets(t *testing.T) {
	t.Parallel()
	noCapacity := failed(api.ReasonNoCapacity)
	jobs := []store.Job{
		testJob(api.JobFailed, noCapacity),
		testJob(api.JobFailed, numbered(0, 1), on(nil), noCapacity),
		testJob(api.JobFailed, numbered(0, 2), failed(api.ReasonVolumeError)),
		testJob(api.JobFailed, numbered(0, 3), noCapacity),
		testJob(api.JobFailed, numbered(0, 4), noCapacity, func(j *store.Job) { j.FinishedAt = ago(time.Hour) }),
	}
	for i := range jobs {
		jobs[i].ID = fmt.Sprint("s", i)
	}
	r := testRun(api.RunPending, func(r *store.Run) { r.Resubmissions = 5 })
	d := decideRun(runView{now: now(), newID: ids(), run: r, jobs: jobs})
	expect(t, "forgotten", d.oldJobs, []string{"s0", "s3"})
	expect(t, "new submission", d.newJobs[0].SubmissionNum, 5)
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
	jobs := []store.Job{testJob(api.JobRunning, on(nil)), testJob(api.JobSubmitted, numbered(1, 0))}
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
