package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dstack/controller/engine/jobspec"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// Submission is a run to be created.
type Submission struct {
	ProjectID string
	// UserID is who submits it.
	UserID string
	// Spec is the effective specification; without a name the run gets one.
	Spec api.RunSpec
	// Jobs are those of jobspec.Build; a scheduled run makes its own later.
	Jobs []api.JobSpec
}

// SubmitRun creates a run and its jobs. An ended run of the same name is
// deleted; a live one makes it fail with [*Refused].
func (e *Engine) SubmitRun(ctx context.Context, s Submission) (store.Run, error) {
	var run store.Run
	err := e.write(ctx, "submit run", func(tx *store.Tx) (err error) {
		run, err = e.submit(tx, s)
		return err
	})
	if err != nil {
		return store.Run{}, err // the writer may still be at it
	}
	return run, nil
}

func (e *Engine) submit(tx *store.Tx, s Submission) (store.Run, error) {
	now := e.now()
	spec := s.Spec
	if err := e.freeName(tx, s, &spec); err != nil {
		return store.Run{}, err
	}
	r := store.Run{
		ID: e.cfg.NewID(), ProjectID: s.ProjectID, UserID: s.UserID, Name: *spec.RunName,
		SubmittedAt: now, LastProcessedAt: now, Status: api.RunSubmitted, Spec: spec,
	}
	if t := spec.Configuration.Task; t != nil && t.Priority != nil {
		r.Priority = *t.Priority
	}
	d := &decision{}
	if schedule := spec.Params().Schedule; schedule != nil {
		next, ok := schedule.Next(now)
		if !ok {
			return store.Run{}, refuse("schedule: %s never comes", strings.Join(schedule.Cron, ", "))
		}
		r.Status, r.NextTriggerAt = api.RunPending, &next
	}
	if err := tx.InsertRun(&r); err != nil {
		return store.Run{}, err
	}
	d.events = append(d.events, newEvent("Run submitted. Status: "+upper(r.Status), &s.UserID, runTarget(&r)))
	if r.Status == api.RunSubmitted {
		v := runView{now: now, newID: e.cfg.NewID, run: &r}
		for n, js := range s.Jobs {
			js.JobName = jobspec.JobName(r.Name, js.JobNum, js.ReplicaNum)
			s.Jobs[n] = js
			v.add(d, newJob(&r, js, 0), "run submission")
		}
	}
	d.wake(store.KindRun, r.ID)
	return r, e.apply(tx, d, now)
}

// freeName finds a name for the run, or deletes the ended run that has it.
func (e *Engine) freeName(tx *store.Tx, s Submission, spec *api.RunSpec) error {
	if spec.RunName == nil || *spec.RunName == "" {
		name, err := freshName(e.cfg.NewID(), func(prefix string) ([]string, error) {
			return tx.RunNames(s.ProjectID, prefix)
		})
		spec.RunName = &name
		return err
	}
	old, err := tx.RunByName(s.ProjectID, *spec.RunName)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case !old.Status.Finished():
		return refuse("Cannot override active run. Stop the run first.")
	}
	return e.deleteRun(tx, &old, &s.UserID)
}

func (e *Engine) deleteRun(tx *store.Tx, r *store.Run, actor *string) error {
	r.Deleted = true
	if err := tx.UpdateRun(r); err != nil {
		return err
	}
	return e.record(tx, e.now(), []store.Event{newEvent("Run deleted", actor, runTarget(r))})
}

// UpdateRun replaces the specification of an active run in place. changed
// names the fields for the event. version is that of the run that the caller
// looked at; if it changed since, the update fails with store.ErrConflict.
func (e *Engine) UpdateRun(ctx context.Context, actorID, runID string, version int64, spec api.RunSpec, changed []string) (store.Run, error) {
	var run store.Run
	err := e.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
		if run, err = tx.Run(runID); err != nil {
			return err
		}
		if run.Version != version {
			return store.ErrConflict
		}
		run.Spec = spec
		run.DeploymentNum++
		if t := spec.Configuration.Task; t != nil && t.Priority != nil {
			run.Priority = *t.Priority
		}
		run.LastProcessedAt = e.now()
		if err := tx.UpdateRun(&run); err != nil {
			return err
		}
		text := fmt.Sprintf("Run updated. Deployment: %d. Changed fields: %s", run.DeploymentNum, strings.Join(changed, ", "))
		if err := e.record(tx, e.now(), []store.Event{newEvent(text, &actorID, runTarget(&run))}); err != nil {
			return err
		}
		return e.bumpJobs(tx, &run)
	})
	if err != nil {
		return store.Run{}, fmt.Errorf("update run: %w", err)
	}
	return run, nil
}

// bumpJobs brings the live jobs to the deployment of their run: what can be
// updated in place does not change them.
func (e *Engine) bumpJobs(tx *store.Tx, run *store.Run) error {
	jobs, err := tx.JobsByRun(run.ID)
	if err != nil {
		return err
	}
	for i := range jobs {
		if jobs[i].Status.Finished() {
			continue
		}
		jobs[i].DeploymentNum = run.DeploymentNum
		if err := tx.UpdateJob(&jobs[i]); err != nil {
			return err
		}
	}
	return tx.Wake(e.now(), store.Key{Kind: store.KindRun, ID: run.ID})
}

// StopRuns ends runs of a project; abort kills at once. Names that are
// unknown and runs that ended are left out. A later stop or abort replaces
// an earlier one.
func (e *Engine) StopRuns(ctx context.Context, actorID, projectID string, names []string, abort bool) error {
	reason := api.ReasonStoppedByUser
	if abort {
		reason = api.ReasonAbortedByUser
	}
	return e.write(ctx, "stop runs", func(tx *store.Tx) error {
		for _, name := range names {
			run, err := tx.RunByName(projectID, name)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if err := e.stop(tx, &run, reason, actorID); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *Engine) stop(tx *store.Tx, r *store.Run, reason api.RunReason, actorID string) error {
	if r.Status.Finished() {
		return nil
	}
	now := e.now()
	r.Stop, r.Reason = &reason, &reason
	d := &decision{}
	d.saveRun(r)
	if r.Status != api.RunTerminating {
		setRun(d, r, api.RunTerminating, &actorID)
	}
	jobs, err := tx.LatestJobsByRun(r.ID)
	if err != nil {
		return err
	}
	for i := range jobs {
		if j := &jobs[i]; !j.Status.Finished() && stopJob(r, j, now) {
			d.saveJob(j)
			d.wake(store.KindJob, j.ID)
		}
	}
	d.wake(store.KindRun, r.ID)
	return e.apply(tx, d, now)
}

// DeleteRuns marks ended runs as deleted; unknown names are left out. If one
// of them is active, none is deleted and the error is [*Refused].
func (e *Engine) DeleteRuns(ctx context.Context, actorID, projectID string, names []string) error {
	return e.write(ctx, "delete runs", func(tx *store.Tx) error {
		var runs []store.Run
		var active []string
		for _, name := range names {
			run, err := tx.RunByName(projectID, name)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if !run.Status.Finished() {
				active = append(active, "'"+name+"'")
			}
			runs = append(runs, run)
		}
		if len(active) > 0 {
			return refuse("Cannot delete active runs: [%s]", strings.Join(active, ", "))
		}
		for i := range runs {
			if err := e.deleteRun(tx, &runs[i], &actorID); err != nil {
				return err
			}
		}
		return nil
	})
}
