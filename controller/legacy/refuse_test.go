package legacy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
)

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
			_, err := Import(t.Context(), Options{Path: path, Dir: filepath.Dir(path), Sealer: sealer(t, keys...), Now: now})
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
	_, err := Import(t.Context(), Options{Path: path, Dir: filepath.Dir(path), Sealer: sealer(t, oldKey()), Now: now})
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
	log := digest(t, killed+"-wal")
	if is, err := store.IsPython(t.Context(), killed, killed); err != nil || !is || digest(t, killed+"-wal") != log {
		t.Errorf("it is of 0.22.5: %v, %v", is, err)
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
	path, kept, ready := filepath.Join(dir, "sqlite.db"), filepath.Join(dir, KeptName), filepath.Join(dir, readyName)
	made := filepath.Join(dir, tempPrefix+"1", "sqlite.db")
	if err := os.Mkdir(filepath.Dir(made), 0o700); err != nil {
		t.Fatal(err)
	}
	// The disk was full when the new database was closed: a part is in its log.
	for file, text := range map[string]string{path: "old", made: "new", path + "-shm": "index", made + "-wal": "log"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := moveOut(made, ready); !errors.Is(err, store.ErrDisk) {
		t.Errorf("got %v", err)
	}
	if got := files(t, path); !cmp.Equal(got, []string{tempPrefix + "1", "sqlite.db", "sqlite.db-shm"}) {
		t.Errorf("left %v", got)
	}
	if err := os.Remove(made + "-wal"); err != nil {
		t.Fatal(err)
	}
	if err := moveOut(made, ready); err != nil {
		t.Fatal(err)
	}
	none := func(string, string) error { return errors.ErrUnsupported }
	if err := replace(path, kept, ready, none); err != nil {
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
	if err := replace(path, kept, ready, none); !errors.Is(err, store.ErrInUse) {
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
	_, err := Import(t.Context(), Options{Path: path, Dir: filepath.Dir(path), Sealer: sealer(t, oldKey()), Now: now})
	if !errors.Is(err, ErrKept) || digest(t, kept) != before {
		t.Errorf("got %v", err)
	}
}
