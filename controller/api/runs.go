package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

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

// listRuns answers with what it rendered before of runs that ended: they change
// no more.
func (a *API) listRuns(ctx context.Context, c call, in api.ListRunsRequest) (reply[[]api.Run], error) {
	out := reply[[]api.Run]{raw: []byte("[]")}
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
		out.raw, out.live, err = a.renderRuns(tx, filter, runShape{
			hideJobs: !deref(in.IncludeJobs, true), submissions: deref(in.JobSubmissionsLimit, maxSubmissions),
		})
		return err
	})
	return out, err
}

func (a *API) runFilter(tx *store.Tx, c call, in *api.ListRunsRequest) (store.RunFilter, error) {
	f := store.RunFilter{OnlyActive: in.OnlyActive, RepoID: deref(in.RepoID, "")}
	var err error
	if f.ProjectIDs, err = a.visibleIn(tx, c, in.ProjectName); err != nil {
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

// endedLimit is how many bytes of runs that ended are remembered.
const endedLimit = 8 << 20

// endedKey is a run that ended, as it is shown.
type endedKey struct {
	id      string
	version int64
	shape   runShape
}

// endedRun is its JSON, and the names in it.
type endedRun struct {
	project, user, fleet string
	body                 []byte
}

// renderRuns lists runs as JSON. live says that some have not ended.
func (a *API) renderRuns(tx *store.Tx, filter store.RunFilter, shape runShape) (body []byte, live bool, err error) {
	heads, err := tx.RunHeads(filter)
	if err != nil {
		return nil, false, err //nolint:wrapcheck // says what it was doing
	}
	known := make(map[string][]byte, len(heads))
	var missing []string
	for _, h := range heads {
		e, ok := a.ended.Get(0, endedKey{h.ID, h.Version, shape})
		if ok && h.Status.Finished() && e.project == h.Project && e.user == h.User && e.fleet == h.Fleet {
			known[h.ID] = e.body
			continue
		}
		live = live || !h.Status.Finished()
		missing = append(missing, h.ID)
	}
	byID, err := tx.RunsByID(missing)
	if err != nil {
		return nil, false, fmt.Errorf("list runs: %w", err)
	}
	rows := slices.Collect(maps.Values(byID))
	views, err := a.runViews(tx, rows, shape)
	if err != nil {
		return nil, false, err
	}
	for i := range views {
		v, r := &views[i], &rows[i]
		text, err := json.Marshal(v)
		if err != nil {
			return nil, false, fmt.Errorf("encode run: %w", err)
		}
		known[r.ID] = text
		if r.Status.Finished() {
			e := endedRun{project: v.ProjectName, user: v.User, body: text}
			if v.Fleet != nil {
				e.fleet = v.Fleet.Name
			}
			a.ended.Put(0, endedKey{r.ID, r.Version, shape}, e, len(text))
		}
	}
	list := make([][]byte, len(heads))
	for i, h := range heads {
		list[i] = known[h.ID]
	}
	return slices.Concat([]byte("["), bytes.Join(list, []byte(",")), []byte("]")), live, nil
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
			runShape: shape, pull: a.deps.Engine.Pulling, idle: a.deps.Engine.Inactive, now: a.deps.Now(), sshProxy: a.deps.SSHProxy,
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
