package store

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/jobapi"
)

// With -update, TestUpgrade writes the fixture of the newest schema where it is
// missing. Those that are there are never written again: they are what servers
// of that version left behind.
var update = flag.Bool("update", false, "write the fixture of the newest schema")

func fixtureKey() AESKey { return aesKey("fixture", 7) }

// seedRest fills the tables that seed leaves empty.
func seedRest(tx *Tx) error {
	hash := strings.Repeat("ab", 32)
	return errors.Join(
		tx.InsertPublicKey(&PublicKey{ID: "k1", UserID: "u1", Name: "laptop", Type: "ssh-ed25519", Fingerprint: "SHA256:x", Key: "ssh-ed25519 A", AddedAt: at(1)}),
		tx.InsertSecret(&Secret{ID: "s1", ProjectID: "p1", Name: "hf", Value: "hush", CreatedAt: at(1), UpdatedAt: at(2)}),
		tx.InsertBackend(&Backend{ID: "b1", ProjectID: "p1", Type: "aws", Spec: json.RawMessage(`{"type":"aws"}`)}),
		tx.PutRepo(&Repo{ID: "repo", ProjectID: "p1", RepoID: "repo-1", Info: []byte(`{"repo_type":"virtual"}`)}),
		tx.PutRepoCreds(&RepoCreds{RepoPK: "repo", UserID: "u1", Creds: api.RemoteRepoCreds{CloneURL: "https://example.com/a.git", OAuthToken: ptr("t")}}),
		tx.PutRepoCode(&RepoCode{ID: "c1", RepoPK: "repo", Hash: hash, Size: 3, CreatedAt: at(3)}),
		tx.PutFileArchive(&FileArchive{ID: "a1", UserID: "u1", Hash: hash, Size: 3, CreatedAt: at(3)}),
		tx.InsertVolume(&Volume{ID: "v1", ProjectID: "p1", UserID: "u1", Name: "data", Configuration: config.Volume{Type: "volume", Backend: "aws", Name: ptr("data"), Size: ptr(10.0)},
			Status: api.VolumeActive, Provisioning: &api.VolumeProvisioningData{VolumeID: "vol-1"}, CreatedAt: at(4), LastProcessedAt: at(5), Token: "t", Formatted: true}),
		tx.PutAttachment(&VolumeAttachment{VolumeID: "v1", InstanceID: "i1", Device: ptr("/dev/sdf"), WantedAt: at(6)}),
		tx.InsertExport(&Export{ID: "e1", ProjectID: "p1", Name: "lend", IsGlobal: true, CreatedAt: at(7)}),
		tx.InsertImport(&Import{ID: "im1", ExportID: "e1", ProjectID: "p1", CreatedAt: at(8)}),
		tx.InsertGateway(&Gateway{ID: "g1", ProjectID: "p1", Name: "gate", Configuration: config.Gateway{Type: "gateway", Name: ptr("gate")}, Status: api.GatewayRunning, CreatedAt: at(9), LastProcessedAt: at(9)}),
		tx.InsertGatewayReplica(&GatewayReplica{ID: "gr1", GatewayID: "g1", Backend: "aws", CreatedAt: at(9), Status: api.ReplicaRunning}),
		tx.InsertHealthCheck(&HealthCheck{ID: "h1", InstanceID: "i1", CollectedAt: at(10), Status: api.Healthy}),
		tx.InsertMetrics(MetricsPoint{JobID: "j1", At: at(11), CPUMicro: 1, MemoryBytes: 2, WorkingSetBytes: 3, GPUs: []jobapi.GPUUsage{{}}}),
		tx.InsertStray(&Stray{ID: "st1", ProjectID: "p1", Backend: "aws", MachineID: "i-2", Found: StrayMachine{Region: "r"}, Hold: "young", FoundAt: at(12)}),
		tx.InsertEvents(Event{ID: "ev1", Message: "Run submitted", RecordedAt: at(13), ActorID: ptr("u1"), Targets: []EventTarget{{Type: "run", ID: "r1", Name: "train", ProjectID: ptr("p1")}}}),
		tx.Wake(at(14), Key{KindRun, "r1"}),
	)
}

// dump writes a closed database as SQL.
func dump(t *testing.T, path string) string {
	t.Helper()
	var b strings.Builder
	for _, line := range raw(t, path, "SELECT sql || ';' FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid") {
		b.WriteString(line + "\n")
	}
	for _, table := range raw(t, path, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid") {
		quoted := raw(t, path, fmt.Sprintf("SELECT 'quote(' || name || ')' FROM pragma_table_info('%s') ORDER BY cid", table))
		for _, row := range raw(t, path, "SELECT "+strings.Join(quoted, " || ', ' || ")+" FROM "+table+" ORDER BY 1") {
			fmt.Fprintf(&b, "INSERT INTO %s VALUES (%s);\n", table, row)
		}
	}
	return b.String()
}

// load makes a database of SQL.
func load(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sqlite.db")
	err := withFile(t.Context(), path, path, func(c *conn) error {
		_, err := c.raw.ExecContext(t.Context(), "PRAGMA foreign_keys = 0; BEGIN;\n"+text+"COMMIT; PRAGMA journal_mode = WAL;")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// fresh makes a database of this build with a row in every table.
func fresh(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sqlite.db")
	s, err := Open(t.Context(), Options{Path: path, Sealer: sealer(t, fixtureKey())})
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, seed)
	write(t, s, seedRest)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// columns lists "table.column" of all tables.
func columns(t *testing.T, path string) []string {
	t.Helper()
	return raw(t, path, "SELECT t.name || '.' || c.name FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table' ORDER BY 1")
}

// TestUpgrade opens databases that servers of earlier schemas left behind.
func TestUpgrade(t *testing.T) {
	steps, err := migrations(migrationFiles)
	if err != nil {
		t.Fatal(err)
	}
	current := fresh(t)
	for _, table := range tables() {
		if n := raw(t, current, "SELECT count(*) FROM "+table)[0]; n == "0" && !strings.HasPrefix(table, "exported_") && table != "default_gateways" {
			t.Errorf("the fixture has no row of %s: add one to seedRest", table)
		}
	}
	newest := filepath.Join("testdata", fmt.Sprintf("schema-%04d.sql", steps[len(steps)-1].version))
	if _, err := os.Stat(newest); os.IsNotExist(err) && *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(newest, []byte(dump(t, current)), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(newest); err != nil {
		t.Errorf("%v: a new schema needs a fixture: go test ./controller/store -run TestUpgrade -update", err)
	}
	list, err := filepath.Glob("testdata/schema-*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range list {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			path := load(t, string(text))
			upgrade(t, path)
			if diff := cmp.Diff(columns(t, current), columns(t, path)); diff != "" {
				t.Errorf("its columns are not those of a new database:\n%s", diff)
			}
		})
	}
}

// upgrade opens a fixture and reads all of it.
func upgrade(t *testing.T, path string) {
	t.Helper()
	counts := map[string]string{}
	for _, table := range raw(t, path, "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'schema_versions'") {
		counts[table] = raw(t, path, "SELECT count(*) FROM "+table)[0]
	}
	s, err := Open(t.Context(), Options{Path: path, Sealer: sealer(t, fixtureKey())})
	if err != nil {
		t.Fatal(err)
	}
	read(t, s, readAll)
	read(t, s, func(tx *Tx) error {
		u, err := tx.UserByTokenHash(TokenHash("token-1"))
		if err != nil || u.PrivateKey != "PEM of user" {
			t.Errorf("user is %+v, %v", u, err)
		}
		r, err := tx.RunByName("p1", "train")
		if err != nil || r.Spec.Configuration.Task == nil || r.Spec.Configuration.Task.Env["TOKEN"].Value != "hush-hush" {
			t.Errorf("run is %+v, %v", r, err)
		}
		return nil
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for table, n := range counts {
		if now := raw(t, path, "SELECT count(*) FROM "+table)[0]; now != n {
			t.Errorf("%s has %s rows, had %s", table, now, n)
		}
	}
	if bad := raw(t, path, "SELECT \"table\" FROM pragma_foreign_key_check"); len(bad) > 0 {
		t.Errorf("rows without parents in %v", bad)
	}
}

// readAll reads every row of every table that is one of structs.
func readAll(tx *Tx) error {
	var errs []error
	errs = append(errs, all(tx, users), all(tx, projects), all(tx, members), all(tx, publicKeys), all(tx, secrets), all(tx, backends),
		all(tx, repos), all(tx, repoCreds), all(tx, fileArchives), all(tx, repoCodes), all(tx, fleets), all(tx, instances), all(tx, runs), all(tx, jobs),
		all(tx, volumes), all(tx, exports), all(tx, imports), all(tx, gateways), all(tx, gatewayReplicas), all(tx, healthChecks), all(tx, metrics), all(tx, strays), all(tx, events))
	_, err := tx.VolumeAttachments(nil)
	return errors.Join(append(errs, err)...)
}

func all[R any](tx *Tx, t *table[R]) error {
	_, err := t.find(tx, "")
	return err
}

// TestFailedUpgrade leaves a database as it was when a step fails.
func TestFailedUpgrade(t *testing.T) {
	path := fresh(t)
	before := dump(t, path)
	err := withFile(t.Context(), path, path, func(c *conn) error {
		steps := []migration{{9001, "ALTER TABLE runs ADD COLUMN x TEXT; UPDATE users SET name = 'x'"}, {9002, "DROP TABLE secrets; INSERT INTO nothing VALUES (1)"}}
		return migrate(context.WithoutCancel(t.Context()), c, steps, sealer(t, fixtureKey()), false)
	})
	if err == nil || !strings.Contains(err.Error(), "bring the schema to version 9002") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(before, dump(t, path)); diff != "" {
		t.Errorf("it changed:\n%s", diff)
	}
	upgrade(t, path)
}
