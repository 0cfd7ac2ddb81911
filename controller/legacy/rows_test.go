package legacy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
)

// TestNodes takes over jobs of a run with several nodes: 0.22.5 keeps the key
// by which they reach each other in their specification. It answers null, and
// clients refuse anything that is half a key.
func TestNodes(t *testing.T) {
	path := old(t, `UPDATE jobs SET job_spec_data = json_set(job_spec_data, '$.ssh_key', json('{"private":"a","public":"b"}'))`)
	imported(t, path, func(tx *store.Tx) error {
		runs, err := tx.Runs(store.RunFilter{})
		if err != nil || len(runs) != 5 {
			t.Fatalf("runs are %v, %v", runs, err)
		}
		for _, r := range runs {
			jobs, err := tx.JobsByRun(r.ID)
			if err != nil {
				return err
			}
			for _, j := range jobs {
				if j.Spec.SSHKey != nil {
					t.Errorf("job %s has a key", j.Spec.JobName)
				}
			}
		}
		return nil
	})
}

// TestMemberTwice takes over a user who is a member twice, as the real server
// leaves it when the same user is added by two requests at once.
func TestMemberTwice(t *testing.T) {
	path := old(t, `INSERT INTO members SELECT 'aa' || substr(id, 3), project_id, user_id, 'USER', member_num + 9 FROM members`)
	imported(t, path, func(tx *store.Tx) error {
		main, err := tx.ProjectByName("main")
		if err == nil {
			checkAccounts(t, tx, main)
		}
		return err
	})
}

// eventAim is what an event is about.
type eventAim struct{ Type, ID, Name string }

// targets reads the events of a database of 0.22.5.
func targets(t *testing.T, path string) map[string][]eventAim {
	t.Helper()
	db := openRaw(t, path)
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	rows, err := db.QueryContext(t.Context(), `SELECT events.id, coalesce(entity_type, ''), coalesce(entity_id, ''), coalesce(entity_name, '')
		FROM events LEFT JOIN event_targets ON event_id = events.id ORDER BY events.id, event_targets.rowid`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string][]eventAim{}
	for rows.Next() {
		var id string
		var one eventAim
		if err := rows.Scan(&id, &one.Type, &one.ID, &one.Name); err != nil {
			t.Fatal(err)
		}
		out[id] = append(out[id], one)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEvents takes over every event with its targets in their order.
func TestEvents(t *testing.T) {
	path := old(t, `INSERT INTO event_targets SELECT '0' || substr(id, 2), event_id, entity_project_id, 'GATEWAY_REPLICA', entity_id, 'second', entity_run_id, entity_fleet_id, entity_gateway_id
		FROM event_targets WHERE id LIKE 'f%'`, "DELETE FROM event_targets WHERE id LIKE 'e%'")
	want := targets(t, path)
	imported(t, path, func(tx *store.Tx) error {
		list, err := tx.Events(store.EventFilter{})
		if err != nil {
			return err
		}
		got := map[string][]eventAim{}
		bare := func(id string) string { return strings.ReplaceAll(id, "-", "") }
		for _, e := range list {
			id := bare(e.ID)
			for _, one := range e.Targets {
				name := strings.ToUpper(strings.ReplaceAll(one.Type, "-", "_"))
				got[id] = append(got[id], eventAim{name, bare(one.ID), one.Name})
			}
			if len(e.Targets) == 0 {
				got[id] = []eventAim{{}}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || len(want) < 50 {
			t.Errorf("%d events: %s", len(want), diff)
		}
		return nil
	})
}
