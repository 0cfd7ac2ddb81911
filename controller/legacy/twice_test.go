package legacy

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
)

// again copies rows of a table, with other ids and one other value.
func again(table, where, change string) string {
	//nolint:unqueryvet // whatever its columns are
	return "CREATE TEMP TABLE copied AS SELECT * FROM " + table + " WHERE " + where + "; UPDATE copied SET id = lower(hex(randomblob(16)))" + change +
		"; INSERT INTO " + table + " SELECT * FROM copied; DROP TABLE copied"
}

// TestTwice takes over what two requests at once leave of the real server: the
// newest counts, and somebody is told.
func TestTwice(t *testing.T) {
	for name, submitted := range map[string]string{"newer": "'2099-01-01 00:00:00.000000'", "older": "'2020-01-01 00:00:00.000000'"} {
		t.Run(name, func(t *testing.T) {
			path := old(t,
				again("runs", "run_name = 'dev'", ", priority = 77, submitted_at = "+submitted),
				again("backends", "true", `, source_config = json_set(source_config, '$.regions', json('["eu-west-1"]')), config = json_set(config, '$.regions', json('["eu-west-1"]'))`))
			report := imported(t, path, func(tx *store.Tx) error {
				main, err := tx.ProjectByName("main")
				if err != nil {
					return err
				}
				run, err := tx.RunByName(main.ID, "dev")
				if err != nil || (run.Priority == 77) != (name == "newer") {
					t.Errorf("the run is %+v, %v", run, err)
				}
				backend, err := tx.Backend(main.ID, "aws")
				if err != nil || !strings.Contains(string(backend.Spec), "eu-west-1") {
					t.Errorf("the backend is %s, %v", backend.Spec, err)
				}
				list, err := tx.Runs(store.RunFilter{})
				if count := len(list); count != 6 {
					t.Errorf("%d runs are there", count)
				}
				return err
			})
			want := []string{
				"The project main has the backend aws twice: the newer one was taken over; configure it again if that is the wrong one",
				"The project main has the run dev twice: the older one was taken over as a deleted one",
			}
			if diff := cmp.Diff(want, report.LeftOut); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestOrphans leaves out what belongs to nobody who is there.
func TestOrphans(t *testing.T) {
	changes, want := []string{"PRAGMA foreign_keys = OFF"}, []string{}
	for _, c := range []struct{ table, column string }{
		{"backends", "project_id"}, {"fleets", "project_id"}, {"instances", "fleet_id"}, {"members", "user_id"}, {"members", "project_id"},
		{"repo_creds", "repo_id"}, {"repos", "project_id"}, {"runs", "project_id"}, {"runs", "user_id"}, {"secrets", "project_id"},
		{"user_public_keys", "user_id"}, {"volumes", "user_id"},
	} {
		changes = append(changes, again(c.table, c.column+" NOT LIKE '0000%'", ", "+c.column+" = '00000000000000000000000000000001'"))
		want = append(want, c.table)
	}
	path := old(t, changes...)
	plain := imported(t, old(t), func(*store.Tx) error { return nil })
	report := imported(t, path, func(tx *store.Tx) error {
		main, err := tx.ProjectByName("main")
		if err == nil {
			checkAccounts(t, tx, main)
			checkFleet(t, tx, main)
			checkRuns(t, tx, main)
		}
		return err
	})
	if diff := cmp.Diff(plain.Rows, report.Rows); diff != "" {
		t.Errorf("other rows: %s", diff)
	}
	for _, table := range slices.Compact(want) {
		if !slices.ContainsFunc(report.LeftOut, func(s string) bool {
			return strings.Contains(s, " rows of the table "+table+" belong to a user, a project or a repo that is gone")
		}) {
			t.Errorf("nothing says that rows of %s were left out: %v", table, report.LeftOut)
		}
	}
}

// TestRowRefused names a row that ours cannot have.
func TestRowRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		change, table string
		words         []string
	}{
		"two fleets":    {again("fleets", "name = 'cloud'", ""), "fleets", []string{"(cloud)", "another row has the same name"}},
		"two users":     {"UPDATE users SET name = 'ANN' WHERE name = 'bob'", "users", []string{"(ANN)", "another row has the same name"}},
		"no owner":      {"UPDATE projects SET owner_id = '00000000000000000000000000000001' WHERE name = 'main'", "projects", []string{"(main)", "it refers to a row that is gone"}},
		"two of a kind": {again("volumes", "name = 'disk'", ""), "volumes", []string{"(disk)"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := old(t, "PRAGMA foreign_keys = OFF", tt.change)
			before := digest(t, path)
			_, err := Import(t.Context(), Options{Path: path, Dir: filepath.Dir(path), Sealer: sealer(t, oldKey()), Now: now})
			if !errors.Is(err, ErrRow) {
				t.Fatalf("got %v", err)
			}
			for _, word := range append(tt.words, "of table "+tt.table, "delete one of them with dstack 0.22.5", "nothing was changed") {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
			if strings.Contains(err.Error(), "constraint failed") {
				t.Error(err)
			}
			if digest(t, path) != before || !cmp.Equal(files(t, path), []string{"sqlite.db", "sqlite.db.lock"}) {
				t.Errorf("it was changed: %v", files(t, path))
			}
		})
	}
}
