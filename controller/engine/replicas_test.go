package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"dstack/controller/engine/jobspec"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// testService is a running service of n replicas, at deployment 1.
func testService(n int, change ...func(*config.Service)) *store.Run {
	s := &config.Service{
		Type: config.TypeService, Port: config.PortMapping{ContainerPort: 80}, Commands: []string{"new"},
		Replicas: &config.Range[int]{Min: &n, Max: &n},
	}
	for _, c := range change {
		c(s)
	}
	return testRun(api.RunRunning, func(r *store.Run) {
		r.Spec.Configuration, r.DeploymentNum = config.Run{Service: s}, 1
	})
}

// testReplica is the newest submission of a replica, up to date or not.
func testReplica(r *store.Run, num int, st api.JobStatus, old bool, change ...func(*store.Job)) store.Job {
	specs, err := jobspec.Replica(r.Spec, "0", num, nil, jobspec.Options{})
	if err != nil {
		panic(err)
	}
	j := testJob(st, change...)
	j.ID, j.ReplicaNum, j.Spec, j.DeploymentNum = fmt.Sprint("j", num), num, specs[0], 1
	if old {
		j.DeploymentNum, j.Spec.Commands = 0, []string{"old"}
	}
	if st.Finished() {
		j.FinishedAt = ago(0)
	}
	return j
}

// outcome lists the replicas that a decision stops and submits.
func outcome(d *decision) (stopped, submitted []int) {
	for _, j := range d.jobs {
		if j.Stop != nil {
			stopped = append(stopped, j.ReplicaNum)
		}
	}
	for _, j := range d.newJobs {
		submitted = append(submitted, j.ReplicaNum)
	}
	return stopped, submitted
}

// TestBalance is orchestration.md 7.1, 7.2 and appendix 24 to 28.
func TestBalance(t *testing.T) {
	t.Parallel()
	const running, submitted, pulling = api.JobRunning, api.JobSubmitted, api.JobPulling
	scaledDown := func(j *store.Job) { j.Stop = &store.JobStop{Reason: api.ReasonScaledDown} }
	type rep struct {
		st     api.JobStatus
		old    bool
		change func(*store.Job)
	}
	for name, c := range map[string]struct {
		want       int
		have       []rep
		stop, make []int
	}{
		"24 at the number":            {2, []rep{{st: running}, {st: running}}, nil, nil},
		"24 below":                    {3, []rep{{st: running}}, nil, []int{1, 2}},
		"24 above":                    {1, []rep{{st: running}, {st: running}}, []int{1}, nil},
		"the least important go":      {1, []rep{{st: submitted}, {st: running}}, []int{0}, nil},
		"26 one more, the old stays":  {1, []rep{{st: running, old: true}}, nil, []int{1}},
		"26 not more than one more":   {3, []rep{{st: running, old: true}, {st: running, old: true}, {st: running, old: true}}, nil, []int{3}},
		"26 the old wait for the new": {1, []rep{{st: running, old: true}, {st: pulling}}, nil, nil},
		"26 replaced":                 {1, []rep{{st: running, old: true}, {st: running}}, []int{0}, nil},
		"26 one that serves nobody":   {2, []rep{{st: running, old: true}, {st: pulling, old: true}}, []int{1}, []int{2}},
		"one that still ends counts":  {2, []rep{{st: running, old: true}, {st: api.JobTerminating, old: true, change: scaledDown}, {st: running}}, nil, nil},
		"a number that is free again": {2, []rep{{st: running}, {st: api.JobTerminated, change: failed(api.ReasonScaledDown)}}, nil, []int{1}},
		"one that failed":             {2, []rep{{st: running}, {st: api.JobFailed, change: func(j *store.Job) { on(nil)(j); failed(api.ReasonContainerError)(j) }}}, nil, []int{1}},
		"one that is failing":         {2, []rep{{st: running}, {st: api.JobTerminating, change: func(j *store.Job) { on(nil)(j); failed(api.ReasonContainerError)(j) }}}, nil, nil},
		"one that is done":            {2, []rep{{st: running}, {st: api.JobDone, change: failed(api.ReasonDoneByRunner)}}, nil, []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testService(c.want)
			var jobs []store.Job
			for i, h := range c.have {
				change := []func(*store.Job){}
				if h.change != nil {
					change = append(change, h.change)
				}
				j := testReplica(r, i, h.st, h.old, change...)
				j.Spec.Retry = &api.Retry{OnEvents: []string{"error"}, Duration: 3600}
				if !h.old { // it is what would be built now
					r.Spec.Configuration.Service.Retry = &config.RetryPolicy{OnEvents: []string{"error"}}
				}
				jobs = append(jobs, j)
			}
			d := decideRun(runView{now: now(), newID: ids(), run: r, jobs: jobs})
			stopped, made := outcome(d)
			expect(t, "stopped", stopped, c.stop)
			expect(t, "submitted", made, c.make)
			expect(t, "status", r.Status, api.RunRunning)
		})
	}
}

// TestBumpInPlace is appendix 25.
func TestBumpInPlace(t *testing.T) {
	t.Parallel()
	r := testService(1, func(s *config.Service) { s.Image = ptr("ubuntu") })
	same := testReplica(r, 0, api.JobRunning, false)
	same.DeploymentNum = 0
	d := decideRun(runView{now: now(), newID: ids(), run: r, jobs: []store.Job{same}})
	expect(t, "bumped", []int{len(d.newJobs), d.jobs[0].DeploymentNum}, []int{0, 1})

	same.DeploymentNum, same.Spec.Requirements.Resources.CPU.Arch = 0, ptr("x86")
	d = decideRun(runView{now: now(), newID: ids(), run: r, jobs: []store.Job{same}})
	expect(t, "any CPU will do", []int{len(d.newJobs), d.jobs[0].DeploymentNum}, []int{0, 1})
	expect(t, "the specification stays", d.jobs[0].Spec.Requirements.Resources.CPU.Arch, ptr("x86"))
}

// TestRemovedGroup is appendix 28: its replicas go, those of the new one come.
func TestRemovedGroup(t *testing.T) {
	t.Parallel()
	r := testService(1)
	gone := testReplica(r, 0, api.JobRunning, true)
	gone.Spec.ReplicaGroup = "gone"
	d := decideRun(runView{now: now(), newID: ids(), run: r, jobs: []store.Job{gone}})
	stopped, made := outcome(d)
	expect(t, "stopped", stopped, []int{0})
	expect(t, "submitted", made, []int{1})
	expect(t, "group", d.newJobs[0].Spec.ReplicaGroup, "0")
}

// TestServiceSleeps: a service that wants no replicas waits, and wakes when it
// wants some (appendix 11, 12).
func TestServiceSleeps(t *testing.T) {
	t.Parallel()
	r := testService(0)
	d := decideRun(runView{now: now(), newID: ids(), run: r, jobs: []store.Job{testReplica(r, 0, api.JobRunning, false)}})
	stopped, _ := outcome(d)
	expect(t, "the last one goes", stopped, []int{0})
	last := testReplica(r, 0, api.JobTerminated, false, failed(api.ReasonScaledDown))
	decideRun(runView{now: now(), newID: ids(), run: r, jobs: []store.Job{last}})
	expect(t, "asleep", r.Status, api.RunPending)
	d = decideRun(runView{now: now(), newID: ids(), run: r, jobs: []store.Job{last}})
	expect(t, "it waits", []any{d.next.IsZero(), len(d.newJobs)}, []any{true, 0})
	r.Spec.Configuration.Service.Replicas = &config.Range[int]{Min: ptr(2), Max: ptr(2)}
	d = decideRun(runView{now: now(), newID: ids(), run: r, jobs: []store.Job{last}})
	_, made := outcome(d)
	expect(t, "awake", []any{r.Status, made}, []any{api.RunSubmitted, []int{0, 1}})
}

// TestSpareReplica: a service that runs does not end because there is no room
// for one replica more.
func TestSpareReplica(t *testing.T) {
	t.Parallel()
	r := testService(2)
	full := testReplica(r, 1, api.JobFailed, false, failed(api.ReasonNoCapacity))
	d := decideRun(runView{now: now(), newID: ids(), run: r, jobs: []store.Job{testReplica(r, 0, api.JobRunning, false), full}})
	expect(t, "it runs on and tries again", []any{r.Status, len(d.newJobs), d.next}, []any{api.RunRunning, 0, now().Add(resubmitAfter(1))})
	r.Status = api.RunProvisioning
	decideRun(runView{now: now(), newID: ids(), run: r, jobs: []store.Job{testReplica(r, 0, api.JobPulling, false), full}})
	expect(t, "before it ran", r.Status, api.RunTerminating)
}

// TestBalanceKeepsServing: whatever the replicas are, a decision leaves at
// least as many that serve as are wanted, and makes at most one too many.
func TestBalanceKeepsServing(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	states := []api.JobStatus{api.JobSubmitted, api.JobProvisioning, api.JobPulling, api.JobRunning, api.JobRunning, api.JobTerminating, api.JobTerminated}
	for n := range 5000 {
		want := 1 + rng.IntN(3)
		r := testService(want)
		var jobs []store.Job
		for i := range 1 + rng.IntN(5) {
			st := states[rng.IntN(len(states))]
			j := testReplica(r, i, st, rng.IntN(2) == 0)
			if st == api.JobTerminating || st == api.JobTerminated {
				failed(api.ReasonScaledDown)(&j)
			}
			jobs = append(jobs, j)
		}
		serving := func() (n int) {
			for _, m := range replicasOf(latest(jobs)) {
				if m.ready() {
					n++
				}
			}
			return n
		}
		unfinished := 0
		for _, j := range jobs {
			if !j.Status.Finished() {
				unfinished++
			}
		}
		before := serving()
		d := decideRun(runView{now: now(), newID: ids(), run: r, jobs: jobs})
		if after := serving(); after < min(want, before) {
			t.Fatalf("case %d: %d serve, then %d, wanted are %d", n, before, after, want)
		}
		if made := len(d.newJobs); made > 0 && unfinished+made > want+1 {
			t.Fatalf("case %d: %d are there and %d more are made, wanted are %d", n, unfinished, made, want)
		}
	}
}
