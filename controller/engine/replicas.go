package engine

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"

	"dstack/controller/engine/jobspec"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// replica are the newest submissions of the jobs of one replica.
type replica struct {
	num   int
	group string
	jobs  []*store.Job
}

// replicasOf splits the newest submissions, which are ordered by replica.
func replicasOf(jobs []*store.Job) []replica {
	var out []replica
	for _, j := range jobs {
		if n := len(out); n == 0 || out[n-1].num != j.ReplicaNum {
			out = append(out, replica{num: j.ReplicaNum, group: j.Spec.ReplicaGroup})
		}
		last := &out[len(out)-1]
		last.jobs = append(last.jobs, j)
	}
	return out
}

// over says that all jobs of the replica ended.
func (r replica) over() bool {
	return !slices.ContainsFunc(r.jobs, func(j *store.Job) bool { return !j.Status.Finished() })
}

// leaving says that the replica is not wanted any more.
func (r replica) leaving() bool {
	return slices.ContainsFunc(r.jobs, func(j *store.Job) bool {
		return j.Stop != nil && j.Stop.Reason == api.ReasonScaledDown || j.Reason != nil && *j.Reason == api.ReasonScaledDown
	})
}

// ending says that the replica ends, for whatever reason.
func (r replica) ending() bool {
	return slices.ContainsFunc(r.jobs, func(j *store.Job) bool {
		return j.Stop != nil || j.Status == api.JobTerminating || j.Status.Finished()
	})
}

// ready says that the replica serves requests. Probes do not count yet: a
// replica that runs is ready.
func (r replica) ready() bool {
	return !r.ending() && !slices.ContainsFunc(r.jobs, func(j *store.Job) bool { return j.Status != api.JobRunning })
}

// importance orders replicas by how much is lost with them.
func (r replica) importance() int {
	switch {
	case r.ready():
		return 2
	case slices.ContainsFunc(r.jobs, func(j *store.Job) bool { return j.Status == api.JobSubmitted }):
		return 0
	}
	return 1
}

// balance brings the replicas of a service to the wanted number in each group,
// and to the present deployment (spec: orchestration.md 7.1, 7.2).
func (v runView) balance(d *decision, list []replica) {
	groups := jobspec.ReplicaGroups(v.run.Spec.Configuration)
	for _, r := range list {
		if !slices.ContainsFunc(groups, func(g jobspec.ReplicaGroup) bool { return g.Name == r.group }) {
			v.scaleDown(d, r)
		}
	}
	next := v.nextReplica()
	for _, g := range groups {
		next = v.balanceGroup(d, g, of(list, g.Name), next)
	}
}

func of(list []replica, group string) []replica {
	var out []replica
	for _, r := range list {
		if r.group == group {
			out = append(out, r)
		}
	}
	return out
}

// nextReplica is the lowest number that no replica ever had.
func (v runView) nextReplica() int {
	next := 0
	for i := range v.jobs {
		next = max(next, v.jobs[i].ReplicaNum+1)
	}
	return next
}

func (v runView) balanceGroup(d *decision, g jobspec.ReplicaGroup, list []replica, next int) int {
	var current, old []replica
	busy, serving, returning := 0, 0, 0
	for _, r := range list {
		if !r.over() {
			busy++
		}
		if r.ending() {
			if !r.over() && !r.leaving() {
				returning++ // it is submitted again when it ended
			}
			continue
		}
		if r.ready() {
			serving++
		}
		if v.upToDate(d, r) {
			current = append(current, r)
		} else {
			old = append(old, r)
		}
	}
	byImportance(current)
	byImportance(old)
	for i := len(old) - 1; i >= 0; i-- {
		// Those that serve nobody go at once, others when they are replaced.
		if !old[i].ready() {
			v.scaleDown(d, old[i])
		} else if serving > g.Min {
			v.scaleDown(d, old[i])
			serving--
		}
	}
	for len(current) > g.Min {
		v.scaleDown(d, current[len(current)-1])
		current = current[:len(current)-1]
	}
	// At most one replica more than wanted, those that still end included.
	missing := min(g.Min-len(current)-returning, g.Min+1-busy)
	return v.fill(d, g, list, missing, next)
}

func byImportance(list []replica) {
	slices.SortStableFunc(list, func(a, b replica) int {
		return cmp.Or(cmp.Compare(b.importance(), a.importance()), cmp.Compare(a.num, b.num))
	})
}

// fill submits replicas: those again that ended, then new ones.
func (v runView) fill(d *decision, g jobspec.ReplicaGroup, list []replica, missing, next int) int {
	for _, r := range list {
		if missing <= 0 {
			return next
		}
		if !r.over() {
			continue
		}
		missing--
		if due := v.restartAt(r); v.now.Before(due) && !r.leaving() {
			d.at(due)
			continue
		}
		v.submitReplica(d, g.Name, r.num, r.jobs, "retry")
	}
	for ; missing > 0; missing-- {
		v.submitReplica(d, g.Name, next, nil, "retry")
		next++
	}
	return next
}

// submitReplica makes the next submission of all jobs of a replica, whose last
// ones are given.
func (v runView) submitReplica(d *decision, group string, num int, last []*store.Job, on string) {
	specs, err := jobspec.Replica(v.run.Spec, group, num, nil, v.opts)
	if err != nil || len(specs) == 0 {
		v.end(d, api.ReasonServerError)
		return
	}
	for _, spec := range specs {
		submission := 0
		for _, j := range last {
			if j.JobNum == spec.JobNum {
				v.forget(d, j)
				submission = j.SubmissionNum + 1
			}
		}
		v.add(d, newJob(v.run, spec, submission), on)
	}
}

func (v runView) scaleDown(d *decision, r replica) {
	for _, j := range r.jobs {
		if j.Status.Finished() || j.Stop != nil {
			continue
		}
		j.Stop = &store.JobStop{Reason: api.ReasonScaledDown, Grace: grace(j.Spec), At: v.now}
		d.saveJob(j)
		d.wake(store.KindJob, j.ID)
	}
}

// upToDate says whether a replica runs what the run wants now. One that would
// be the same is taken to the present deployment as it is.
func (v runView) upToDate(d *decision, r replica) bool {
	stale := func(j *store.Job) bool { return j.DeploymentNum != v.run.DeploymentNum }
	if !slices.ContainsFunc(r.jobs, stale) {
		return true
	}
	specs, err := jobspec.Replica(v.run.Spec, r.group, r.num, nil, v.opts)
	if err != nil || len(specs) != len(r.jobs) {
		return false
	}
	for i, j := range r.jobs {
		if !sameJob(j.Spec, specs[i]) {
			return false
		}
	}
	for _, j := range r.jobs {
		j.DeploymentNum = v.run.DeploymentNum
		d.saveJob(j)
	}
	return true
}

// sameJob compares what clients would see; that any CPU will do is no change.
func sameJob(old, updated api.JobSpec) bool {
	if updated.Requirements.Resources.CPU.Arch == nil {
		updated.Requirements.Resources.CPU.Arch = old.Requirements.Resources.CPU.Arch
	}
	a, errA := json.Marshal(old)
	b, errB := json.Marshal(updated)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}
