package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"dstack/controller/engine/jobspec"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// latest keeps the newest submission of each job; jobs are ordered by
// replica, number and submission.
func latest(jobs []store.Job) []*store.Job {
	var out []*store.Job
	for i := range jobs {
		j := &jobs[i]
		if n := len(out); n > 0 && out[n-1].ReplicaNum == j.ReplicaNum && out[n-1].JobNum == j.JobNum {
			out[n-1] = j
			continue
		}
		out = append(out, j)
	}
	return out
}

// errGone says that the resource of a key does not exist (any more).
var errGone = errors.New("gone")

// found tells a missing resource from one of which a part is missing.
func found[T any](row T, err error) (T, error) {
	if errors.Is(err, store.ErrNotFound) {
		return row, errGone
	}
	return row, err
}

func (e *Engine) runView(tx *store.Tx, id string) (runView, error) {
	run, err := found(tx.Run(id))
	if err != nil {
		return runView{}, err
	}
	v := runView{now: e.now(), newID: e.cfg.NewID, opts: e.cfg.Jobs, run: &run}
	if v.jobs, err = tx.JobsByRun(id); err != nil {
		return runView{}, err
	}
	if run.Status != api.RunPending || run.Stop != nil || !lacksCapacity(latest(v.jobs)) {
		return v, nil
	}
	project, err := tx.Project(run.ProjectID)
	if err != nil {
		return runView{}, err
	}
	if v.pools, err = offers.Load(tx, project); err != nil {
		return runView{}, err
	}
	if v.disks, err = loadDisks(tx, run.ProjectID, latest(v.jobs)); err != nil {
		return runView{}, err
	}
	return v, e.loadAhead(tx, &v)
}

// loadAhead finds the waiting runs that come before this one.
func (e *Engine) loadAhead(tx *store.Tx, v *runView) error {
	runs, err := tx.WaitingRuns(v.run.ProjectID)
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.ID == v.run.ID {
			v.noLocal, err = e.noLocal(tx, r)
			return err
		}
		jobs, err := tx.LatestJobsByRun(r.ID)
		if err != nil {
			return err
		}
		list := latest(jobs)
		if !lacksCapacity(list) {
			continue
		}
		asks, err := e.asks(tx, &r, list)
		if err != nil {
			return err
		}
		v.ahead = append(v.ahead, asks...)
	}
	return nil
}

// before orders runs by priority, then age.
func before(a, b store.Run) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.SubmittedAt.Compare(b.SubmittedAt), cmp.Compare(a.ID, b.ID))
}

// waitingJob is a job that looks for a place for its whole replica.
type waitingJob struct {
	job store.Job
	run store.Run
}

// waitingJobs are the first jobs of all replicas without a place, by
// priority, then age. They are few: a job waits only while a host is being
// prepared.
func waitingJobs(tx *store.Tx, projectID string) ([]waitingJob, error) {
	jobs, err := tx.WaitingJobs(projectID)
	if err != nil {
		return nil, err
	}
	var out []waitingJob
	for _, j := range jobs {
		if j.JobNum != 0 || j.Stop != nil {
			continue
		}
		run, err := tx.Run(j.RunID)
		if err != nil {
			return nil, err
		}
		if run.Stop == nil {
			out = append(out, waitingJob{j, run})
		}
	}
	slices.SortStableFunc(out, func(a, b waitingJob) int { return before(a.run, b.run) })
	return out, nil
}

func (e *Engine) noLocal(tx *store.Tx, run store.Run) (bool, error) {
	if e.cfg.LocalShared {
		return false, nil
	}
	user, err := tx.User(run.UserID)
	if err != nil {
		return false, fmt.Errorf("read user: %w", err)
	}
	return user.GlobalRole != "admin", nil
}

// asks is what jobs of a run ask for that come before others.
func (e *Engine) asks(tx *store.Tx, run *store.Run, jobs []*store.Job) ([][]offers.Request, error) {
	noLocal, err := e.noLocal(tx, *run)
	if err != nil {
		return nil, err
	}
	need, err := loadDisks(tx, run.ProjectID, jobs)
	if err != nil {
		return nil, err
	}
	return gangs(run, jobs, noLocal, need), nil
}

// gangs is what the replicas of a run ask for, each for its jobs together.
func gangs(run *store.Run, jobs []*store.Job, noLocal bool, need disks) [][]offers.Request {
	var out [][]offers.Request
	for _, r := range replicasOf(jobs) {
		if !need.taken(r.jobs) {
			out = append(out, requests(run, r.jobs, noLocal, need))
		}
	}
	return out
}

// requests is what the jobs of one replica ask for together. The replicas of a
// service may be in different fleets.
func requests(run *store.Run, jobs []*store.Job, noLocal bool, need disks) []offers.Request {
	profile := run.Spec.Params()
	out := make([]offers.Request, len(jobs))
	for i, j := range jobs {
		out[i] = offers.Request{
			Requirements: j.Spec.Requirements,
			Profile:      profile,
			Nodes:        len(jobs),
			NoLocal:      noLocal,
			Volumes:      need[j.ID],
		}
		if run.FleetID != nil && run.Spec.Configuration.Service == nil {
			out[i].FleetID = *run.FleetID
		}
	}
	return out
}

func (e *Engine) jobView(tx *store.Tx, id string) (jobView, error) {
	job, err := found(tx.Job(id))
	if err != nil {
		return jobView{}, err
	}
	v := jobView{now: e.now(), opts: e.cfg.Jobs, job: &job, recovered: e.recoveredAt(), loseWakes: e.faults.loseWakes}
	v.newID = e.cfg.NewID
	if job.Status.Finished() {
		return v, nil
	}
	run, err := tx.Run(job.RunID)
	if err != nil {
		return jobView{}, err
	}
	v.run = &run
	v.siblings = []*store.Job{v.job}
	if job.Spec.JobsPerReplica > 1 {
		if err := v.loadSiblings(tx); err != nil {
			return jobView{}, err
		}
	}
	if job.InstanceID != nil {
		inst, err := tx.Instance(*job.InstanceID)
		if err != nil {
			return jobView{}, err
		}
		v.instance = &inst
	}
	if v.attached, err = loadAttached(tx, &job); err != nil {
		return jobView{}, err
	}
	if job.Status == api.JobRunning {
		v.idle = e.idleOf(&job)
		return v, v.loadUsage(tx)
	}
	if job.Status != api.JobSubmitted && job.Status != api.JobProvisioning {
		return v, nil
	}
	if v.project, err = tx.Project(job.ProjectID); err != nil {
		return jobView{}, err
	}
	if err := errors.Join(v.loadSecrets(tx), v.loadSource(tx)); err != nil {
		return jobView{}, err
	}
	if job.Spec.ServicePort != nil && jobspec.MentionsAddresses(job.Spec.Commands) {
		jobs, err := tx.LatestJobsByRun(job.RunID)
		if err != nil {
			return jobView{}, err
		}
		v.peers = latest(jobs)
	}
	if job.Status == api.JobSubmitted && job.InstanceID != nil {
		fleet, err := tx.Fleet(v.instance.FleetID)
		if err != nil {
			return jobView{}, err
		}
		v.pools = []offers.Pool{{Fleet: fleet, Instances: []store.Instance{*v.instance}}}
		return v, v.loadRoom(tx)
	}
	if job.Status != api.JobSubmitted || job.Stop != nil || job.JobNum != 0 {
		return v, nil
	}
	if v.noLocal, err = e.noLocal(tx, run); err != nil {
		return jobView{}, err
	}
	if v.pools, err = offers.Load(tx, v.project); err != nil {
		return jobView{}, err
	}
	if err := v.loadRoom(tx); err != nil {
		return jobView{}, err
	}
	return v, errors.Join(e.loadGrowth(tx, &v), e.loadRivals(tx, &v))
}

// loadGrowth finds what machines there could be besides those of the pools.
func (e *Engine) loadGrowth(tx *store.Tx, v *jobView) error {
	v.nums = map[string][]store.Instance{}
	for _, p := range v.pools {
		if !isCloud(&p.Fleet) || p.Imported {
			continue
		}
		list, err := tx.InstancesOfFleet(p.Fleet.ID)
		if err != nil {
			return err
		}
		v.nums[p.Fleet.ID] = list
	}
	if len(v.nums) == 0 || e.cfg.Clouds == nil {
		return nil
	}
	user, err := tx.User(v.run.UserID)
	if err != nil {
		return err
	}
	v.user = user.Name
	configured, err := tx.Backends(v.project.ID)
	if err != nil {
		return err
	}
	v.shelves = e.cfg.Clouds.Peek(configured)
	return nil
}

// loadRivals finds the jobs that come first among those without a place.
func (e *Engine) loadRivals(tx *store.Tx, v *jobView) error {
	rivals, err := waitingJobs(tx, v.job.ProjectID)
	if err != nil {
		return err
	}
	for _, w := range rivals {
		if w.job.ID == v.job.ID {
			return nil
		}
		jobs, err := tx.LatestJobsByRun(w.run.ID)
		if err != nil {
			return err
		}
		for _, r := range replicasOf(latest(jobs)) {
			if r.num != w.job.ReplicaNum {
				continue
			}
			asks, err := e.asks(tx, &w.run, r.jobs)
			if err != nil {
				return err
			}
			v.ahead = append(v.ahead, asks...)
		}
	}
	return nil
}

func (v *jobView) loadSecrets(tx *store.Tx) error {
	names := jobspec.SecretNames(v.job.Spec)
	if len(names) == 0 {
		return nil
	}
	rows, err := tx.SecretsByName(v.job.ProjectID, names)
	if err != nil {
		return err
	}
	v.secrets = make(map[string]string, len(rows))
	for _, s := range rows {
		v.secrets[s.Name] = s.Value
	}
	return nil
}

func (v *jobView) loadSiblings(tx *store.Tx) error {
	jobs, err := tx.LatestJobsByRun(v.job.RunID)
	if err != nil {
		return err
	}
	v.siblings = nil
	for _, j := range latest(jobs) {
		switch {
		case j.ID == v.job.ID:
			v.siblings = append(v.siblings, v.job)
		case j.ReplicaNum == v.job.ReplicaNum:
			v.siblings = append(v.siblings, j)
		}
	}
	return nil
}

func (e *Engine) instanceView(tx *store.Tx, id string) (instanceView, error) {
	inst, err := found(tx.Instance(id))
	if err != nil {
		return instanceView{}, err
	}
	v := instanceView{now: e.now(), inst: &inst}
	if v.jobs, err = tx.JobsOnInstance(id); err != nil || inst.Backend == backendSSH {
		return v, err
	}
	v.cloudView, err = e.cloudView(tx, &inst)
	return v, err
}

func (e *Engine) fleetView(tx *store.Tx, id string) (fleetView, error) {
	fleet, err := found(tx.Fleet(id))
	if err != nil {
		return fleetView{}, err
	}
	v := fleetView{now: e.now(), newID: e.cfg.NewID, serverID: e.cfg.ServerID, fleet: &fleet}
	if v.instances, err = tx.InstancesOfFleet(id); err != nil || e.cfg.Clouds == nil || !v.splits() {
		return v, err
	}
	configured, err := tx.Backends(fleet.ProjectID)
	if err != nil {
		return fleetView{}, err
	}
	v.shelves = e.cfg.Clouds.Peek(configured)
	return v, nil
}
