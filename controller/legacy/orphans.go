package legacy

import (
	"maps"
	"slices"
)

// 0.22.5 does not keep rows from referring to others that are gone. Nobody can
// see such rows there any more.

// newKnown has the columns that are looked at, without rows yet.
func newKnown() map[string]map[string]bool {
	return map[string]map[string]bool{"user_id": {}, "project_id": {}, "repo_id": {}}
}

// referredBy is the column by which others refer to the rows of a table.
func referredBy(table string) string {
	return map[string]string{"users": "user_id", "projects": "project_id", "repos": "repo_id"}[table]
}

// learn notes that a row is taken over.
func (w *world) learn(r *record) {
	if column := referredBy(r.table); column != "" {
		w.known[column][r.id("id")] = true
	}
}

// orphaned says whether a row belongs to a user, a project or a repo that is
// gone, and counts it then.
func (w *world) orphaned(r *record) bool {
	columns := []string{"user_id", "project_id"}
	if r.table == "repo_creds" {
		columns = []string{"user_id", "repo_id"}
	}
	for _, column := range columns {
		if id := r.maybeID(column); id != nil && r.err == nil && !w.known[column][*id] {
			w.orphans[r.table]++
			return true
		}
	}
	return false
}

func (w *world) reportOrphans() {
	for _, table := range slices.Sorted(maps.Keys(w.orphans)) {
		w.leaveOutf("%d rows of the table %s belong to a user, a project or a repo that is gone, and were left out", w.orphans[table], table)
	}
}
