package controller

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// TestServerBackends starts servers with one config.yml after another and
// looks at what is configured then.
func TestServerBackends(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	run := func(file string, look func(*store.Tx, string) error) string {
		t.Helper()
		cfg, out := testConfig(t, home)
		cfg.Settings.NoBackground = true
		if err := os.MkdirAll(cfg.Settings.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cfg.Settings.configPath(), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := start(t, cfg)(); err != nil {
			t.Fatal(err)
		}
		sealer, err := store.LoadSealer(store.KeySource{Dir: cfg.Settings.Dir})
		if err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), store.Options{Path: cfg.Settings.databasePath(), Sealer: sealer})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Write(t.Context(), func(tx *store.Tx) error {
			p, err := tx.ProjectByName("main")
			if err != nil {
				return err
			}
			return look(tx, p.ID)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	types := func(want ...string) func(*store.Tx, string) error {
		return func(tx *store.Tx, project string) error {
			got, err := tx.BackendTypes(project)
			if !slices.Equal(got, want) {
				t.Errorf("backends %v, want %v", got, want)
			}
			return err
		}
	}
	const lambda = "  - type: lambda\n    creds: {type: api_key, api_key: first}\n"
	log := run("projects:\n- name: main\n  backends:\n"+lambda+"  - type: cudo\n    project_id: p\n    creds: {type: api_key, api_key: k}\n"+
		"  - type: vultr\n    creds: {type: api_key, api_key: k}\n", types("lambda", "vultr"))
	if !strings.Contains(log, "Backend of config.yml was not configured") || strings.Contains(log, "first") {
		t.Errorf("log\n%s", log)
	}
	run("projects:\n- name: main\n  backends:\n"+strings.Replace(lambda, "first", "second", 1), func(tx *store.Tx, project string) error {
		row, err := tx.Backend(project, "lambda")
		if !strings.Contains(string(row.Spec), "second") {
			t.Errorf("backend %s, want the second key", row.Spec)
		}
		vol := store.Volume{
			ID: uuid.NewString(), ProjectID: project, Name: "v", Status: api.VolumeActive, Provisioning: &api.VolumeProvisioningData{VolumeID: "x"},
			Configuration: config.Volume{Type: "volume", Backend: "lambda"},
		}
		if err != nil {
			return err
		}
		admin, err := tx.UserByName("admin")
		if err != nil {
			return err
		}
		vol.UserID = admin.ID
		return tx.InsertVolume(&vol)
	})
	if log := run("projects:\n- name: main\n", types("lambda")); !strings.Contains(log, "lambda: volumes") {
		t.Errorf("log\n%s", log)
	}
	// What config.yml does not name is left alone.
	run("projects: []\n", types("lambda"))
	run("projects: []\n", func(tx *store.Tx, _ string) error {
		rows, err := tx.Events(store.EventFilter{System: true, Page: store.Page{Limit: 100, Ascending: true}})
		var got []string
		for _, e := range rows {
			got = append(got, e.Message+" → "+e.Targets[0].Type+" "+e.Targets[0].Name)
		}
		want := []string{
			"Backend lambda created → project main", "Backend vultr created → project main",
			"Backend lambda updated → project main", "Backend vultr deleted → project main",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		return err
	})
}
