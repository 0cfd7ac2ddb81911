package store

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
	var w where
	w.in("project_id", f.ProjectIDs)
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
	return runs.find(tx, w.String()+tail, w.args...)
}
