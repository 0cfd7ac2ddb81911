package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"dstack/controller/engine"
	"dstack/controller/engine/jobspec"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
	"dstack/protocol/reason"
)

// explainRun tells why a run waits, runs or ended, and judges every candidate
// for its jobs as of now.
func (a *API) explainRun(ctx context.Context, c call, in api.WhyRequest) (api.RunWhy, error) {
	var (
		run   store.Run
		jobs  []store.Job
		pools []offers.Pool
		user  store.User
	)
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		var err error
		if run, err = findRun(tx, c.Project.ID, &in.RunName, nil); err != nil {
			return err
		}
		if jobs, err = tx.LatestJobsByRun(run.ID); err != nil {
			return fmt.Errorf("list jobs: %w", err)
		}
		if user, err = tx.User(run.UserID); err != nil {
			return fmt.Errorf("find user: %w", err)
		}
		pools, err = offers.Load(tx, c.Project)
		return err //nolint:wrapcheck // says what it was doing
	})
	if err != nil {
		return api.RunWhy{}, err
	}
	goods, err := a.stock(ctx, c.Project.ID)
	if err != nil {
		return api.RunWhy{}, err
	}
	settling := slices.ContainsFunc(pools, func(p offers.Pool) bool { return slices.ContainsFunc(p.Instances, isNew) })
	out := api.RunWhy{RunID: run.ID, RunName: run.Name, Status: run.Status}
	specs := make([]api.JobSpec, len(jobs))
	for i := range jobs {
		specs[i] = jobs[i].Spec
	}
	mounted, err := a.loadVolumes(ctx, c, specs)
	if err != nil {
		return api.RunWhy{}, err
	}
	for i := range jobs {
		out.Jobs = append(out.Jobs, jobWhy(&jobs[i], settling, engine.HeldBack(&run, &jobs[i], jobs), mounted[i].For(deref(jobs[i].InstanceID, "")).Taken()))
	}
	out.Code, out.State, out.Next = runState(&run, jobs, out.Jobs, a.deps.Now())
	wanted, err := a.wantedJobs(&run, jobs)
	if err != nil {
		return out, err
	}
	names := fleetNames(pools)
	whose := c
	whose.User = user
	disks, err := a.loadVolumes(ctx, c, wanted)
	if err != nil {
		return out, err
	}
	for n, job := range wanted {
		req := a.offersRequest(whose, &run.Spec, job)
		req.Need, req.Volumes = 0, disks[n] // each replica looks for itself
		if run.FleetID != nil && run.Spec.Configuration.Service == nil && !run.Status.Finished() {
			req.FleetID = *run.FleetID
		}
		found := a.search(ctx, c.Project.ID, req, pools, goods)
		out.Candidates = append(out.Candidates, candidates(job.JobName, found, names)...)
		out.Candidates = append(out.Candidates, rentable(job.JobName, found, names)...)
	}
	for _, s := range goods {
		if s.Missing != "" {
			out.Candidates = append(out.Candidates, silent(s, wanted))
		}
	}
	return out, nil
}

func isNew(i store.Instance) bool {
	return i.Status == api.InstancePending || i.Status == api.InstanceProvisioning
}

// wantedJobs are the jobs of a run, one of those that need the same.
func (a *API) wantedJobs(run *store.Run, jobs []store.Job) ([]api.JobSpec, error) {
	var all, out []api.JobSpec
	for i := range jobs {
		all = append(all, jobs[i].Spec)
	}
	if len(all) == 0 {
		var err error
		if all, err = jobspec.Build(run.Spec, nil, a.deps.Jobs); err != nil {
			return nil, refuse("%v", err)
		}
	}
	var seen [][]byte
	for _, job := range all {
		key, err := json.Marshal([]any{job.Requirements, job.Volumes})
		if err != nil {
			return nil, fmt.Errorf("compare requirements: %w", err)
		}
		if !slices.ContainsFunc(seen, func(k []byte) bool { return bytes.Equal(k, key) }) {
			seen, out = append(seen, key), append(out, job)
		}
	}
	return out, nil
}

// fleetNames are the names by which a run asks for fleets, by their ids.
func fleetNames(pools []offers.Pool) map[string]string {
	names := map[string]string{}
	for _, p := range pools {
		names[p.Fleet.ID] = p.Fleet.Name
		if p.Imported {
			names[p.Fleet.ID] = p.Project + "/" + p.Fleet.Name
		}
	}
	return names
}

// candidates lists what was found for a job: first what fits. fleets are the
// names of fleets by id.
func candidates(job string, found offers.Result, fleets map[string]string) []api.Candidate {
	var out []api.Candidate
	for _, g := range found.Groups {
		for _, m := range g.Matches {
			c := api.Candidate{JobName: job, Fleet: fleets[g.Fleet.ID], Instance: &m.Instance.Name, Backend: &m.Instance.Backend, Verdict: api.CandidateFits}
			if !m.Available {
				s, _ := reason.Place(reason.InstanceBusy)
				c.Verdict, c.Code, c.Reason, c.Next = api.CandidateBusy, string(reason.InstanceBusy), s.Cause, s.Next
			}
			out = append(out, c)
		}
	}
	for _, r := range found.Rejected {
		if r.Instance == nil && r.Code == reason.NoMachine && found.Refuses(r.Fleet.ID) {
			continue // [rentable] says more
		}
		s, _ := reason.Place(r.Code)
		c := api.Candidate{JobName: job, Fleet: fleets[r.Fleet.ID], Verdict: api.CandidateRejected, Code: string(r.Code), Reason: r.Reason, Next: s.Next}
		if r.Instance != nil {
			c.Instance, c.Backend = &r.Instance.Name, &r.Instance.Backend
		}
		out = append(out, c)
	}
	return out
}

// runState is the reason of a run's state, a sentence with it, and what to do.
func runState(r *store.Run, jobs []store.Job, whys []api.JobWhy, now time.Time) (code, state, next string) {
	what := "The run " + r.Name + " (" + string(r.Status) + ")"
	tell := func(code string, s reason.Sentence, detail string) (string, string, string) {
		if detail != "" {
			s.Cause += " (" + detail + ")"
		}
		return code, what + ": " + s.Cause + ".", s.Next
	}
	wait := func(w reason.Wait, detail string) (string, string, string) {
		s, _ := reason.Waiting(w)
		return tell(string(w), s, detail)
	}
	switch {
	case r.Status == api.RunTerminating:
		return wait(reason.WaitStop, string(deref(r.Reason, "")))
	case r.Status.Finished() && r.Reason != nil:
		s, _ := reason.Run(*r.Reason)
		return tell(string(*r.Reason), s, "")
	case r.Status == api.RunPending && r.Resubmissions > 0:
		return wait(reason.WaitRetry, fmt.Sprintf("attempt %d", r.Resubmissions+1))
	case r.Status == api.RunPending && r.NextTriggerAt != nil && r.NextTriggerAt.After(now):
		return wait(reason.WaitSchedule, r.NextTriggerAt.UTC().Format("2006-01-02 15:04 MST"))
	case r.Status == api.RunPending && r.Spec.Configuration.Service != nil:
		return wait(reason.WaitRequests, "")
	case r.Status == api.RunPending:
		return wait(reason.WaitServer, "")
	case r.Status == api.RunRunning:
		return wait(reason.Runs, "")
	}
	// The job that is least far says what the run waits for.
	for i := range jobs {
		if j := &jobs[i]; !j.Status.Finished() && j.Status != api.JobRunning {
			s, _ := reason.Waiting(reason.Wait(whys[i].Code))
			return tell(whys[i].Code, s, whys[i].JobName)
		}
	}
	return wait(reason.WaitServer, "")
}

// jobWhy explains the newest submission of a job. settling says that a host is
// being prepared, held that other nodes go first, taken who uses its volumes.
func jobWhy(j *store.Job, settling, held bool, taken string) api.JobWhy {
	out := api.JobWhy{
		JobName: j.Spec.JobName, SubmissionID: j.ID, SubmissionNum: j.SubmissionNum, Status: j.Status, Message: j.ReasonMessage,
	}
	what := "The job " + out.JobName
	if j.Provisioning != nil {
		what += " on " + j.Provisioning.InstanceID
	}
	var s reason.Sentence
	if ended := j.Status.Finished() || j.Status == api.JobTerminating; ended && j.Reason != nil {
		s, _ = reason.Job(*j.Reason)
		out.Code = string(*j.Reason)
	} else {
		w := jobWait(j, settling)
		switch {
		case held:
			w = reason.WaitNodes
		case j.Status == api.JobSubmitted && taken != "":
			w = reason.WaitVolume
		}
		s, _ = reason.Waiting(w)
		if w == reason.WaitVolume {
			s.Cause += " (" + taken + ")"
		}
		out.Code = string(w)
	}
	out.State, out.Next = what+": "+s.Cause+".", s.Next
	if out.Message != nil && *out.Message != "" {
		out.State += " " + *out.Message
	}
	return out
}

// jobWait is what a job waits for that has not ended.
func jobWait(j *store.Job, settling bool) reason.Wait {
	switch j.Status {
	case api.JobSubmitted:
		switch {
		case j.InstanceID != nil:
			return reason.WaitMachine
		case j.JobNum != 0:
			return reason.WaitNodes
		case settling:
			return reason.WaitRoom
		}
		return reason.WaitServer
	case api.JobProvisioning:
		if p := j.Provisioning; p != nil && p.Hostname == nil {
			return reason.WaitBoot
		}
		return reason.WaitHost
	case api.JobPulling:
		if j.Task != nil && j.Task.State == hostapi.TaskCreating {
			return reason.WaitStart
		}
		return reason.WaitPull
	case api.JobRunning:
		return reason.Runs
	}
	return reason.WaitStop
}
