package cli

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/cli/term"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// runApp runs the command line in this process against a server.
func runApp(t *testing.T, url string, now time.Time, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return runAt(t, t.TempDir(), url, now, args...)
}

// runAt is runApp with a home folder.
func runAt(t *testing.T, home, url string, now time.Time, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	env := map[string]string{"DSTACK_SERVER_URL": url, "DSTACK_TOKEN": fakeToken, "DSTACK_PROJECT": fakeProject}
	var out, errs bytes.Buffer
	a := &App{
		Console: &term.Console{In: strings.NewReader(""), Out: &out, Err: &errs},
		env: Env{
			Args: args, Home: home, Now: func() time.Time { return now },
			Getenv: func(name string) string { return env[name] },
			LookupEnv: func(name string) (string, bool) {
				value, ok := env[name]
				return value, ok
			},
		},
	}
	a.log = newLogFile(a.env.Home, a.env.Now, a.Warn)
	code = a.run(t.Context())
	return code, out.String(), errs.String()
}

// TestOldServer follows a run on a server that has no streams.
func TestOldServer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(&fakeServer{changed: make(chan struct{}), old: true})
	defer server.Close()
	file := filepath.Join(t.TempDir(), "task.yml")
	if err := os.WriteFile(file, []byte("type: task\nname: old\ncommands: [exit 4]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := runApp(t, server.URL, fakeStart, "apply", "-y", "-f", file)
	if code != 4 || !strings.Contains(out, "\nexit 4\nExited (4)\n") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestServerDown(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newFakeServer())
	url := server.URL
	server.Close()
	code, out, errs := runApp(t, url, fakeStart, "ps")
	if code != 1 || out != "" || !strings.HasPrefix(errs, "Failed to connect to dstack server "+url) {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
}

func TestJobExitCode(t *testing.T) {
	t.Parallel()
	failed := func(codes ...int) api.Run {
		run := api.Run{Status: api.RunFailed}
		for _, code := range codes {
			sub := api.JobSubmission{}
			if code != none {
				sub.ExitStatus = &code
			}
			run.Jobs = append(run.Jobs, api.Job{JobSubmissions: []api.JobSubmission{sub}})
		}
		return run
	}
	going := failed(none, 5)
	going.Status = api.RunRunning
	tests := []struct {
		name string
		run  api.Run
		job  *api.JobSubmission
		want int
	}{
		{"done", api.Run{Status: api.RunDone}, nil, 0},
		{"a job of a run that goes on", going, &api.JobSubmission{Status: api.JobDone, ExitStatus: new(0)}, 0},
		{"a failed job of a run that goes on", going, &api.JobSubmission{Status: api.JobFailed, ExitStatus: new(7)}, 7},
		{"a job without status of a run that goes on", going, &api.JobSubmission{Status: api.JobTerminated}, 1},
		{"another job of a run that failed", failed(4), &api.JobSubmission{Status: api.JobDone}, 4},
		{"its own status", failed(3), nil, 3},
		{"a signal", failed(137), nil, 137},
		{"never started", failed(none), nil, 1},
		{"failed for another reason than its status", failed(0), nil, 1},
		{"killed by a signal that 0.22.5 reports as -1", failed(-1), nil, 1},
		{"not an exit status", failed(256), nil, 1},
		{"the second of two", failed(0, 9), nil, 9},
		{"no job", api.Run{Status: api.RunTerminated}, nil, 1},
	}
	for _, tt := range tests {
		if got := jobExitCode(tt.run, tt.job); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

const none = -1 << 20

func TestFinalMessage(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	name := api.RunSpec{RunName: text("train")}
	tests := []struct {
		name string
		run  api.Run
		job  *api.JobSubmission
		want []string
	}{
		{"done", api.Run{RunSpec: name, Status: api.RunDone, TerminationReason: text("all_jobs_done")},
			&api.JobSubmission{StatusMessage: "exited (0)", TerminationReason: text("done_by_runner")}, []string{"Exited (0)"}},
		{"out of memory", api.Run{RunSpec: name, Status: api.RunFailed},
			&api.JobSubmission{StatusMessage: "exited (137)", TerminationReason: text("container_exited_with_error"), TerminationReasonMessage: text("Killed: out of memory")},
			[]string{"Exited (137)", "Killed: out of memory", "Read its output with `dstack logs`, correct the command, and apply again.", "Check dstack logs -d train for more details."}},
		{"error", api.Run{RunSpec: name, Status: api.RunFailed},
			&api.JobSubmission{StatusMessage: "error", Error: text("instance unreachable"), TerminationReason: text("instance_unreachable")},
			[]string{
				"Error (Instance unreachable)", "Its instance did not answer for two minutes.",
				"Check the host and the network with `dstack fleet -v`; set `retry` with the event `error` to go on elsewhere.", "Check dstack logs -d train for more details."}},
		{"no capacity", api.Run{RunSpec: name, Status: api.RunFailed, TerminationReason: text("job_failed")},
			&api.JobSubmission{StatusMessage: "no capacity", TerminationReason: text("failed_to_start_due_to_no_capacity")}, []string{"No capacity", "No instance had room for it.", "See what each fleet and host lacks: dstack why train"}},
		{"no job", api.Run{RunSpec: name, Status: api.RunTerminated}, nil, []string{"Terminated"}},
		{"a job of a run that goes on", api.Run{RunSpec: name, Status: api.RunRunning},
			&api.JobSubmission{Status: api.JobDone, StatusMessage: "exited (0)", TerminationReason: text("done_by_runner")}, []string{"Exited (0)"}},
	}
	for _, tt := range tests {
		var got []string
		for _, line := range finalMessage(tt.run, tt.job) {
			got = append(got, line.Text)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	a := &App{env: Env{Now: func() time.Time { return fakeStart }}}
	for text, want := range map[string]time.Time{
		"90":                        fakeStart.Add(-90 * time.Second),
		"90s":                       fakeStart.Add(-90 * time.Second),
		"10m":                       fakeStart.Add(-10 * time.Minute),
		"2h":                        fakeStart.Add(-2 * time.Hour),
		"1d":                        fakeStart.Add(-24 * time.Hour),
		"1w":                        fakeStart.Add(-7 * 24 * time.Hour),
		"2026-01-31T12:00:00Z":      time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
		"2026-01-31 12:00:00+02:00": time.Date(2026, 1, 31, 10, 0, 0, 0, time.UTC),
	} {
		got, err := a.since(text)
		if err != nil || !got.Equal(want) {
			t.Errorf("since(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"abc": "Invalid datetime format", "5x": "Invalid datetime format", "m": "Invalid datetime format", "9999999999": "Invalid datetime format",
		"2026-01-31": "not offset-aware", "2026-01-31T12:00:00": "not offset-aware",
	} {
		if got, err := a.since(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("since(%q) = %v, %v", text, got, err)
		}
	}
	if got, err := a.since(""); got != nil || err != nil {
		t.Errorf("since of nothing: %v, %v", got, err)
	}
}

func TestShellJoin(t *testing.T) {
	t.Parallel()
	if got, want := shellJoin([]string{"--lr", "0.1", "a b", "it's", "", "$X"}), `--lr 0.1 'a b' 'it'"'"'s' '' '$X'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestLogFile(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	folder := filepath.Join(home, ".dstack", "logs", "cli")
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for day := range 10 {
		name := "latest.log"
		if day > 0 {
			name = now.AddDate(0, 0, -day-1).Format("2006-01-02") + ".log"
		}
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte("old\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now, now.AddDate(0, 0, -day-1)); err != nil {
			t.Fatal(err)
		}
	}
	l := newLogFile(home, func() time.Time { return now }, func(warning string) { t.Error(warning) })
	l.redact("s3cret")
	l.logger.Error().Str("token", "s3cret").Msg("failed")
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "latest.log"))
	if err != nil || !strings.Contains(string(text), `"token":"***"`) || strings.Contains(string(text), "old") {
		t.Errorf("%v: %s", err, text)
	}
	kept, err := filepath.Glob(filepath.Join(folder, "2026-*.log"))
	if err != nil || len(kept) != keptLogs || filepath.Base(kept[len(kept)-1]) != "2026-11-24.log" {
		t.Errorf("%v, %q", err, kept)
	}
}

func TestLogFileThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".dstack"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var warnings []string
	l := newLogFile(home, time.Now, func(warning string) { warnings = append(warnings, warning) })
	l.logger.Error().Msg("one")
	l.logger.Error().Msg("two")
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], "Couldn't write to ") {
		t.Errorf("%q", warnings)
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	err := guard(func() error { panic("boom") })
	a := &App{Console: &term.Console{Err: &bytes.Buffer{}}}
	a.log = newLogFile(t.TempDir(), time.Now, a.Warn)
	if code := a.report(nil, err); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if err := guard(func() error { return context.Canceled }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../examples/*.yml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %q", err, files)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.DecodeApply(file, data); err != nil {
			t.Error(err)
		}
	}
}
