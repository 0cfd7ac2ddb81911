package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dstack/controller/engine/jobspec"
	"dstack/controller/offers"
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
	// Assign says where a service is reached; nil for other runs.
	Assign Assign
	// RequestKey, if set, makes a repeated request give the same run.
	RequestKey *string
}

// Assign decides, in the transaction that stores a run, where the service of
// this name is reached.
type Assign func(tx *store.Tx, run string) (Assignment, error)

// Assignment is where a service is reached. Without a gateway, that is the
// server itself.
type Assignment struct {
	Service api.Service
	// GatewayID and GatewayName are empty without a gateway.
	GatewayID, GatewayName string
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
	if s.RequestKey != nil {
		if r, err := tx.RunByRequest(s.ProjectID, s.UserID, *s.RequestKey); !errors.Is(err, store.ErrNotFound) {
			return r, err
		}
	}
	now := e.now()
	spec := s.Spec
	if err := e.freeName(tx, s, &spec); err != nil {
		return store.Run{}, err
	}
	r := store.Run{
		ID: e.cfg.NewID(), ProjectID: s.ProjectID, UserID: s.UserID, Name: *spec.RunName, RequestKey: s.RequestKey,
		SubmittedAt: now, LastProcessedAt: now, Status: api.RunSubmitted, Spec: spec, Priority: priorityOf(spec),
	}
	d := &decision{}
	if schedule := spec.Params().Schedule; schedule != nil {
		next, ok := schedule.Next(now)
		if !ok {
			return store.Run{}, refuse("schedule: %s never comes", strings.Join(schedule.Cron, ", "))
		}
		r.Status, r.NextTriggerAt = api.RunPending, &next
	}
	assigned, err := assign(tx, &r, s.Assign)
	if err != nil {
		return store.Run{}, err
	}
	if err := tx.InsertRun(&r); err != nil {
		return store.Run{}, err
	}
	d.events = append(d.events, newEvent("Run submitted. Status: "+upper(r.Status), &s.UserID, runTarget(&r)))
	d.events = append(d.events, assigned...)
	if r.Status == api.RunSubmitted {
		v := runView{now: now, newID: e.cfg.NewID, opts: e.cfg.Jobs, run: &r}
		if err := v.submitAll(d); err != nil {
			return store.Run{}, err
		}
	}
	d.wake(store.KindRun, r.ID)
	return r, e.apply(tx, d, now)
}

// submitAll makes the first submissions of a run.
func (v runView) submitAll(d *decision) error {
	num := 0
	for _, g := range jobspec.ReplicaGroups(v.run.Spec.Configuration) {
		for range g.Min {
			specs, err := jobspec.Replica(v.run.Spec, g.Name, num, nil, v.opts)
			if err != nil {
				return refuse("%v", err)
			}
			for _, spec := range specs {
				v.add(d, newJob(v.run, spec, 0), "run submission")
			}
			num++
		}
	}
	return nil
}

func priorityOf(spec api.RunSpec) int {
	if base := spec.Configuration.Base(); base != nil && base.Priority != nil {
		return *base.Priority
	}
	return 0
}

// assign tells a service where it is reached, and returns the event of it.
func assign(tx *store.Tx, r *store.Run, how Assign) ([]store.Event, error) {
	if how == nil {
		return nil, nil
	}
	a, err := how(tx, r.Name)
	if err != nil {
		return nil, err
	}
	r.Service, r.GatewayID = &a.Service, nil
	if a.GatewayID == "" {
		return []store.Event{newEvent("Service assigned to run without a gateway", nil, runTarget(r))}, nil
	}
	r.GatewayID = &a.GatewayID
	gateway := store.EventTarget{Type: "gateway", ProjectID: &r.ProjectID, ID: a.GatewayID, Name: a.GatewayName}
	return []store.Event{newEvent("Service assigned to gateway", nil, runTarget(r), gateway)}, nil
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

// RunUpdate is a change of an active run.
type RunUpdate struct {
	ActorID, RunID string
	// Version is that of the run that the caller looked at; if it changed
	// since, the update fails with [store.ErrConflict].
	Version int64
	Spec    api.RunSpec
	// Assign is set if the service is to be reached elsewhere.
	Assign Assign
	// Changed names the fields for the event.
	Changed []string
}

// UpdateRun replaces the specification of an active run. A service then
// replaces those replicas, one after another, for which that is a change.
func (e *Engine) UpdateRun(ctx context.Context, u RunUpdate) (store.Run, error) {
	var run store.Run
	err := e.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
		if run, err = tx.Run(u.RunID); err != nil {
			return err
		}
		if run.Version != u.Version {
			return store.ErrConflict
		}
		if err := e.mayUpdate(tx, run, u.ActorID); err != nil {
			return err
		}
		run.Spec, run.Priority = u.Spec, priorityOf(u.Spec)
		run.DeploymentNum++
		run.LastProcessedAt = e.now()
		text := fmt.Sprintf("Run updated. Deployment: %d. Changed fields: %s", run.DeploymentNum, strings.Join(u.Changed, ", "))
		events := []store.Event{newEvent(strings.TrimSpace(text), &u.ActorID, runTarget(&run))}
		assigned, err := assign(tx, &run, u.Assign)
		if err != nil {
			return err
		}
		if err := tx.UpdateRun(&run); err != nil {
			return err
		}
		if err := e.record(tx, e.now(), append(events, assigned...)); err != nil {
			return err
		}
		return e.bumpJobs(tx, &run)
	})
	if err != nil {
		return store.Run{}, fmt.Errorf("update run: %w", err)
	}
	return run, nil
}

// mayUpdate keeps who may not use this machine from having an administrator's
// service, whose replicas may be placed on it, do something else.
func (e *Engine) mayUpdate(tx *store.Tx, run store.Run, actorID string) error {
	theirs := run
	theirs.UserID = actorID
	forbidden, err := e.noLocal(tx, theirs)
	if err != nil || !forbidden || run.Spec.Configuration.Service == nil {
		return err
	}
	if forbidden, err = e.noLocal(tx, run); err != nil || forbidden {
		return err
	}
	project, err := tx.Project(run.ProjectID)
	if err != nil {
		return err
	}
	pools, err := offers.Load(tx, project)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if slices.ContainsFunc(p.Instances, func(i store.Instance) bool { return i.Access.Local }) {
			return refuse("Run %s is an administrator's and may use the server's own machine: only administrators can update it", run.Name)
		}
	}
	return nil
}

// bumpJobs brings the live jobs to the deployment of their run: what can be
// updated in place does not change them. The run's pass does it for services,
// whose replicas may have to be replaced.
func (e *Engine) bumpJobs(tx *store.Tx, run *store.Run) error {
	wakes := []store.Key{{Kind: store.KindRun, ID: run.ID}}
	if run.Spec.Configuration.Service != nil {
		return tx.Wake(e.now(), wakes...)
	}
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
		wakes = append(wakes, store.Key{Kind: store.KindJob, ID: jobs[i].ID})
	}
	return tx.Wake(e.now(), wakes...)
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
