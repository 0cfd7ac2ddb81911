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
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
	report, err := Import(t.Context(), Options{Path: path, Sealer: s, Now: now})
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
		if kept.Status != api.InstanceIdle || kept.BusyBlocks != 0 || kept.UnreachableSince == nil || kept.Type == nil || kept.TotalBlocks != 2 {
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
	path := old(t, `UPDATE runs SET run_spec = '{"configuration":{"type":"of-old"}}' WHERE run_name = 'later'`, "UPDATE backends SET config = '{}', source_config = '{}'")
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
	if len(report.LeftOut) != 2 || report.Rows["runs"] != 4 {
		t.Errorf("report is %+v", report)
	}
}

func TestRefuses(t *testing.T) {
	tests := []struct {
		name, change string
		keys         []store.AESKey
		want         error
		words        []string
	}{
		{"wrong key", "", []store.AESKey{{Name: "k1"}}, store.ErrWrongKey, []string{"encryption.keys"}},
		{"no key", "", nil, store.ErrWrongKey, []string{"encryption.keys"}},
		{"active run", "UPDATE runs SET status = 'RUNNING' WHERE run_name = 'dev'", nil, ErrBusy, []string{"run dev of project main (running)", "dstack stop"}},
		{"waiting run", "UPDATE runs SET status = 'PENDING' WHERE run_name = 'dev'", nil, ErrBusy, []string{"run dev"}},
		{"machine", "UPDATE instances SET status = 'IDLE', backend = 'AWS'", nil, ErrBusy, []string{"machine on-prem-0 of project main (idle)", "fleet delete"}},
		{"volume", "UPDATE volumes SET status = 'PROVISIONING' WHERE name = 'disk'", nil, ErrBusy, []string{"volume disk"}},
		{"gateway", `INSERT INTO gateways (id, name, region, created_at, project_id, backend_id, status, last_processed_at)
			SELECT id, 'gate', 'r', created_at, id, id, 'RUNNING', created_at FROM projects WHERE name = 'main'`, nil, ErrBusy, []string{"gateway gate"}},
		{"older", "UPDATE alembic_version SET version_num = 'abc'", nil, ErrSchema, []string{"abc", "start dstack 0.22.5 with it once"}},
		{"no version", "DELETE FROM alembic_version", nil, ErrSchema, nil},
		{"fleet of another form", `UPDATE fleets SET spec = '{"configuration":1}' WHERE name = 'cloud'`, nil, errValue, []string{"fleet cloud"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := old(t, tt.change)
			before := digest(t, path)
			keys := tt.keys
			if keys == nil && !errors.Is(tt.want, store.ErrWrongKey) {
				keys = []store.AESKey{oldKey()}
			}
			_, err := Import(t.Context(), Options{Path: path, Sealer: sealer(t, keys...), Now: now})
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			for _, word := range tt.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
			if digest(t, path) != before || !cmp.Equal(files(t, path), []string{"sqlite.db", "sqlite.db.lock"}) {
				t.Errorf("it was changed: %v", files(t, path))
			}
			check := Check(t.Context(), path, "replica", sealer(t, keys...))
			if !errors.Is(tt.want, errValue) && !errors.Is(check, tt.want) {
				t.Errorf("Check says %v", check)
			}
		})
	}
}

func TestInUse(t *testing.T) {
	path := old(t)
	db := openRaw(t, path)
	count := 0
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM users").Scan(&count); err != nil || count == 0 {
		t.Fatal(count, err)
	}
	_, err := Import(t.Context(), Options{Path: path, Sealer: sealer(t, oldKey()), Now: now})
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), "Stop the server of dstack 0.22.5") {
		t.Errorf("got %v", err)
	}
}

// TestLog takes over what lies in the log only: a server that was killed.
func TestLog(t *testing.T) {
	path := old(t)
	db := openRaw(t, path)
	for _, query := range []string{"PRAGMA wal_autocheckpoint = 0", "UPDATE projects SET templates_repo = 'late' WHERE name = 'main'"} {
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	killed := filepath.Join(t.TempDir(), "sqlite.db")
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(path+suffix, killed+suffix); err != nil {
			t.Fatal(err)
		}
	}
	imported(t, killed, func(tx *store.Tx) error {
		p, err := tx.ProjectByName("main")
		if err == nil && (p.TemplatesRepo == nil || *p.TemplatesRepo != "late") {
			t.Errorf("what was in the log is lost: %v", p.TemplatesRepo)
		}
		return err
	})
}

// TestCutOff goes on after an import that ended before its last step: a half
// database is there, and the old one has its second name, or was copied.
func TestCutOff(t *testing.T) {
	for name, second := range map[string]func(from, to string) error{"linked": os.Link, "copied": copyFile} {
		t.Run(name, func(t *testing.T) {
			path := old(t)
			before := digest(t, path)
			dir := filepath.Dir(path)
			if err := os.MkdirAll(filepath.Join(dir, tempPrefix+"1"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, tempPrefix+"1", "sqlite.db"), []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := second(path, filepath.Join(dir, KeptName)); err != nil {
				t.Fatal(err)
			}
			imported(t, path, func(tx *store.Tx) error {
				_, err := tx.UserByName("admin")
				return err
			})
			if got := files(t, path); !cmp.Equal(got, []string{KeptName, "sqlite.db", "sqlite.db.lock"}) {
				t.Errorf("left %v", got)
			}
			if digest(t, filepath.Join(dir, KeptName)) != before {
				t.Error("the old database was changed")
			}
		})
	}
}

// TestReplace keeps a database where files cannot have two names.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path, kept, made := filepath.Join(dir, "sqlite.db"), filepath.Join(dir, KeptName), filepath.Join(dir, "made")
	for file, text := range map[string]string{path: "old", made: "new", path + "-shm": "index"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	none := func(string, string) error { return errors.ErrUnsupported }
	if err := replace(path, kept, made, none); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{path: "new", kept: "old"} {
		if text, err := os.ReadFile(file); err != nil || string(text) != want {
			t.Errorf("%s holds %q, %v", file, text, err)
		}
	}
	if got := files(t, path); !cmp.Equal(got, []string{KeptName, "sqlite.db"}) {
		t.Errorf("left %v", got)
	}
	// A log with something in it is of a database that somebody uses.
	if err := os.WriteFile(path+"-wal", []byte("log"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replace(path, kept, made, none); !errors.Is(err, store.ErrInUse) {
		t.Errorf("got %v", err)
	}
}

func TestKeptInTheWay(t *testing.T) {
	path := old(t)
	kept := filepath.Join(filepath.Dir(path), KeptName)
	if err := os.WriteFile(kept, []byte("an earlier one"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := digest(t, kept)
	_, err := Import(t.Context(), Options{Path: path, Sealer: sealer(t, oldKey()), Now: now})
	if !errors.Is(err, ErrKept) || digest(t, kept) != before {
		t.Errorf("got %v", err)
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
