//go:build e2e

package badinput

import (
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // faults of a database are made with SQL

	"dstack/test/lab"
)

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// serve starts a server that is expected to refuse to start.
func serve(t *testing.T, dir string, env []string, args ...string) lab.Result {
	t.Helper()
	c := call{dir: t.TempDir(), env: append([]string{"HOME=" + t.TempDir(), "DSTACK_SERVER_DIR=" + dir}, env...)}
	return c.dstack(t, append([]string{"server", "-n", "--port", freePort(t)}, args...)...)
}

// used is the folder of a server that ran once, with copies.
type used struct{ dir string }

// newUsed lets a server make its folder.
func newUsed(t *testing.T) used {
	t.Helper()
	dir := t.TempDir()
	runOnce(t, dir)
	return used{filepath.Join(dir, "server")}
}

// runOnce starts a server in dir and stops it: its data is fine.
func runOnce(t *testing.T, dir string, env ...string) {
	t.Helper()
	s, err := lab.StartServer(t.Context(), dir, env)
	if err == nil {
		err = s.Stop()
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
}

func (u used) copyTo(t *testing.T, dir string) {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS(u.dir)); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// TestBrokenFolder starts servers in folders with a fault: they say which
// and leave all as it is.
func TestBrokenFolder(t *testing.T) {
	const database, key, conf = "data/sqlite.db", "encryption.key", "config.yml"
	random := make([]byte, 32)
	_, _ = rand.Read(random)
	tests := map[string]struct {
		spoil func(t *testing.T, dir string)
		env   []string
		// want has <dir> for the folder.
		want string
	}{
		"newer database": {
			spoil: func(t *testing.T, dir string) {
				query(t, filepath.Join(dir, database), "INSERT INTO schema_versions (version) VALUES (999)")
			},
			want: "cannot start: <dir>/data/sqlite.db: the database is from a newer version of dstack. Its schema has version 999, this build knows versions up to ~",
		},
		"database of another program": {
			spoil: func(t *testing.T, dir string) {
				remove(t, filepath.Join(dir, database))
				query(t, filepath.Join(dir, database), "CREATE TABLE notes (text TEXT)")
			},
			want: "cannot start: <dir>/data/sqlite.db: the database belongs to another program. Move it away, or choose another folder with DSTACK_SERVER_DIR; nothing was changed.",
		},
		"database of an old version": {
			spoil: func(t *testing.T, dir string) {
				remove(t, filepath.Join(dir, database))
				query(t, filepath.Join(dir, database), "CREATE TABLE alembic_version (version_num TEXT)")
			},
			want: `cannot start: <dir>/data/sqlite.db: the database is of a version of dstack other than 0.22.5. Its schema is "", and that of 0.22.5 is "40f19bea9d2a": if it is of an older version, start dstack 0.22.5 with it once, stop it, then start this one; nothing was changed.`,
		},
		"no database": {
			spoil: func(t *testing.T, dir string) { write(t, filepath.Join(dir, database), "hello") },
			want:  "cannot start: <dir>/data/sqlite.db: the database is damaged (open database: file is not a database (26)). Restore it from a backup, or move it away to start with an empty one.",
		},
		"database cut": {
			spoil: func(t *testing.T, dir string) {
				if err := os.Truncate(filepath.Join(dir, database), 5000); err != nil {
					t.Fatal(err)
				}
			},
			want: "cannot start: <dir>/data/sqlite.db: the database is damaged (~",
		},
		"database overwritten": {
			spoil: func(t *testing.T, dir string) {
				data, err := os.ReadFile(filepath.Join(dir, database))
				if err != nil {
					t.Fatal(err)
				}
				for i := 4096; i < len(data); i++ {
					data[i] = data[i]*7 + 13
				}
				write(t, filepath.Join(dir, database), string(data))
			},
			want: "cannot start: <dir>/data/sqlite.db: the database is damaged (~",
		},
		"database is a folder": {
			spoil: func(t *testing.T, dir string) {
				remove(t, filepath.Join(dir, database))
				write(t, filepath.Join(dir, database, "x"), "")
			},
			want: "cannot start: <dir>/data/sqlite.db: not writable (open <dir>/data/sqlite.db: is a directory). Make it writable for this user, or choose another folder with DSTACK_SERVER_DIR.",
		},
		"data is a file": {
			spoil: func(t *testing.T, dir string) {
				remove(t, filepath.Join(dir, "data"))
				write(t, filepath.Join(dir, "data"), "x")
			},
			want: "cannot start: make folder of the database: <dir>/data: not writable (~",
		},
		"wrong key": {
			spoil: func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, key), base64.StdEncoding.EncodeToString(random))
			},
			want: "cannot start: <dir>/data/sqlite.db: the encryption key does not fit the database: a value was encrypted with key \"file\". Start with the key that the database was made with: ~",
		},
		"unreadable key": {
			spoil: func(t *testing.T, dir string) { write(t, filepath.Join(dir, key), "geheim") },
			want:  "cannot start: <dir>/encryption.key: the encryption key is not usable (not base64 of 32 bytes). A secret is 32 random bytes in base64: openssl rand -base64 32.",
		},
		"key of the environment": {
			spoil: func(*testing.T, string) {}, env: []string{"DSTACK_SERVER_ENCRYPTION_KEY=geheim"},
			want: "cannot start: DSTACK_SERVER_ENCRYPTION_KEY: the encryption key is not usable (not base64 of 32 bytes). ~",
		},
		"key lost": {
			spoil: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, key)) },
			want:  "cannot start: <dir>/encryption.key: the encryption key is not usable (file does not exist). The database is encrypted with it: restore the file, or set DSTACK_SERVER_ENCRYPTION_KEY to its content.",
		},
		"config with an unknown field": {
			spoil: func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, conf), "projects:\n- name: main\n  backnds: []\n")
			},
			want: "<dir>/config.yml:3:3: projects.0.backnds: unknown field, did you mean `backends`?\nCorrect the file; nothing was changed",
		},
		"config that is no YAML": {
			spoil: func(t *testing.T, dir string) { write(t, filepath.Join(dir, conf), "projects: [\n") },
			want:  "<dir>/config.yml:1:1: YAML syntax error: did not find expected node content\nCorrect the file; nothing was changed",
		},
		"config that is no text": {
			spoil: func(t *testing.T, dir string) { write(t, filepath.Join(dir, conf), "\x00\x01\xff") },
			want:  "<dir>/config.yml:1:1: YAML syntax error: ~",
		},
		"config with a bad secret": {
			spoil: func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, conf), "projects: []\nencryption:\n  keys: [{type: aes, name: k, secret: geheim}]\n")
			},
			want: "<dir>/config.yml:3:39: encryption.keys.0.secret: must be base64, `openssl rand -base64 32` makes one\nCorrect the file; nothing was changed",
		},
		"config is a folder": {
			spoil: func(t *testing.T, dir string) {
				remove(t, filepath.Join(dir, conf))
				write(t, filepath.Join(dir, conf, "x"), "")
			},
			want: "cannot read <dir>/config.yml: is a directory; it must be a file that this user can read",
		},
	}
	good := newUsed(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "server")
			good.copyTo(t, dir)
			tt.spoil(t, dir)
			check := unchanged(t, dir)
			got := serve(t, dir, tt.env)
			refuses(t, got, strings.ReplaceAll(tt.want, "<dir>", dir))
			if strings.Contains(got.Stderr, "geheim") {
				t.Errorf("a secret is shown: %s", got.Stderr)
			}
			check()
		})
	}
}

// TestBadSettings starts servers with settings that cannot be: no folder is
// made.
func TestBadSettings(t *testing.T) {
	taken := strings.TrimPrefix(shared.URL, "http://127.0.0.1:")
	tests := map[string]struct {
		env, args []string
		want      string
	}{
		"port in use": {
			args: []string{"--port", taken},
			want: "port " + taken + " on 127.0.0.1 is in use: stop the program that listens there, or choose another port with --port",
		},
		"port too large": {args: []string{"--port", "99999"}, want: "port 99999: allowed are 1 to 65535"},
		"address of another machine": {
			args: []string{"--host", "192.0.2.1"},
			want: "this machine has no address 192.0.2.1: choose another one with --host",
		},
		"variable": {
			env:  []string{"DSTACK_SERVER_EVENTS_TTL_SECONDS=long"},
			want: `environment variable DSTACK_SERVER_EVENTS_TTL_SECONDS="long": must be a whole number`,
		},
		"log level": {
			args: []string{"--log-level", "LOUD"},
			want: `log level "LOUD": allowed are DEBUG, INFO, WARNING, ERROR and CRITICAL`,
		},
		"another database": {
			env:  []string{"DSTACK_DATABASE_URL=postgres://user:geheim@host/db"},
			want: "DSTACK_DATABASE_URL: this build keeps its data in SQLite only; unset the variable",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "server")
			refuses(t, serve(t, dir, tt.env, tt.args...), tt.want)
			if _, err := os.Stat(dir); err == nil {
				t.Error("the folder was made")
			}
		})
	}
	t.Run("wrong option", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "server")
		got := serve(t, dir, nil, "--port", "abc")
		if got.Exit != 2 || !strings.Contains(got.Stderr, "argument -p/--port: invalid int value: 'abc'") {
			t.Errorf("%+v", got)
		}
	})
}

// TestSecondServer starts a server in the folder of one that runs.
func TestSecondServer(t *testing.T) {
	dir := filepath.Join(shared.Dir, "server")
	before := quiet(t, shared)
	refuses(t, serve(t, dir, nil), fmt.Sprintf(
		"cannot start: %s/data/sqlite.db: another server uses the database. Stop the other dstack server, or choose another folder with DSTACK_SERVER_DIR.", dir))
	before()
}

// TestWrongServer calls servers that do not let the user in, or are none.
func TestWrongServer(t *testing.T) {
	closed := "http://127.0.0.1:" + freePort(t)
	tests := map[string]struct{ env, want string }{
		"wrong token": {
			"DSTACK_TOKEN=wrong",
			"Access to " + shared.URL + "/api/runs/list is denied. Please check your access token (Invalid token)",
		},
		"unknown project": {
			"DSTACK_PROJECT=nope",
			"Status code 404 when requesting " + shared.URL +
				"/api/projects/nope/get (Not found): the server has no project of this name, choose another one with --project",
		},
		"server down": {
			"DSTACK_SERVER_URL=" + closed,
			"Failed to connect to dstack server " + closed + ": dial tcp " + strings.TrimPrefix(closed, "http://") +
				": connect: connection refused. Check that the server runs and that its URL is right (dstack project list)",
		},
		"https": {
			"DSTACK_SERVER_URL=" + strings.Replace(shared.URL, "http:", "https:", 1),
			"Failed to connect to dstack server https://~",
		},
		"no URL": {
			"DSTACK_SERVER_URL=foo",
			`server URL "foo" is not valid: it must start with http:// or https://`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := user(t)
			c.env = append(c.env, tt.env)
			refuses(t, c.dstack(t, "ps"), tt.want)
			write(t, filepath.Join(c.dir, "a.yml"), "type: task\ncommands: [echo]\n"+small)
			if got := c.dstack(t, "apply", "-f", "a.yml", "-y"); got.Exit != 1 || strings.Count(got.Stderr, "\n") != 1 {
				t.Errorf("apply: %+v", got)
			}
		})
	}
}
