//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// TestSecrets gives secrets to a job by env and registry_auth and looks for
// their values wherever they have no business, while it runs and afterwards.
func TestSecrets(t *testing.T) {
	s := shared.server
	values := map[string]string{"TOKEN": "token-" + rand.Text(), "REGISTRY-USER": lab.RegistryUser, "REGISTRY_PASSWORD": lab.RegistryPassword}
	for name, value := range values {
		if err := s.Call(t.Context(), "project/main/secrets/create_or_update", map[string]any{"name": name, "value": value}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range shared.machines {
		if _, err := m.Exec(t.Context(), "docker rmi -f "+lab.Private+" || true"); err != nil {
			t.Fatal(err)
		}
	}
	task := map[string]any{
		"image": lab.Private, "env": map[string]any{"TOKEN": "x-${{ secrets.TOKEN }}"},
		"registry_auth": map[string]any{"username": "${{ secrets.REGISTRY-USER }}", "password": "${{ secrets.REGISTRY_PASSWORD }}"},
		"commands":      []string{"echo token has ${#TOKEN} characters", "trap 'exit 0' INT; while :; do sleep 0.1; done"},
	}
	if _, err := s.Submit(t.Context(), "secretive", task); err != nil {
		t.Fatal(err)
	}
	run, err := s.WaitRun(t.Context(), "secretive", time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning || r.Status.Finished() })
	if err != nil || run.Status != api.RunRunning {
		t.Fatalf("%v, %s: %s", err, run.Status, text(run.LatestJobSubmission.TerminationReasonMessage))
	}
	want := fmt.Sprintf("token has %d characters", len("x-"+values["TOKEN"]))
	err = lab.Wait(t.Context(), 20*time.Second, "the job's line", func(ctx context.Context) error {
		log, err := s.Logs(ctx, run)
		if err == nil && !strings.Contains(string(log), want) {
			err = fmt.Errorf("log is %q: %w", log, errNotReady)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	kept(t, values, machineOf(t, run), "while it runs", true)
	if result, err := s.CLI(t.Context(), t.TempDir(), "stop", "-y", "secretive"); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if run, err = s.Finish(t.Context(), "secretive", time.Minute); err != nil || run.Status != api.RunTerminated {
		t.Errorf("%v, %s", err, run.Status)
	}
	nothingLeft(t)
	kept(t, values, machineOf(t, run), "afterwards", false)
}

// kept looks for values on a machine, in what the server keeps and says.
func kept(t *testing.T, values map[string]string, m *lab.Machine, when string, running bool) {
	t.Helper()
	// What anybody on the host may see, what the shim keeps, what it logs.
	look := "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; find /root/.dstack /run /var/log /tmp /usr/local/lib/dstack -xdev -type f -exec cat {} + 2>/dev/null; journalctl --no-pager 2>/dev/null"
	if running {
		look += "; docker inspect $(docker ps -q); docker logs $(docker ps -q) 2>&1"
	}
	seen, err := m.Exec(t.Context(), look+"; true")
	if err != nil || !strings.Contains(seen, "dstack-shim") {
		t.Fatalf("%s: %v in %.2000s", when, err, seen)
	}
	places := map[string]string{"the machine": seen, "the server's log": shared.server.Log(), "the server's folder": folder(t, filepath.Join(shared.server.Dir, "server"))}
	for path, body := range map[string]any{
		"runs/list": map[string]any{}, "events/list": map[string]any{}, "project/main/runs/get": map[string]any{"run_name": "secretive"}, "project/main/secrets/list": nil,
	} {
		var answer json.RawMessage
		if err := shared.server.Call(t.Context(), path, body, &answer); err != nil {
			t.Fatal(err)
		}
		places[path] = string(answer)
	}
	for name, value := range values {
		if name == "REGISTRY-USER" {
			continue // a word that others use
		}
		for place, what := range places {
			if at := strings.Index(what, value); at >= 0 {
				t.Errorf("%s: %s is in %s: %q", when, name, place, what[max(at-100, 0):at])
			}
		}
	}
}

// folder is the content of all files below a folder.
func folder(t *testing.T, dir string) string {
	t.Helper()
	var all bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		all.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestMissingSecret ends a job before it takes a host.
func TestMissingSecret(t *testing.T) {
	task := map[string]any{"image": lab.Busybox, "env": map[string]any{"X": "${{ secrets.NOPE }}"}, "commands": []string{"true"}}
	if _, err := shared.server.Submit(t.Context(), "no-secret", task); err != nil {
		t.Fatal(err)
	}
	run, err := shared.server.Finish(t.Context(), "no-secret", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	job := run.LatestJobSubmission
	if job.Status != api.JobTerminated || text(job.TerminationReason) != "terminated_by_server" || job.JobProvisioningData != nil ||
		!strings.Contains(text(job.TerminationReasonMessage), "Secrets interpolation error: Failed to interpolate due to missing vars: ['secrets.NOPE']") {
		t.Errorf("job is %s, %s: %s", job.Status, text(job.TerminationReason), text(job.TerminationReasonMessage))
	}
}
