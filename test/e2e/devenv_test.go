//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// logEnds waits until the log of a run ends with text.
func logEnds(t *testing.T, run api.Run, text string) string {
	t.Helper()
	var log string
	err := lab.Wait(t.Context(), time.Minute, "the end of the log", func(ctx context.Context) error {
		data, err := shared.server.Logs(ctx, run)
		if log = strings.ReplaceAll(string(data), "\r", ""); err == nil && !strings.HasSuffix(log, text) {
			err = fmt.Errorf("the log is %q: %w", log, errNotReady)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// TestDevEnvironment is an environment in an image without bash, whose host has
// no way to the editor's server, and one in an image with nothing at all.
func TestDevEnvironment(t *testing.T) {
	l := logIn(t, "dev-busybox", map[string]any{
		"type": "dev-environment", "image": lab.Busybox, "ide": "vscode", "version": "0123456789abcdef", "init": []string{"echo initialised in $PWD"},
	})
	const ssh = "To connect via SSH, use: `ssh %s`\n\nTo exit, press Ctrl+C."
	link := *l.run.Jobs[0].JobConnectionInfo.AttachedIDEURL
	if want := "vscode://vscode-remote/ssh-remote+dev-busybox/"; link != want {
		t.Errorf("link %s, want %s", link, want)
	}
	log := logEnds(t, l.run, "initialised in /\nTo open in VS Code, use link below:\n\n  "+link+"\n\n"+fmt.Sprintf(ssh, "dev-busybox"))
	if !regexp.MustCompile(`(?m)^Installing the VS Code server\.\.\.\nThe VS Code server was not installed \(.*\)\. VS Code installs it when it connects\.$`).MatchString(log) {
		t.Errorf("the log does not say that the server was not installed: %q", log)
	}
	if out, status := l.ssh("", "job", "echo in $0; ps | grep -c [d]ev-environment-wait"); status != 0 || !strings.HasSuffix(out, "\n1\n") {
		t.Errorf("ssh: %q, %d", out, status)
	}

	l = logIn(t, "dev-nothing", map[string]any{"type": "dev-environment", "image": lab.Distroless, "ide": "zed"})
	if log := logEnds(t, l.run, fmt.Sprintf(ssh, "dev-nothing")); log != "To open in Zed, use link below:\n\n  zed://ssh/dev-nothing/\n\n"+fmt.Sprintf(ssh, "dev-nothing") {
		t.Errorf("log: %q", log)
	}
	if out, status := l.ssh("", "job", "/busybox echo here"); status != 0 || out != "here\n" {
		t.Errorf("ssh: %q, %d", out, status)
	}
}

// TestInactivity leaves an environment alone: not before somebody was there, not
// while somebody is, and with a server that was killed meanwhile.
func TestInactivity(t *testing.T) {
	const limit = 15
	l := logIn(t, "dev-inactive", map[string]any{"type": "dev-environment", "image": lab.Busybox, "inactivity_duration": limit})
	began := time.Now()
	if out, status := l.ssh("", "job", "sleep 30; echo still here"); status != 0 || out != "still here\n" {
		t.Fatalf("somebody was connected, and the job ended: %q, %d after %s", out, status, time.Since(began))
	}
	if err := shared.server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := shared.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	shown := false
	run, err := shared.server.WaitRun(t.Context(), "dev-inactive", time.Minute, "end", func(r api.Run) bool {
		secs := r.LatestJobSubmission.InactivitySecs
		shown = shown || secs != nil && *secs > 0
		return r.Status.Finished()
	})
	if err != nil {
		t.Fatal(err)
	}
	job := run.LatestJobSubmission
	if run.Status != api.RunFailed || text(job.TerminationReason) != "inactivity_duration_exceeded" || !shown {
		t.Errorf("%s, %s; inactivity_secs shown: %v", run.Status, text(job.TerminationReason), shown)
	}
	message := regexp.MustCompile(`^The job was inactive for (1[5-9]|2\d) seconds, exceeding the inactivity_duration of 15 seconds$`)
	if !message.MatchString(text(job.TerminationReasonMessage)) {
		t.Errorf("message: %s", text(job.TerminationReasonMessage))
	}
}

// TestServerFromAJob runs our command line in a job with dstack: true, with a
// token and without, and after the server was killed.
func TestServerFromAJob(t *testing.T) {
	for _, m := range shared.machines {
		if err := m.Copy(t.Context(), filepath.Dir(lab.Binary("dstack")), "/opt/tools", "dstack"); err != nil {
			t.Fatal(err)
		}
	}
	ask := `/tools/dstack ps -n 20 && echo "$DSTACK_PROJECT asked"`
	task := map[string]any{
		"image": lab.Busybox, "dstack": true, "env": map[string]any{"DSTACK_TOKEN": lab.Token}, "volumes": []string{"/opt/tools:/tools"},
		"commands": []string{
			"ls -l /run/dstack/server.sock | cut -c1-10", ask, "DSTACK_TOKEN=wrong /tools/dstack ps || echo refused",
			"while [ ! -e /tmp/again ]; do sleep 0.1; done", "for n in $(seq 50); do " + ask + " 2>/dev/null && break; sleep 0.2; done",
		},
	}
	l := logIn(t, "asks-server", task)
	logEnds(t, l.run, "refused\n")
	if err := shared.server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := shared.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, status := l.ssh("", "job", "touch /tmp/again"); status != 0 {
		t.Fatalf("%s, %d", out, status)
	}
	run, err := shared.server.Finish(t.Context(), "asks-server", time.Minute)
	if err != nil || run.Status != api.RunDone {
		t.Fatalf("%s, %v", run.Status, err)
	}
	data, err := shared.server.Logs(t.Context(), run)
	log := string(data)
	if err != nil || !strings.Contains(log, "\nsrw-rw-rw-") || strings.Count(log, "asks-server") < 2 || strings.Count(log, "main asked") != 2 {
		t.Errorf("%v, log: %s", err, log)
	}
}
