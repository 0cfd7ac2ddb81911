package store

import (
	"database/sql"
	"fmt"

	"dstack/protocol/api"
)

// RunCount is how many runs, deleted ones too, a user has in a project in one
// status.
type RunCount struct {
	ProjectID string
	UserID    string
	Status    api.RunStatus
	N         int
}

// CountRuns counts all runs that ever were; it reads an index only.
func (tx *Tx) CountRuns() ([]RunCount, error) {
	var out []RunCount
	err := tx.query(func(rows *sql.Rows) error {
		var c RunCount
		if err := rows.Scan(&c.ProjectID, &c.UserID, &c.Status, &c.N); err != nil {
			return fmt.Errorf("read row: %w", err)
		}
		out = append(out, c)
		return nil
	}, "SELECT project_id, user_id, status, count(*) FROM runs GROUP BY project_id, user_id, status ORDER BY project_id, user_id, status")
	if err != nil {
		return nil, fmt.Errorf("count runs: %w", err)
	}
	return out, nil
}

// LiveInstances lists the instances that cost something or are about to:
// neither waiting nor gone.
func (tx *Tx) LiveInstances() ([]Instance, error) {
	return instances.find(tx, " WHERE NOT deleted AND status IN ('provisioning', 'idle', 'busy', 'terminating') ORDER BY name, id")
}

// LiveJobs lists the jobs that have not ended.
func (tx *Tx) LiveJobs() ([]Job, error) {
	return jobs.find(tx, " WHERE id IN (SELECT id FROM work WHERE kind = $1)"+jobOrder, KindJob)
}

// RunsByID finds runs, also deleted ones.
func (tx *Tx) RunsByID(ids []string) (map[string]Run, error) {
	var w where
	w.in("id", nonNil(ids))
	list, err := runs.find(tx, w.String(), w.args...)
	return byID(list, func(r Run) string { return r.ID }), err
}
