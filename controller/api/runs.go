package api

import (
	"context"
	"fmt"

	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	maxRuns = 100
	// maxSubmissions is how many submissions of a job runs/list shows.
	maxSubmissions = 10
	// allSubmissions is what runs/get shows.
	allSubmissions = 1 << 30
)

func (a *API) listRuns(ctx context.Context, c call, in api.ListRunsRequest) ([]api.Run, error) {
	out := []api.Run{}
	page, ok := pageOf(in.PrevSubmittedAt, in.PrevRunID, in.Limit, maxRuns, in.Ascending)
	if !ok || in.RepoID != nil && in.ProjectName == nil {
		return out, nil
	}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		filter, err := a.runFilter(tx, c, &in)
		if err != nil {
			return err
		}
		filter.Page = page
		rows, err := tx.Runs(filter)
		if err != nil {
			return fmt.Errorf("list runs: %w", err)
		}
		out, err = a.runViews(tx, rows, runShape{
			hideJobs: !deref(in.IncludeJobs, true), submissions: deref(in.JobSubmissionsLimit, maxSubmissions),
		})
		return err
	})
	return out, err
}

func (a *API) runFilter(tx *store.Tx, c call, in *api.ListRunsRequest) (store.RunFilter, error) {
	f := store.RunFilter{OnlyActive: in.OnlyActive, RepoID: deref(in.RepoID, "")}
	var names []string
	if in.ProjectName != nil {
		names = []string{*in.ProjectName}
	}
	var err error
	if f.ProjectIDs, err = a.visibleProjects(tx, c, names); err != nil {
		return f, err
	}
	if in.Username != nil {
		u, err := tx.UserByName(*in.Username)
		if isNotFound(err) {
			return f, notExists("User %s not found", *in.Username)
		}
		if err != nil {
			return f, fmt.Errorf("find user: %w", err)
		}
		f.UserID = u.ID
	}
	if in.RepoID != nil && len(f.ProjectIDs) == 1 {
		if _, err := tx.Repo(f.ProjectIDs[0], *in.RepoID); isNotFound(err) {
			e := refuse("Repo %s does not exist", *in.RepoID)
			e.Code = api.CodeRepoNotExists
			return f, e
		} else if err != nil {
			return f, fmt.Errorf("find repo: %w", err)
		}
	}
	return f, nil
}

// runShape says how much of each run is shown.
type runShape struct {
	hideJobs    bool
	submissions int
	connection  bool
}

// runViews renders runs of any projects.
func (a *API) runViews(tx *store.Tx, rows []store.Run, shape runShape) ([]api.Run, error) {
	var projectIDs, userIDs, fleetIDs, runIDs []string
	for i := range rows {
		r := &rows[i]
		projectIDs, userIDs, runIDs = append(projectIDs, r.ProjectID), append(userIDs, r.UserID), append(runIDs, r.ID)
		if r.FleetID != nil {
			fleetIDs = append(fleetIDs, *r.FleetID)
		}
	}
	projects, err := tx.ProjectsByID(projectIDs)
	if err != nil {
		return nil, fmt.Errorf("find projects: %w", err)
	}
	users, err := tx.UsersByID(userIDs)
	if err != nil {
		return nil, fmt.Errorf("find users: %w", err)
	}
	fleets, err := tx.FleetsByID(fleetIDs)
	if err != nil {
		return nil, fmt.Errorf("find fleets: %w", err)
	}
	byRun, err := submissionsOf(tx, runIDs, shape.submissions)
	if err != nil {
		return nil, err
	}
	out := make([]api.Run, len(rows))
	for i := range rows {
		r := &rows[i]
		v := runRows{
			run: r, project: projects[r.ProjectID].Name, user: users[r.UserID].Name, jobs: byRun[r.ID],
			runShape: shape, pull: a.deps.Engine.Pulling, now: a.deps.Now(),
		}
		if r.FleetID != nil {
			v.fleet = &api.RunFleet{ID: *r.FleetID, Name: fleets[*r.FleetID].Name}
		}
		out[i] = runView(v)
	}
	return out, nil
}

// submissionsOf lists the newest submissions of the jobs of runs, at least
// one of each job: a run's status message needs it.
func submissionsOf(tx *store.Tx, runIDs []string, submissions int) (map[string][]store.Job, error) {
	n := max(submissions, 1)
	if submissions == allSubmissions {
		n = 0
	}
	jobs, err := tx.JobsByRuns(runIDs, n)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	byRun := map[string][]store.Job{}
	for _, j := range jobs {
		byRun[j.RunID] = append(byRun[j.RunID], j)
	}
	return byRun, nil
}

func (a *API) getRun(ctx context.Context, c call, in api.GetRunRequest) (api.Run, error) {
	return a.findRunView(ctx, c, in.RunName, in.ID)
}

func (a *API) findRunView(ctx context.Context, c call, name, id *string) (api.Run, error) {
	var out api.Run
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		r, err := findRun(tx, c.Project.ID, name, id)
		if err != nil {
			return err
		}
		out, err = a.oneRunView(tx, r)
		return err
	})
	return out, err
}

func (a *API) oneRunView(tx *store.Tx, r store.Run) (api.Run, error) {
	views, err := a.runViews(tx, []store.Run{r}, runShape{submissions: allSubmissions, connection: true})
	if err != nil {
		return api.Run{}, err
	}
	return views[0], nil
}

// findRun finds by id, also a deleted run, else by name.
func findRun(tx *store.Tx, projectID string, name, id *string) (store.Run, error) {
	var (
		r   store.Run
		err error
	)
	switch {
	case id != nil:
		r, err = tx.Run(*id)
	case name != nil:
		r, err = tx.RunByName(projectID, *name)
	default:
		return r, refuse("run_name or id must be specified")
	}
	if isNotFound(err) || err == nil && r.ProjectID != projectID {
		return r, notExists("Run %s not found", deref(first(name, id), ""))
	}
	if err != nil {
		return r, fmt.Errorf("find run: %w", err)
	}
	return r, nil
}
