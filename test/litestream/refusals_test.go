//go:build e2e

package litestream

import (
	"bytes"
	"database/sql"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dstack/test/lab"
	"dstack/test/storages"
)

// otherKey is not the one that the servers have.
const otherKey = "DSTACK_SERVER_ENCRYPTION_KEY=AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// replica is one that a server of ours filled and left.
func replica(t *testing.T, st *storages.Storage, url string) (dir string) {
	t.Helper()
	s := server(t, t.TempDir(), environment(st, url))
	notes{}.writeOne(t, s, "one")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return s.Dir
}

// TestRefusals: what can't be is one sentence, exit code 1, and nothing is
// overwritten: neither the folder nor the replica.
func TestRefusals(t *testing.T) {
	st := storages.S3(t)
	st.Make(t, "bucket")
	url := st.URL("bucket", "p")
	used := replica(t, st, url)
	upload03(t, st, "bucket", "old")
	behind := st.URL("bucket", "behind")
	late := replica(t, st, behind)
	early := filepath.Join(t.TempDir(), "early")
	if err := os.CopyFS(early, os.DirFS(late)); err != nil {
		t.Fatal(err)
	}
	s := server(t, late, environment(st, behind))
	notes{}.writeOne(t, s, "two")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	const key = "DSTACK_SERVER_ENCRYPTION_KEY="
	for name, tt := range map[string]struct {
		dir  string // empty: a new one
		env  []string
		want string
	}{
		"unknown scheme":   {env: environment(st, "ftp://bucket/p"), want: `LITESTREAM_REPLICA_URL: scheme "ftp" is not known: use s3://bucket/path`},
		"no bucket":        {env: environment(st, "s3://"), want: `"" is no name of a bucket or container`},
		"missing variable": {env: environment(st, url, "AWS_SECRET_ACCESS_KEY="), want: "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set; set both"},
		"no variables":     {env: environment(st, url, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_EC2_METADATA_DISABLED=true"), want: "no usable credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"no bucket there":  {env: environment(st, "s3://nobucket/p"), want: "cannot start: s3://nobucket/p: the bucket does not exist; create it, or correct the URL"},
		"no such host":     {env: environment(st, url, "AWS_ENDPOINT_URL_S3=http://127.0.0.1:9"), want: "the storage can't be reached"},
		"interval":         {env: environment(st, url, "LITESTREAM_SYNC_INTERVAL=1"), want: `LITESTREAM_SYNC_INTERVAL="1": must be a time from 50ms to 1h0m0s`},
		"wrong key":        {env: environment(st, url, otherKey), want: "the encryption key does not fit the database"},
		"no key":           {env: environment(st, url, key), want: "encryption.key: the encryption key is not usable (file does not exist). The database is encrypted with it: restore the file, or set DSTACK_SERVER_ENCRYPTION_KEY"},
		"of dstack 0.22":   {env: environment(st, st.URL("bucket", "old")), want: "the database is of a version of dstack other than 0.22.5"},
		"replica is newer": {dir: early, env: environment(st, behind), want: "the replica has changes that the database at"},
		"another database": {dir: used, env: environment(st, behind), want: "or it is the replica of another database"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tt.dir
			if dir == "" {
				dir = t.TempDir()
			}
			before := folder(t, dir)
			if text := lab.Refused(t, dir, tt.env); !strings.Contains(text, tt.want) || strings.Contains(text, "secret") {
				t.Errorf("%s\nwant %s", text, tt.want)
			}
			if after := folder(t, dir); after != before {
				t.Errorf("the folder changed from\n%sto\n%s", before, after)
			}
		})
	}
	// The replicas are still what they were.
	for _, url := range []string{url, behind} {
		s := server(t, t.TempDir(), environment(st, url), "--wait-for-lease")
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// folder lists the files of a folder with their sizes, but for empty folders
// and locks.
func folder(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".lock") || path == "server.log" || strings.HasPrefix(path, ".dstack/") || strings.HasSuffix(path, "-shm") {
			return err
		}
		info, err := d.Info()
		all.WriteString(path + " " + info.ModTime().String() + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// upload03 puts what Litestream 0.3.13 wrote into a bucket.
func upload03(t *testing.T, st *storages.Storage, bucket, path string) {
	t.Helper()
	const made = "../../controller/replication/testdata/v03"
	err := fs.WalkDir(os.DirFS(made), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(made, name))
		storages.Send(t, http.MethodPut, "http://"+st.Proxy.Address+"/"+bucket+"/"+path+"/"+name, string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCredentials: each storage says by its own words that it does not let
// somebody in, we by ours.
func TestCredentials(t *testing.T) {
	azure := storages.Azure(t)
	azure.Make(t, "box")
	gcs := storages.GCS(t)
	for name, tt := range map[string]struct {
		env  []string
		want string
	}{
		"azure: no container": {env: environment(azure, azure.URL("nobox", "p")), want: "the container does not exist"},
		"azure: another key": {
			env:  environment(azure, azure.URL("box", "p"), "LITESTREAM_AZURE_ACCOUNT_KEY=AAAA"),
			want: "these credentials may not read, list, write and delete there; give them the rights, or use others: LITESTREAM_AZURE_ACCOUNT_KEY",
		},
		"azure: no key":  {env: environment(azure, azure.URL("box", "p"), "LITESTREAM_AZURE_ACCOUNT_KEY=%%"), want: "set LITESTREAM_AZURE_ACCOUNT_KEY to a key of the account"},
		"gcs: no bucket": {env: environment(gcs, gcs.URL("nobucket", "p")), want: "the bucket does not exist"},
		"gcs: no file": {
			env:  environment(gcs, gcs.URL("bucket", "p"), "STORAGE_EMULATOR_HOST=", "GOOGLE_APPLICATION_CREDENTIALS=/nowhere.json"),
			want: "there are no usable credentials",
		},
		"gcs: no JSON": {
			env:  environment(gcs, gcs.URL("bucket", "p"), "STORAGE_EMULATOR_HOST=", "GOOGLE_APPLICATION_CREDENTIALS_JSON=secret"),
			want: "GOOGLE_APPLICATION_CREDENTIALS_JSON is no JSON",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if text := lab.Refused(t, t.TempDir(), tt.env); !strings.Contains(text, tt.want) || strings.Contains(text, "secret") {
				t.Errorf("%s\nwant %s", text, tt.want)
			}
		})
	}
}

// run is a command of the program; it returns what it printed.
func run(t *testing.T, code int, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), lab.Binary("dstack"), args...)
	cmd.Env = append(cmd.Environ(), env...)
	cmd.Env = append(cmd.Env, "HOME="+dir, "DSTACK_SERVER_DIR="+filepath.Join(dir, "server"), "COLUMNS=500")
	text, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%v: exit %d\n%s", args, got, text)
	}
	return string(text)
}

// TestRestoreCommand: from a replica, at a time, from a backup; never over a
// database.
func TestRestoreCommand(t *testing.T) {
	st := storages.S3(t)
	st.Make(t, "bucket")
	url := st.URL("bucket", "p")
	env := environment(st, url)
	used := replica(t, st, url)
	upload03(t, st, "bucket", "old")

	if text := run(t, 1, used, env, "server", "restore"); !strings.Contains(text, "there is a database at") {
		t.Error(text)
	}
	dir := t.TempDir()
	if text := run(t, 0, dir, env, "server", "restore", "--from", url); !strings.Contains(text, "Restored ~/server/data/sqlite.db") {
		t.Error(text)
	}
	backup := filepath.Join(dir, "backup.db")
	if text := run(t, 0, dir, env, "server", "backup", backup); !strings.Contains(text, "Wrote "+backup) {
		t.Error(text)
	}
	if text := run(t, 1, dir, env, "server", "backup", backup); !strings.Contains(text, "exists already") {
		t.Error(text)
	}
	if data, err := os.ReadFile(backup); err != nil || bytes.Contains(data, []byte("AAECAwQFBgcICQoL")) {
		t.Errorf("the key is in the backup, or: %v", err)
	}
	again := t.TempDir()
	run(t, 0, again, env, "server", "restore", "--from", backup)
	if text := run(t, 1, t.TempDir(), env, "server", "restore", "--at", "2001-01-01T00:00:00Z"); !strings.Contains(text, "does not reach back to 2001-01-01T00:00:00Z") {
		t.Error(text)
	}
	if text := run(t, 1, t.TempDir(), env, "server", "restore", "--at", "yesterday"); !strings.Contains(text, "is no time") {
		t.Error(text)
	}
	if text := run(t, 1, t.TempDir(), env, "server", "restore", "--from", "/nowhere"); !strings.Contains(text, "/nowhere: no such file") {
		t.Error(text)
	}
	if text := run(t, 1, t.TempDir(), append(env, otherKey), "server", "restore"); !strings.Contains(text, "does not fit") {
		t.Error(text)
	}
	// What Litestream 0.3 wrote for dstack 0.22 comes back as it was.
	old := t.TempDir()
	run(t, 0, old, env, "server", "restore", "--from", st.URL("bucket", "old"))
	db, err := sql.Open("sqlite", filepath.Join(old, "server", "data", "sqlite.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n := 0
	if err := db.QueryRow("SELECT count(*) FROM notes").Scan(&n); err != nil || n != 41 {
		t.Errorf("%d notes, %v", n, err)
	}
	// A server goes on from what was restored.
	s := server(t, t.TempDir(), env)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
}

// TestBadDisk: a database that does not fit, or may not be written, leaves
// nothing.
func TestBadDisk(t *testing.T) {
	st := storages.S3(t)
	st.Make(t, "bucket")
	url := st.URL("bucket", "p")
	replica(t, st, url)
	for options, want := range map[string]string{
		"size=64k": "is full; free some space; nothing was changed",
		"ro":       "make the folder writable, or choose another one with DSTACK_SERVER_DIR",
	} {
		t.Run(options, func(t *testing.T) {
			dir := t.TempDir()
			small := filepath.Join(dir, "server", "data")
			if err := os.MkdirAll(small, 0o700); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", small).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Cleanup(func() {
				if out, err := exec.Command("umount", small).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
			if text := lab.Refused(t, dir, environment(st, url)); !strings.Contains(text, want) {
				t.Error(text)
			}
			if left, err := os.ReadDir(small); err != nil || len(left) != 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}
