//go:build e2e

// Package takeover starts our server in the folder of a real one of dstack
// 0.22.5, filled through its API, and asks both the same with the unchanged
// Python client. test/ci/python.sh installs both.
package takeover

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	_ "modernc.org/sqlite"

	"dstack/test/lab"
)

// configYML holds the encryption key, otherKeys another one of the same name.
// Without projects, the backends stay that the database has.
const (
	configYML = "projects: []\nencryption: {keys: [{type: aes, name: k1, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n"
	otherKeys = "projects: []\nencryption: {keys: [{type: aes, name: k1, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}]}\n"
)

// sshKey is nobody's.
const sshKey = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACDVkieu9Eb2q70S1YcB9gnJHJ9DKOiGW/uWuLhjC57oYQAAAJC0zNuxtMzb\nsQAAAAtzc2gtZWQyNTUxOQAAACDVkieu9Eb2q70S1YcB9gnJHJ9DKOiGW/uWuLhjC57oYQ\nAAAEArk2q6XypGc1E9Pd9Nih+LPJsLv4Np4eCHdlEtNl4IrNWSJ670RvarvRLVhwH2Cckc\nn0Mo6IZb+5a4uGMLnuhhAAAAB2NvbXBhcmUBAgMEBQY=\n-----END OPENSSH PRIVATE KEY-----\n"

type object map[string]any

// apply is the body that applies something new; field is what its plan calls it.
func apply(field string, spec object) object {
	return object{"plan": object{field: spec, "current_resource": nil}, "force": false}
}

// lived makes the folder of a server that has lived: its database, which a real
// one made that had moto for a cloud, and the log of the run "dev", written as
// the real one writes it.
func lived(t *testing.T, folder string) {
	t.Helper()
	data := filepath.Join(folder, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "config.yml"), []byte(configYML), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../controller/legacy/testdata/0.22.5.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(data, "sqlite.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), string(text)); err != nil {
		t.Fatal(err)
	}
	// The lab's token, in the form in which 0.22.5 without keys stores it.
	if _, err := db.ExecContext(t.Context(), "UPDATE users SET token = ?, token_hash = ? WHERE name = 'admin'",
		"enc:identity:noname:"+lab.Token, fmt.Sprintf("%x", sha256.Sum256([]byte(lab.Token)))); err != nil {
		t.Fatal(err)
	}
	id := ""
	if err := db.QueryRowContext(t.Context(), "SELECT id FROM jobs WHERE run_name = 'dev'").Scan(&id); err != nil {
		t.Fatal(err)
	}
	job := filepath.Join(folder, "projects", "main", "logs", "dev", uuid.MustParse(id).String())
	if err := os.MkdirAll(job, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"job.log": jobLog, "runner.log": runnerLog} {
		if err := os.WriteFile(filepath.Join(job, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	jobLog = `{"timestamp":"2026-11-26T05:43:05.120000Z","log_source":"stdout","message":"epoch 1\n"}
{"timestamp":"2026-11-26T05:43:05.121000Z","log_source":"stdout","message":"grün 🌍 \u001b[1mbold\u001b[0m \ufffd"}
{"timestamp":"2026-11-26T05:43:06Z","log_source":"stdout","message":"\r\n\"done\"\n"}
`
	runnerLog = `{"timestamp":"2026-11-26T05:43:04.001000Z","log_source":"stdout","message":"time=2026-11-26T05:43:04 level=info msg=\"Run job\"\n"}
`
)

// fill adds one of each through the API. The run "wait" waits.
func fill(t *testing.T, s *lab.Server) {
	t.Helper()
	hosts := []any{"127.0.0.4", object{"hostname": "127.0.0.5", "port": 9, "blocks": "auto"}}
	ssh := object{"user": "ubuntu", "port": 9, "ssh_key": object{"public": "", "private": sshKey}, "hosts": hosts}
	task := object{"type": "task", "image": "scratch", "commands": []string{"a"}, "env": object{"TOKEN": "x"}, "retry": true}
	members := []object{{"username": "admin", "project_role": "admin"}, {"username": "ann", "project_role": "manager"}, {"username": "carl", "project_role": "user"}}
	for _, c := range []struct {
		path string
		body object
	}{
		{"users/create", object{"username": "carl", "global_role": "user", "email": "carl@example.com"}},
		{"users/create", object{"username": "left", "global_role": "user"}},
		{"users/delete", object{"users": []string{"left"}}},
		{"projects/create", object{"project_name": "open", "is_public": true}},
		{"projects/main/set_members", object{"members": members}},
		{"project/main/secrets/create_or_update", object{"name": "new", "value": "hush again"}},
		{"project/main/fleets/apply", apply("spec", object{"configuration": object{"type": "fleet", "name": "rack", "ssh_config": ssh}, "profile": object{}})},
		{"project/main/fleets/apply", apply("spec", object{"configuration": object{"type": "fleet", "name": "sky", "nodes": "0..2"}, "profile": object{}})},
		{"project/main/runs/apply", apply("run_spec", object{"run_name": "wait", "configuration": task})},
	} {
		if err := s.Call(t.Context(), c.path, c.body, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// await waits until a run has a status.
func await(t *testing.T, s *lab.Server, name, status string) {
	t.Helper()
	err := lab.Wait(t.Context(), 90*time.Second, name+" "+status, func(ctx context.Context) error {
		r, err := s.Run(ctx, name)
		if err == nil && string(r.Status) != status {
			err = fmt.Errorf("%s is %s", name, r.Status)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// times are what changes while one looks.
var times = regexp.MustCompile(`now|\d+ \w+ ago|yesterday`)

// shown is what the Python client shows of a server.
func shown(t *testing.T, s *lab.Server) string {
	t.Helper()
	dir := t.TempDir()
	venv := filepath.Join(lab.Home, "python-0.22.5")
	var out strings.Builder
	login := "project add --name main --url " + s.URL + " --token " + lab.Token + " -y"
	for _, args := range []string{login, "project list", "fleet", "ps -a", "secret list", "volume", "logs dev"} {
		got, err := s.Python(t.Context(), dir, venv, strings.Fields(args)...)
		if err != nil || got.Exit != 0 {
			t.Fatalf("dstack %s: %v, exit %d: %s", args, err, got.Exit, got.Stderr)
		}
		if args != login {
			fmt.Fprintf(&out, "$ dstack %s\n%s", args, got.Stdout)
		}
	}
	text := times.ReplaceAllString(strings.ReplaceAll(out.String(), s.URL, "URL"), "AGO")
	return regexp.MustCompile(` +`).ReplaceAllString(text, " ")
}

// refused starts our server on a copy of a folder, which it must not take; it
// returns what it said.
func refused(t *testing.T, folder, config string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "server")
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	text := startRefused(t, dir)
	if _, err := os.Stat(filepath.Join(dir, "data", "sqlite-0.22.5.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was taken over: %v", err)
	}
	return text
}

// startRefused starts our server in a folder, where it must not start.
func startRefused(t *testing.T, folder string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // should it start
	defer cancel()
	cmd := exec.CommandContext(ctx, lab.Binary("dstack"), "server", "--port", "1", "-n")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "DSTACK_SERVER_DIR="+folder, "COLUMNS=500")
	out, _ := cmd.CombinedOutput() // the exit code says it, too
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit %d: %s", code, out)
	}
	return string(out)
}

func contains(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in\n%s", word, text)
		}
	}
}

func TestTakeover(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "server")
	lived(t, folder)
	old, err := lab.StartReal(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	running := true
	stop := func() {
		if running {
			running = false
			if err := old.Kill(); err != nil { // what a server leaves that got no time
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	fill(t, old)
	await(t, old, "wait", "pending")
	contains(t, startRefused(t, folder), "Stop the server of dstack 0.22.5 that uses it")
	contains(t, refused(t, folder, configYML), "run wait of project main (pending)", "nothing was changed")
	if err := old.Call(t.Context(), "project/main/runs/stop", object{"runs_names": []string{"wait"}, "abort": false}, nil); err != nil {
		t.Fatal(err)
	}
	await(t, old, "wait", "terminated")
	before, said := shown(t, old), answers(t, old)
	stop()
	contains(t, before, "on-prem", "later", "wait", "disk", "grün 🌍")
	contains(t, refused(t, folder, otherKeys), "the encryption key does not fit the database", "encryption.keys")

	ours, err := lab.StartServer(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ours.Stop(); err != nil {
			t.Error(err)
		}
	})
	for question, answer := range answers(t, ours) {
		if diff := cmp.Diff(said[question], answer); diff != "" {
			t.Errorf("%s:\n%s", question, diff)
		}
	}
	if after := shown(t, ours); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	contains(t, ours.Log(), "Took over the database of dstack 0.22.5", "Took over the logs of dstack 0.22.5")
	for _, kept := range []string{"data/sqlite-0.22.5.db", "projects/main/logs-0.22.5/dev"} {
		if _, err := os.Stat(filepath.Join(folder, kept)); err != nil {
			t.Error(err)
		}
	}
}
