package legacy

import (
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

var now = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// oldKey is the key of testdata/0.22.5.sql, which the real server made: its
// users, projects and runs are those that test/takeover makes.
func oldKey() store.AESKey {
	return store.AESKey{Name: "k1", Secret: [32]byte([]byte("0123456789abcdef0123456789abcdef"))}
}

func sealer(t *testing.T, keys ...store.AESKey) *store.Sealer {
	t.Helper()
	s, err := store.NewSealer(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// old makes a database of 0.22.5 and changes it.
func old(t *testing.T, changes ...string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/0.22.5.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sqlite.db")
	db := openRaw(t, path)
	for _, query := range append([]string{"PRAGMA journal_mode = WAL", string(text)}, changes...) {
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func openRaw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func digest(t *testing.T, path string) [32]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

func files(t *testing.T, path string) []string {
	t.Helper()
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range list {
		names = append(names, f.Name())
	}
	return names
}

// imported takes a database over and reads it.
func imported(t *testing.T, path string, read func(*store.Tx) error) Report {
	t.Helper()
	s := sealer(t, oldKey())
	report, err := Import(t.Context(), Options{Path: path, Dir: filepath.Dir(path), Sealer: s, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	made, err := store.Open(t.Context(), store.Options{Path: path, Sealer: s})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := made.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := made.Read(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	return report
}

func TestImport(t *testing.T) {
	path := old(t)
	before := digest(t, path)
	report := imported(t, path, func(tx *store.Tx) error {
		admin, err := tx.UserByTokenHash(store.TokenHash("legacy-admin"))
		if err != nil {
			return err
		}
		main, err := tx.ProjectByName("main")
		if err != nil {
			return err
		}
		if admin.Name != "admin" || admin.GlobalRole != "admin" || !strings.Contains(admin.PrivateKey, "PRIVATE KEY") || main.OwnerID != admin.ID {
			t.Errorf("admin is %+v, project is %+v", admin, main)
		}
		checkAccounts(t, tx, main)
		checkSecrets(t, tx, main)
		checkFleet(t, tx, main)
		checkVolumes(t, tx, main)
		checkRuns(t, tx, main)
		return nil
	})
	if got := files(t, path); !cmp.Equal(got, []string{KeptName, "sqlite.db", "sqlite.db.lock"}) {
		t.Errorf("left %v", got)
	}
	if digest(t, report.Kept) != before {
		t.Error("the old database was changed")
	}
	if info, err := os.Stat(report.Kept); err != nil || info.Mode() != 0o600 {
		t.Errorf("the old database has the mode %v, %v", info.Mode(), err)
	}
	if report.Rows["users"] != 4 || report.Rows["runs"] != 5 || len(report.LeftOut) != 0 {
		t.Errorf("report is %+v", report)
	}
}

func checkAccounts(t *testing.T, tx *store.Tx, main store.Project) {
	t.Helper()
	members, err := tx.Members(main.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range members {
		u, err := tx.User(m.UserID)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, u.Name+" "+m.Role)
	}
	if want := []string{"admin admin", "ann manager", "bob user"}; !cmp.Equal(got, want) {
		t.Errorf("members are %v, want %v", got, want)
	}
	ann, err := tx.UserByName("ann")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := tx.PublicKeys(ann.ID)
	if err != nil || len(keys) != 1 {
		t.Fatalf("keys are %v, %v", keys, err)
	}
	if k := keys[0]; k.Name != "laptop" || strings.Count(k.Key, " ") != 1 || !strings.HasPrefix(k.Fingerprint, "SHA256:") {
		t.Errorf("key is %+v", k)
	}
	if _, err := tx.UserByName("gone"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a deleted user is back: %v", err)
	}
}

func checkSecrets(t *testing.T, tx *store.Tx, main store.Project) {
	t.Helper()
	s, err := tx.SecretByName(main.ID, "hf")
	if err != nil || s.Value != "hush hush" {
		t.Errorf("secret is %+v, %v", s, err)
	}
	b, err := tx.Backend(main.ID, "aws")
	if err != nil {
		t.Fatal(err)
	}
	var parsed config.Backend
	if err := json.Unmarshal(b.Spec, &parsed); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{`"AKIAEXAMPLE"`, `"secret"`, `"us-east-1"`} {
		if !strings.Contains(string(b.Spec), word) {
			t.Errorf("backend %s has no %s", b.Spec, word)
		}
	}
	repo, err := tx.Repo(main.ID, "r1")
	if err != nil {
		t.Fatal(err)
	}
	creds, err := tx.RepoCreds(repo.ID, main.OwnerID)
	if err != nil || creds.Creds.OAuthToken == nil || *creds.Creds.OAuthToken != "gho_x" {
		t.Errorf("credentials are %+v, %v", creds, err)
	}
}

func checkFleet(t *testing.T, tx *store.Tx, main store.Project) {
	t.Helper()
	f, err := tx.FleetByName(main.ID, "on-prem")
	if err != nil {
		t.Fatal(err)
	}
	list, err := tx.InstancesOfFleet(f.ID)
	if err != nil || len(list) != 2 {
		t.Fatalf("instances are %v, %v", list, err)
	}
	i := list[1]
	if i.Name != "on-prem-1" || i.Hostname != "127.0.0.3" || i.Status != api.InstancePending || !i.BlocksWanted.Auto || i.Backend != "remote" {
		t.Errorf("instance is %+v", i)
	}
	if a := i.Access; a.Port != 2222 || a.User != "ubuntu" || len(a.Keys) != 1 || a.Env["A"] != "b" || a.Jump != nil {
		t.Errorf("access is %+v", a)
	}
	if !i.CreatedAt.After(list[0].CreatedAt) || list[0].CreatedAt.Before(now) {
		t.Errorf("created at %v and %v", list[0].CreatedAt, i.CreatedAt)
	}
	work, err := tx.AllWork()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[store.Kind]int{}
	for _, k := range work {
		kinds[k.Kind]++
	}
	want := map[store.Kind]int{store.KindFleet: 2, store.KindInstance: 2, store.KindVolume: 2}
	if !cmp.Equal(kinds, want) {
		t.Errorf("work is %v, want %v", kinds, want)
	}
}

func checkVolumes(t *testing.T, tx *store.Tx, main store.Project) {
	t.Helper()
	v, err := tx.VolumeByName(main.ID, "disk")
	if err != nil {
		t.Fatal(err)
	}
	if v.Status != api.VolumeActive || v.Provisioning == nil || v.Provisioning.VolumeID != "vol-c76dce8221a033453" || v.Formatted {
		t.Errorf("volume is %+v", v)
	}
}

func checkRuns(t *testing.T, tx *store.Tx, main store.Project) {
	t.Helper()
	r, err := tx.RunByName(main.ID, "later")
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != api.RunTerminated || r.Reason == nil || *r.Reason != api.ReasonStoppedByUser || r.Resubmissions != 1 || r.Spec.Configuration.Task == nil {
		t.Errorf("run is %+v", r)
	}
	jobs, err := tx.JobsByRun(r.ID)
	if err != nil || len(jobs) == 0 {
		t.Fatalf("jobs are %v, %v", jobs, err)
	}
	if j := jobs[0]; j.FinishedAt == nil || j.Reason == nil || j.Spec.JobName != "later-0-0" {
		t.Errorf("job is %+v", j)
	}
}

func TestHosts(t *testing.T) {
	path := old(t,
		"UPDATE instances SET status = 'BUSY', busy_blocks = 1, total_blocks = 2, unreachable = 0 WHERE instance_num = 0",
		"UPDATE instances SET status = 'TERMINATING' WHERE instance_num = 1",
		`UPDATE instances SET remote_connection_info = json_set(remote_connection_info, '$.ssh_proxy', json('{"hostname":"jump","username":"u","port":23}'),
			'$.ssh_proxy_keys', json('[{"public":"","private":"key"}]')) WHERE instance_num = 0`)
	imported(t, path, func(tx *store.Tx) error {
		list, err := tx.Instances(store.InstanceFilter{Page: store.Page{Ascending: true}})
		if err != nil {
			return err
		}
		if len(list) != 2 {
			t.Fatalf("instances are %+v", list)
		}
		kept, ending := list[0], list[1]
		if kept.Status != api.InstanceIdle || kept.BusyBlocks != 0 || !kept.Unreachable || kept.UnreachableSince == nil || kept.Type == nil || kept.TotalBlocks != 2 {
			t.Errorf("a host is %+v", kept)
		}
		if diff := cmp.Diff(&store.Jump{Host: "jump", Port: 23, User: "u", Keys: []string{"key"}}, kept.Access.Jump); diff != "" {
			t.Error(diff)
		}
		if ending.Status != api.InstanceTerminated || !ending.Deleted || !ending.Uninstalled || ending.FinishedAt == nil {
			t.Errorf("a host that went is %+v", ending)
		}
		return nil
	})
}

func TestLeftOut(t *testing.T) {
	path := old(t, `UPDATE runs SET run_spec = '{"configuration":{"type":"of-old"}}' WHERE run_name = 'later'`, "UPDATE backends SET config = '{}', source_config = '{}'",
		"UPDATE instances SET fleet_id = NULL, status = 'IDLE' WHERE name = 'on-prem-1'")
	report := imported(t, path, func(tx *store.Tx) error {
		main, err := tx.ProjectByName("main")
		if err != nil {
			return err
		}
		if _, err := tx.RunByName(main.ID, "later"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a run that nobody can read is there: %v", err)
		}
		_, err = tx.RunByName(main.ID, "dev")
		return err
	})
	if len(report.LeftOut) != 3 || !strings.Contains(report.LeftOut[1], "The host on-prem-1 of project main is in no fleet") || report.Rows["runs"] != 4 {
		t.Errorf("report is %+v", report)
	}
}

// FuzzRows reads rows with anything in their columns.
func FuzzRows(f *testing.F) {
	f.Add("2026-11-26 05:43:02.253029", `{"configuration":{"type":"task","commands":["a"]}}`, "enc:identity:noname:{}", int64(1))
	f.Add("69c615138a9c4ccdbf5d164bf5f69539", `{"host":"h","ssh_proxy":{}}`, "FAILED", int64(0))
	columns := strings.Fields(`id name token global_role email active created_at ssh_private_key ssh_public_key deleted owner_id user_id project_id
		type config auth source_config source_auth spec status backend instance_num fleet_id last_processed_at remote_connection_info
		job_provisioning_data termination_reason configuration volume_provisioning_data run_spec service_spec run_name submitted_at priority
		deployment_num resubmission_attempt job_spec_data job_runtime_data run_id replica_num job_num submission_num key fingerprint value updated_at`)
	f.Fuzz(func(_ *testing.T, a, b, c string, n int64) {
		values := []any{a, b, c, n, nil, []byte(a), n != 0}
		for turn := range values {
			r := &record{table: "t", values: map[string]any{}, sealer: store.PlainSealer()}
			for i, column := range columns {
				r.values[column] = values[(i+turn)%len(values)]
			}
			for _, read := range []func(){
				func() { project(r) }, func() { publicKey(r) }, func() { secret(r) }, func() { backend(r) }, func() { repo(r) }, func() { repoCreds(r) },
				func() { fleet(r) }, func() { instance(r, &store.Fleet{}, now) }, func() { volume(r) }, func() { run(r) }, func() { job(r, nil) }, func() { event(r) },
			} {
				r.err = nil
				read()
			}
		}
	})
}
