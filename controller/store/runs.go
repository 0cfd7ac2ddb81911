package store

import (
	"database/sql"
	"fmt"
	"strings"

	"dstack/protocol/api"
)

var runs = newTable("runs", func(r *Run, c *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("project_id", &r.ProjectID),
		fixed("user_id", &r.UserID),
		col("fleet_id", &r.FleetID),
		fixed("name", &r.Name),
		fixed("submitted_at", instant{&r.SubmittedAt}),
		col("last_processed_at", instant{&r.LastProcessedAt}),
		col("status", &r.Status),
		col("reason", &r.Reason),
		// A copy from the encrypted spec, for filters; the spec comes later
		// and says the same.
		col("repo_id", &r.Spec.RepoID),
		col("spec", sealed(&r.Spec, c)),
		col("priority", &r.Priority),
		col("deployment_num", &r.DeploymentNum),
		col("resubmissions", &r.Resubmissions),
		col("next_trigger_at", maybeInstant{&r.NextTriggerAt}),
		col("stop", &r.Stop),
		col("service", plain(&r.Service, c)),
		col("gateway_id", &r.GatewayID),
		fixed("request_key", &r.RequestKey),
		col("deleted", &r.Deleted),
		col("version", &r.Version),
	}
})

// finishedRun are the final statuses of a run.
const finishedRun = "('terminated', 'failed', 'done')"

// InsertRun adds a run; [ErrExists] if a run of this project, not deleted,
// has the name.
func (tx *Tx) InsertRun(r *Run) error { return runs.add(tx, r) }

// UpdateRun writes a run, all but its project, user, name and time of submission,
// which never change, if nobody else did since r was read, and adds one to
// r.Version; else [ErrConflict].
func (tx *Tx) UpdateRun(r *Run) error { return runs.save(tx, r, &r.Version) }

// Run finds a run by id, also a deleted one.
func (tx *Tx) Run(id string) (Run, error) { return runs.one(tx, " WHERE id = $1", id) }

// RunByName finds a run of a project that is not deleted.
func (tx *Tx) RunByName(projectID, name string) (Run, error) {
	return runs.one(tx, " WHERE project_id = $1 AND name = $2 AND NOT deleted", projectID, name)
}

// RunByRequest finds the run, also a deleted one, that a user's request made
// in a project.
func (tx *Tx) RunByRequest(projectID, userID, key string) (Run, error) {
	return runs.one(tx, " WHERE project_id = $1 AND user_id = $2 AND request_key = $3", projectID, userID, key)
}

// UnfinishedRunsOfFleet lists the runs assigned to a fleet that have not ended.
func (tx *Tx) UnfinishedRunsOfFleet(fleetID string) ([]Run, error) {
	return runs.find(tx, " WHERE fleet_id = $1 AND NOT deleted AND status NOT IN "+finishedRun+
		" ORDER BY submitted_at, id", fleetID)
}

// RunNames lists the names, deleted runs left out, of a project that begin
// with prefix: for generated names.
func (tx *Tx) RunNames(projectID, prefix string) ([]string, error) {
	return tx.names("runs", projectID, prefix)
}

// WaitingRuns lists the runs of a project that wait for their next attempt
// and are not to end: by priority, then age.
func (tx *Tx) WaitingRuns(projectID string) ([]Run, error) {
	return runs.find(tx, " WHERE project_id = $1 AND status = 'pending' AND resubmissions > 0 AND stop IS NULL AND NOT deleted"+
		" ORDER BY priority DESC, submitted_at, id", projectID)
}

// RunFilter says which runs to list.
type RunFilter struct {
	ProjectIDs []string // nil means all
	UserID     string   // empty means all
	RepoID     string   // empty means all
	OnlyActive bool     // neither deleted nor ended
	NotDeleted bool
	Page       Page
}

// Runs lists runs, newest first unless the page says otherwise (spec:
// rest-api.md 7.5).
func (tx *Tx) Runs(f RunFilter) ([]Run, error) {
	w, tail := f.where()
	return runs.find(tx, w.String()+tail, w.args...)
}

// RunHead is what tells whether a run is as it was, and the names that go with
// it. Fleet is empty without one.
type RunHead struct {
	ID                   string
	Version              int64
	Status               api.RunStatus
	Project, User, Fleet string
}

// RunHeads is Runs for those who have seen most of them before: it decodes and
// decrypts nothing.
func (tx *Tx) RunHeads(f RunFilter) ([]RunHead, error) {
	w, tail := f.where()
	order, _, _ := strings.Cut(tail, " LIMIT")
	query := "SELECT h.id, h.version, h.status, p.name, u.name, coalesce(f.name, '') FROM" +
		" (SELECT id, version, status, project_id, user_id, fleet_id, submitted_at FROM runs" + w.String() + tail + ") AS h" +
		" JOIN projects p ON p.id = h.project_id JOIN users u ON u.id = h.user_id LEFT JOIN fleets f ON f.id = h.fleet_id" +
		strings.NewReplacer(" submitted_at", " h.submitted_at", " id ", " h.id ").Replace(order)
	out := []RunHead{}
	err := tx.query(func(rows *sql.Rows) error {
		var h RunHead
		if err := rows.Scan(&h.ID, &h.Version, &h.Status, &h.Project, &h.User, &h.Fleet); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		out = append(out, h)
		return nil
	}, query, w.args...)
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	return out, nil
}

// where gives the conditions, and the order and limit.
func (f RunFilter) where() (where, string) {
	var w where
	switch len(f.ProjectIDs) {
	case 1: // goes along its own index, in order
		w.add("project_id = ?", f.ProjectIDs[0])
	default:
		// Not a bare column: with an index of it, all runs of the projects
		// would be sorted for one page.
		w.in("(project_id || '')", f.ProjectIDs)
	}
	if f.UserID != "" {
		w.add("user_id = ?", f.UserID)
	}
	if f.RepoID != "" {
		w.add("repo_id = ?", f.RepoID)
	}
	if f.OnlyActive {
		w.add("status NOT IN " + finishedRun)
	}
	if f.OnlyActive || f.NotDeleted {
		w.add("NOT deleted")
	}
	tail := w.page(f.Page, "submitted_at")
	return w, tail
}
