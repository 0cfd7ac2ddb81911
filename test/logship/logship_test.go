//go:build e2e

// Package logship runs real servers with real jobs whose logs are copied to
// storages: real programs, or doubles of them where there are none.
package logship

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
	"dstack/test/storages"
)

// place is a storage of logs.
type place struct {
	env   []string
	proxy *storages.Proxy
	// sent is what the storage has of the log of a run's job; nil: only the
	// server can tell.
	sent func(t *testing.T, run, job string) string
	// link is a part of the URL that people get; empty: none.
	link string
}

// outage is how long a storage is away, after the server noticed it.
const outage = 3 * time.Second

// exercise: a job prints while its storage goes away, the server is killed
// meanwhile, and the storage comes back. Nothing is lost, nothing is there
// twice, and all of it is told. Then the disk is emptied.
func exercise(t *testing.T, p *place) {
	env := append([]string{"DSTACK_SHIM_RUNTIME=process", "DSTACK_ENABLE_PROMETHEUS_METRICS=1"}, p.env...)
	s, err := lab.StartServer(t.Context(), t.TempDir(), env, "--local")
	t.Cleanup(func() {
		removed, err := s.CLI(context.Background(), s.Dir, "fleet", "delete", "local", "-y")
		if err != nil || removed.Exit != 0 {
			t.Errorf("fleet delete local: %+v, %v", removed, err)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(s.Log())
		}
	})
	must(t, err)
	// The job is not root.
	shared, err := os.MkdirTemp("", "logship")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(shared) })
	must(t, os.Chmod(shared, 0o777))
	must(t, os.WriteFile(filepath.Join(shared, "go"), nil, 0o644))
	command := fmt.Sprintf("i=0; while [ -e %s/go ]; do i=$((i+1)); echo line $i; sleep 0.05; done; echo $i > %s/lines", shared, shared)
	storages.Await(t, "this machine is a host", func() bool { return strings.Contains(s.Log(), "host up") })
	run, err := s.Submit(t.Context(), "talker", map[string]any{"commands": []string{command}})
	must(t, err)
	job := run.LatestJobSubmission.ID
	_, err = s.WaitRun(t.Context(), "talker", time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning })
	must(t, err)
	storages.Await(t, "the first lines are shipped", func() bool {
		text := poll(t, s, job, false)
		st := shipping(t, s)
		return len(text) > 100 && st.Bytes < int64(len(text)) && !st.Failing
	})

	p.proxy.SetCut(true)
	storages.Await(t, "the server notices", func() bool { return shipping(t, s).Failing })
	before := poll(t, s, job, false)
	time.Sleep(outage)
	if now := poll(t, s, job, false); len(now) <= len(before) || !strings.HasPrefix(now, before) {
		t.Errorf("the live log does not go on: %d bytes after %d", len(now), len(before))
	}
	if st := shipping(t, s); st.Bytes == 0 || st.Seconds < outage.Seconds() {
		t.Errorf("health: %+v", st)
	}
	for _, name := range []string{"lag_bytes", "lag_seconds", "failures_total"} {
		if value := metric(t, s.URL, "dstack_server_logs_"+name); value <= 0 {
			t.Errorf("metric %s: %v", name, value)
		}
	}
	must(t, s.Kill())
	must(t, s.Start(t.Context()))
	must(t, os.Remove(filepath.Join(shared, "go")))
	if _, err := s.Finish(t.Context(), "talker", time.Minute); err != nil {
		t.Fatal(err)
	}
	p.proxy.SetCut(false)
	storages.Await(t, "all is shipped", func() bool { st := shipping(t, s); return st.Bytes == 0 && !st.Failing })
	const waits, away = "Logs don't reach the log storage; they are kept on the disk and sent later", "The log storage can't be reached"
	if log := s.Log(); !strings.Contains(log, waits) || p.sent == nil && !strings.Contains(log, away) {
		t.Error("the server does not tell of it")
	}
	want := printed(t, shared)
	if got := poll(t, s, job, false); got != want {
		t.Errorf("on the disk are %d bytes of %d", len(got), len(want))
	}
	if p.sent != nil {
		if got := p.sent(t, "talker", job); got != want {
			t.Errorf("the storage has %d bytes of %d: %.2000s", len(got), len(want), got)
		}
	}
	if link := external(t, s, job); !strings.Contains(link, p.link) || (link == "") != (p.link == "") {
		t.Errorf("link %q, want %q", link, p.link)
	}
	emptied(t, s, p, job, want)
}

// emptied removes the log from the disk, and reads it from the storage.
func emptied(t *testing.T, s *lab.Server, p *place, job, want string) {
	t.Helper()
	must(t, s.Restart(t.Context(), "DSTACK_SERVER_LOGS_MAX_BYTES=1"))
	storages.Await(t, "the log is removed from the disk", func() bool {
		_, err := os.Stat(filepath.Join(s.Dir, "server", "projects", "main", "logs", "talker", job))
		return errors.Is(err, fs.ErrNotExist)
	})
	if p.sent != nil {
		want = "" // such storages can't be read
	}
	if got := poll(t, s, job, false); got != want {
		t.Errorf("%d bytes of %d are read back: %.300s", len(got), len(want), got)
	}
	if got := poll(t, s, job, true); len(got) != len(want) {
		t.Errorf("backwards %d bytes of %d are read", len(got), len(want))
	}
	for _, args := range [][]string{{"logs", "talker"}, {"logs", "-f", "talker"}} {
		got, err := s.CLI(t.Context(), s.Dir, args...)
		if err != nil || got.Exit != 0 || got.Stdout != want {
			t.Errorf("dstack %v: exit %d, %v, %d bytes of %d: %s", args, got.Exit, err, len(got.Stdout), len(want), got.Stderr)
		}
	}
	if p.sent != nil {
		return
	}
	p.proxy.SetCut(true)
	err := s.Call(t.Context(), "project/main/logs/poll", map[string]any{"run_name": "talker", "job_submission_id": job}, nil)
	if err == nil || !strings.Contains(err.Error(), "Failed to poll logs from log storage") {
		t.Errorf("without the storage: %v", err)
	}
	p.proxy.SetCut(false)
}

// printed is what the job printed.
func printed(t *testing.T, shared string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(shared, "lines"))
	must(t, err)
	lines := 0
	if _, err := fmt.Sscan(string(text), &lines); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, "line %d\r\n", i+1) // of a terminal
	}
	return b.String()
}

// poll reads a log page by page.
func poll(t *testing.T, s *lab.Server, job string, descending bool) string {
	t.Helper()
	request := map[string]any{"run_name": "talker", "job_submission_id": job, "limit": 100, "descending": descending}
	var text strings.Builder
	for {
		var page api.JobSubmissionLogs
		must(t, s.Call(t.Context(), "project/main/logs/poll", request, &page))
		for _, e := range page.Logs {
			message, err := base64.StdEncoding.DecodeString(e.Message)
			must(t, err)
			text.Write(message)
		}
		if page.NextToken == nil {
			return text.String()
		}
		request["next_token"] = *page.NextToken
	}
}

func external(t *testing.T, s *lab.Server, job string) string {
	t.Helper()
	var page api.JobSubmissionLogs
	must(t, s.Call(t.Context(), "project/main/logs/poll", map[string]any{"run_name": "talker", "job_submission_id": job}, &page))
	if page.ExternalURL == nil {
		return ""
	}
	return *page.ExternalURL
}

// shipment is what the health check tells.
type shipment struct {
	Bytes   int64   `json:"lag_bytes"`
	Seconds float64 `json:"lag_seconds"`
	Failing bool    `json:"failing"`
}

func shipping(t *testing.T, s *lab.Server) shipment {
	t.Helper()
	var answer struct {
		Logs *shipment `json:"logs"`
	}
	must(t, json.Unmarshal(fetch(t, s.URL+"/healthcheck"), &answer))
	if answer.Logs == nil {
		t.Fatal("the health check does not tell of logs")
	}
	return *answer.Logs
}

func metric(t *testing.T, url, name string) (value float64) {
	t.Helper()
	_, rest, found := bytes.Cut(fetch(t, url+"/metrics"), []byte("\n"+name+" "))
	if _, err := fmt.Sscan(string(rest), &value); !found || err != nil {
		t.Errorf("metric %s: %v", name, err)
	}
	return value
}

func fetch(t *testing.T, url string) []byte {
	t.Helper()
	response, err := http.Get(url)
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	return text
}

// refused starts a server that must not start, and returns what it says.
func refused(t *testing.T, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), lab.Binary("dstack"), "server", "--port", "1", "-n")
	cmd.Env = append(cmd.Environ(), env...)
	cmd.Env = append(cmd.Env, "HOME="+dir, "DSTACK_SERVER_DIR="+filepath.Join(dir, "server"), "COLUMNS=500")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 1 || strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "server", "data", "sqlite.db")); err == nil {
		t.Error("a database was made")
	}
	return stderr.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
