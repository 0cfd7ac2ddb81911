package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dstack/agent"
	"dstack/agent/devenv"
	"dstack/agent/exec"
	"dstack/agent/repo"
	"dstack/agent/state"
	"dstack/protocol/jobapi"
)

// configVar makes the test binary an agent with the configuration it holds.
const configVar = "AGENT_TEST_CONFIG"

func TestMain(m *testing.M) {
	if text := os.Getenv(configVar); text != "" {
		os.Exit(asAgent(text))
	}
	if code, known, err := repo.Command(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr); known { // what the agent starts
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}
	if len(os.Args) > 1 {
		if code, known, err := devenv.Run(context.Background(), os.Args[1:], os.Stdout); known {
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			os.Exit(max(code, 1))
		}
	}
	os.Exit(m.Run())
}

func asAgent(text string) int {
	var c agent.Config
	if err := errors.Join(json.Unmarshal([]byte(text), &c), os.Unsetenv(configVar)); err != nil { //nolint:musttag // only between two ends of this test
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	code, err := agent.Run(context.Background(), c)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// limit is how long a test waits for what must come.
const limit = time.Minute

// slow is a schedule whose later stages never come within a test.
var slow = exec.Schedule{Hangup: time.Hour, Kill: time.Hour}

// run is a running agent.
type run struct {
	t      *testing.T
	dir    string
	cmd    *osexec.Cmd
	stderr bytes.Buffer
}

// config returns the configuration of an agent that touches nothing but
// folders of the test.
func config(t *testing.T) agent.Config {
	t.Helper()
	c := agent.Default(t.TempDir())
	c.Root = t.TempDir()
	c.Schedule = slow
	return c
}

// script is a job that runs a shell script in the test's folder.
func script(t *testing.T, text string) jobapi.Spec {
	t.Helper()
	return jobapi.Spec{
		RunID: "run-id", RunName: "run", JobID: "job-id", JobName: "run-0-0",
		Commands: []string{"/bin/sh", "-c", text}, WorkingDir: t.TempDir(),
	}
}

func start(t *testing.T, c agent.Config, spec jobapi.Spec) *run {
	t.Helper()
	return prepared(t, c, spec).start()
}

// prepared is an agent that is not started yet.
func prepared(t *testing.T, c agent.Config, spec jobapi.Spec) *run {
	t.Helper()
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, jobapi.SpecFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return unstarted(t, c)
}

// launch starts an agent on a folder as it is.
func launch(t *testing.T, c agent.Config) *run {
	t.Helper()
	return unstarted(t, c).start()
}

func unstarted(t *testing.T, c agent.Config) *run {
	t.Helper()
	text, err := json.Marshal(c) //nolint:musttag // only between two ends of this test
	if err != nil {
		t.Fatal(err)
	}
	r := &run{t: t, dir: c.Dir, cmd: osexec.Command(os.Args[0])}
	r.cmd.Env = append(os.Environ(), configVar+"="+string(text))
	r.cmd.Stderr = &r.stderr
	return r
}

// start starts the agent; it ends with the test at the latest.
func (r *run) start() *run {
	r.t.Helper()
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			r.signal(syscall.SIGKILL)
			r.wait()
		}
		if r.t.Failed() {
			r.t.Logf("stderr: %s\nagent.log: %s", r.stderr.String(), r.file(jobapi.DiagnosticsLog))
		}
	})
	return r
}

func (r *run) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Error(err)
	}
}

// wait returns the exit code of the agent.
func (r *run) wait() int {
	r.t.Helper()
	timer := time.AfterFunc(limit, func() {
		r.t.Error("the agent does not end")
		_ = r.cmd.Process.Kill()
	})
	defer timer.Stop()
	var exit *osexec.ExitError
	if err := r.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return r.cmd.ProcessState.ExitCode()
}

// end waits for the agent and returns the job's final status.
func (r *run) end() jobapi.Status {
	r.t.Helper()
	r.wait()
	s, err := state.Load(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *run) file(name string) string {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Error(err)
	}
	return string(data)
}

// dial connects to the control socket, which may not be there yet.
func (r *run) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(r.dir, jobapi.Socket))
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *run) client() *http.Client {
	return &http.Client{Timeout: limit, Transport: &http.Transport{DialContext: r.dial, DisableKeepAlives: true}}
}

// events follows the events of the agent until one satisfies until.
func (r *run) events(until func(jobapi.Event) bool) {
	r.t.Helper()
	response, err := r.client().Get("http://agent/v1/events")
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	var last string
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		var e jobapi.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			r.t.Fatal(err)
		}
		if last = lines.Text(); until(e) {
			return
		}
	}
	r.t.Fatalf("the stream ended (%v) after %s", lines.Err(), last)
}

// output waits until the plain log contains text.
func (r *run) output(text string) {
	r.t.Helper()
	r.events(func(jobapi.Event) bool { return strings.Contains(r.file(jobapi.PlainLog), text) })
}

func (r *run) stop(request jobapi.StopRequest) {
	r.t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		r.t.Fatal(err)
	}
	r.post("stop", body)
}

func (r *run) post(verb string, body []byte) {
	r.t.Helper()
	response, err := r.client().Post("http://agent/v1/"+verb, "application/json", bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		r.t.Error(err)
	}
	if response.StatusCode != http.StatusAccepted {
		r.t.Errorf("%s answers %s", verb, response.Status)
	}
}
