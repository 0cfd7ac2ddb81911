//go:build e2e

// Package takeover starts our server in the folder of a real one of dstack
// 0.22.5, filled through its API, and asks both the same with the unchanged
// Python client. test/ci/python.sh installs both.
package takeover

import (
	"context"
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

	"dstack/test/lab"
)

// configYML holds the encryption key, otherKeys another one of the same name.
const (
	configYML = "projects: [{name: main}]\nencryption: {keys: [{type: aes, name: k1, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}\n"
	otherKeys = "projects: [{name: main}]\nencryption: {keys: [{type: aes, name: k1, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}]}\n"
)

// sshKey is nobody's.
const sshKey = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACDVkieu9Eb2q70S1YcB9gnJHJ9DKOiGW/uWuLhjC57oYQAAAJC0zNuxtMzb\nsQAAAAtzc2gtZWQyNTUxOQAAACDVkieu9Eb2q70S1YcB9gnJHJ9DKOiGW/uWuLhjC57oYQ\nAAAEArk2q6XypGc1E9Pd9Nih+LPJsLv4Np4eCHdlEtNl4IrNWSJ670RvarvRLVhwH2Cckc\nn0Mo6IZb+5a4uGMLnuhhAAAAB2NvbXBhcmUBAgMEBQY=\n-----END OPENSSH PRIVATE KEY-----\n"

type object map[string]any

// apply is the body that applies something new; field is what its plan calls it.
func apply(field string, spec object) object {
	return object{"plan": object{field: spec, "current_resource": nil}, "force": false}
}

// fill gives a server one of each. The run "train" fails, "later" waits.
func fill(t *testing.T, s *lab.Server) {
	t.Helper()
	task := func(name string, more object) object {
		configuration := object{"type": "task", "image": "scratch", "commands": []string{"a"}, "env": object{"TOKEN": "x"}}
		for k, v := range more {
			configuration[k] = v
		}
		return apply("run_spec", object{"run_name": name, "configuration": configuration})
	}
	hosts := []any{"127.0.0.2", object{"hostname": "127.0.0.3", "port": 9, "blocks": "auto"}}
	ssh := object{"user": "ubuntu", "port": 9, "ssh_key": object{"public": "", "private": sshKey}, "hosts": hosts}
	for _, c := range []struct {
		path string
		body object
	}{
		{"users/create", object{"username": "ann", "global_role": "user", "email": "ann@example.com"}},
		{"users/create", object{"username": "gone", "global_role": "user"}},
		{"users/delete", object{"users": []string{"gone"}}},
		{"projects/create", object{"project_name": "research", "is_public": true}},
		{"projects/main/set_members", object{"members": []object{{"username": "admin", "project_role": "admin"}, {"username": "ann", "project_role": "manager"}}}},
		{"project/main/secrets/create_or_update", object{"name": "hf", "value": "hush hush"}},
		{"project/main/fleets/apply", apply("spec", object{"configuration": object{"type": "fleet", "name": "on-prem", "ssh_config": ssh}, "profile": object{}})},
		{"project/main/fleets/apply", apply("spec", object{"configuration": object{"type": "fleet", "name": "cloud", "nodes": "0..2"}, "profile": object{}})},
		{"project/main/runs/apply", task("train", nil)},
		{"project/main/runs/apply", task("later", object{"retry": true})},
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
	for _, args := range []string{login, "project list", "fleet", "ps -a", "secret list", "secret get hf"} {
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
	cmd := exec.CommandContext(t.Context(), lab.Binary("dstack"), "server", "--port", "1", "-n")
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
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "config.yml"), []byte(configYML), 0o600); err != nil {
		t.Fatal(err)
	}
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
	await(t, old, "train", "failed")
	await(t, old, "later", "pending")
	contains(t, startRefused(t, folder), "Stop the server of dstack 0.22.5 that uses it")
	contains(t, refused(t, folder, configYML), "run later of project main (pending)", "nothing was changed")
	if err := old.Call(t.Context(), "project/main/runs/stop", object{"runs_names": []string{"later"}, "abort": false}, nil); err != nil {
		t.Fatal(err)
	}
	await(t, old, "later", "terminated")
	before := shown(t, old)
	stop()
	contains(t, before, "on-prem", "train", "later", "hf", "hush hush")
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
	if after := shown(t, ours); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	contains(t, ours.Log(), "Took over the database of dstack 0.22.5")
	var me struct {
		Username string `json:"username"`
	}
	if err := ours.Call(t.Context(), "users/get_my_user", object{}, &me); err != nil || me.Username != "admin" {
		t.Errorf("the old token is of %q, %v", me.Username, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "data", "sqlite-0.22.5.db")); err != nil {
		t.Error(err)
	}
}
