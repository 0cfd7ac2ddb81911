package agent_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dstack/agent"
	"dstack/agent/exec"
	"dstack/protocol/jobapi"
)

// check compares the final status, but for when and where it was.
func check(t *testing.T, got, want jobapi.Status) {
	t.Helper()
	if got.At.IsZero() {
		t.Error("the status has no time")
	}
	ignore := cmpopts.IgnoreFields(jobapi.Status{}, "At", "Username", "WorkingDir")
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func exitOf(n int) *int { return &n }

// tail is what `seq n | tail -c size` shows on a terminal.
func tail(n, size int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i+1)
	}
	text := b.String()
	return strings.ReplaceAll(text[len(text)-size:], "\n", "\r\n")
}

func TestHowAJobEnds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, script string
		want         jobapi.Status
		log          string
	}{
		{"done", "echo hello", jobapi.Status{State: jobapi.Done, Reason: "done_by_runner", ExitStatus: exitOf(0)}, "hello\r\n"},
		{"exit status", "exit 3", jobapi.Status{
			State: jobapi.Failed, Reason: "container_exited_with_error", ExitStatus: exitOf(3)}, ""},
		{"signal", "kill -TERM $$", jobapi.Status{
			State: jobapi.Failed, Reason: "container_exited_with_error", ExitStatus: exitOf(143),
			Message: "The job was ended by signal 15 (SIGTERM)"}, ""},
		{"signal of a child", "sh -c 'kill -KILL $$'; exit $?", jobapi.Status{
			State: jobapi.Failed, Reason: "container_exited_with_error", ExitStatus: exitOf(137),
			Message: "The job exited with status 137, as after signal 9 (SIGKILL)"}, "Killed\r\n"},
		{"a background process holds the terminal", "sleep 1000 & echo hello",
			jobapi.Status{State: jobapi.Done, Reason: "done_by_runner", ExitStatus: exitOf(0)}, "hello\r\n"},
		{"no input, a terminal", "test -t 0 && test -t 1 && test -t 2 && tty >/dev/null && echo tty >/dev/tty",
			jobapi.Status{State: jobapi.Done, Reason: "done_by_runner", ExitStatus: exitOf(0)}, "tty\r\n"},
		{"the terminal is closed and opened again",
			"exec <&- >&- 2>&-; sleep 0.1; exec >/dev/tty; seq 20000 | tail -c 100000; exit 0",
			jobapi.Status{State: jobapi.Done, Reason: "done_by_runner", ExitStatus: exitOf(0)}, tail(20000, 100000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, config(t), script(t, tt.script))
			check(t, r.end(), tt.want)
			if got := r.cmd.ProcessState.ExitCode(); got != *tt.want.ExitStatus {
				t.Errorf("the agent exits with %d", got)
			}
			if diff := cmp.Diff(tt.log, r.file(jobapi.PlainLog)); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
			if _, err := os.Stat(filepath.Join(r.dir, jobapi.SpecFile)); err == nil {
				t.Error("the job's description, with its secrets, is left")
			}
		})
	}
}

func TestCommandsThatCannotStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, file := range map[string]struct {
		text string
		mode os.FileMode
	}{"plain": {"text", 0o644}, "garbage": {"\x00\x01", 0o755}, "orphan": {"#!/no/such/shell\n", 0o755}} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(file.text), file.mode); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		command, log string
		status       int
	}{
		{"no-such-command", "no-such-command: command not found", 127},
		{"/no/such/command", "/no/such/command: no such file or directory", 127},
		{"./plain", "./plain: permission denied", 126},
		{"plain", "plain: permission denied", 126},
		{"./garbage", "./garbage: neither a program for this machine's architecture nor a script that names its interpreter", 126},
		{"./orphan", "./orphan: its interpreter or dynamic loader is not in the image", 126},
	}
	for _, tt := range tests {
		t.Run(tt.command, func(t *testing.T) {
			t.Parallel()
			spec := script(t, "")
			spec.Commands = []string{tt.command}
			spec.WorkingDir = dir
			spec.Env = map[string]string{"PATH": "/no/such/folder:."}
			r := start(t, config(t), spec)
			check(t, r.end(), jobapi.Status{
				State: jobapi.Failed, Reason: "container_exited_with_error", ExitStatus: &tt.status,
				Message: "Failed to start the command (" + tt.log + ")",
			})
			if diff := cmp.Diff(tt.log+"\r\n", r.file(jobapi.PlainLog)); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStopStages(t *testing.T) {
	t.Parallel()
	const fast = 50 * time.Millisecond
	// Each job says in its log when it is ready, and what reached it.
	loop := "; echo ready; while :; do sleep 0.02; done"
	tests := []struct {
		name, script string
		schedule     exec.Schedule
		request      jobapi.StopRequest
		log          string
		exit         int
	}{
		{"INTR", "trap 'echo int; exit 5' INT" + loop, slow, jobapi.StopRequest{}, "int", 5},
		{"INTR reaches the foreground job of an interactive shell", "exec bash -i -c 'sleep 1000 && echo never'", slow, jobapi.StopRequest{}, "^C", 1},
		// After INT, dash -i asks for the next command.
		{"HUP ends an interactive shell", "exec dash -i -c 'sleep 1000 && echo never'",
			exec.Schedule{Hangup: 20 * fast, Kill: time.Hour}, jobapi.StopRequest{}, "", 129},
		{"HUP", "trap '' INT; trap 'echo hup; exit 6' HUP" + loop,
			exec.Schedule{Hangup: fast, Kill: time.Hour}, jobapi.StopRequest{}, "hup", 6},
		{"HUP wakes a stopped process", "trap '' INT; trap 'echo hup; exit 6' HUP; echo ready; kill -STOP $$",
			exec.Schedule{Hangup: fast, Kill: time.Hour}, jobapi.StopRequest{}, "hup", 6},
		{"KILL", "trap '' INT HUP TERM" + loop, exec.Schedule{Hangup: fast, Kill: 2 * fast}, jobapi.StopRequest{}, "", 137},
		{"at once", "trap '' INT HUP TERM" + loop, slow, jobapi.StopRequest{Kill: true}, "", 137},
		{"terminal without an interrupt character", "stty intr undef; trap 'echo int; exit 5' INT" + loop, slow, jobapi.StopRequest{}, "int", 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := config(t)
			c.Schedule = tt.schedule
			r := start(t, c, script(t, tt.script))
			if strings.Contains(tt.script, "ready") {
				r.output("ready")
			} else {
				r.events(func(e jobapi.Event) bool { return e.Status != nil && e.Status.State == jobapi.Running })
				r.waitFor("sleep")
			}
			tt.request.Reason, tt.request.Message = "terminated_by_user", "stopped by test"
			r.stop(tt.request)
			s := r.end()
			check(t, s, jobapi.Status{
				State: jobapi.Terminated, Reason: "terminated_by_user", Message: "stopped by test", ExitStatus: &tt.exit,
			})
			if got := r.file(jobapi.PlainLog); !strings.Contains(got, tt.log) {
				t.Errorf("log is %q", got)
			}
		})
	}
}

// waitFor waits until a process with this command name is a descendant of the agent's job.
func (r *run) waitFor(command string) {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		for _, pid := range descendants(r.t, r.cmd.Process.Pid) {
			if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.TrimSpace(string(name)) == command {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
	r.t.Fatalf("no process %s", command)
}

func descendants(t *testing.T, pid int) []int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, task := range tasks {
		if more, err := os.ReadFile(task); err == nil {
			data = append(append(data, ' '), more...)
		}
	}
	for _, field := range strings.Fields(string(data)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, child)
		all = append(all, descendants(t, child)...)
	}
	return all
}

func TestMaxDuration(t *testing.T) {
	t.Parallel()
	spec := script(t, "sleep 1000")
	spec.MaxDuration = 1
	check(t, start(t, config(t), spec).end(), jobapi.Status{
		State: jobapi.Terminated, Reason: "max_duration_exceeded", Message: "Max duration exceeded", ExitStatus: exitOf(130),
	})
}

func TestLogQuota(t *testing.T) {
	t.Parallel()
	spec := script(t, "trap '' HUP INT TERM; printf 12345; sleep 0.1; while :; do echo 1234567890; done")
	spec.LogQuotaHour = 1000
	r := start(t, config(t), spec)
	check(t, r.end(), jobapi.Status{
		State: jobapi.Failed, Reason: "log_quota_exceeded", ExitStatus: exitOf(137),
		Message: "Job log output exceeded the hourly quota of 1000 bytes",
	})
	if n := len(r.file(jobapi.PlainLog)); n < 1000 || n > 2000 { // more than 1000 if the clock hour changed meanwhile
		t.Errorf("the log has %d bytes", n)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	c := config(t)
	if err := os.Symlink("/dev/full", filepath.Join(c.Dir, jobapi.RawLog)); err != nil {
		t.Fatal(err)
	}
	s := start(t, c, script(t, "echo hello; sleep 1000")).end()
	if s.State != jobapi.Failed || s.Reason != "executor_error" || !strings.Contains(s.Message, "the disk of the host is full") {
		t.Errorf("status is %+v", s)
	}
}

func TestSignalToTheAgent(t *testing.T) {
	t.Parallel()
	r := start(t, config(t), script(t, "trap 'echo int; exit 5' INT; echo ready; while :; do sleep 0.02; done"))
	r.output("ready")
	r.signal(syscall.SIGHUP)
	r.signal(syscall.SIGUSR1)
	r.signal(syscall.SIGTERM)
	check(t, r.end(), jobapi.Status{
		State: jobapi.Failed, Reason: "container_exited_with_error", ExitStatus: exitOf(5),
		Message: "The job was stopped from outside dstack (terminated): its container engine or host went down",
	})
}

func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, script string
		stop         bool
	}{
		{"daemon of a job that ended", "setsid sh -c 'trap \"\" HUP TERM; echo pid $$; while :; do sleep 1; done' & while ! grep -q pid \"$LOG\"; do sleep 0.01; done", false},
		{"daemon of a job that is stopped", "setsid sh -c 'trap \"\" HUP TERM; echo pid $$; while :; do sleep 1; done' & sleep 1000", true},
		{"double fork", "(setsid sh -c 'echo pid $$; exec sleep 1000' >\"$OUT\" 2>&1 &) ; while ! grep -q pid \"$OUT\"; do sleep 0.01; done; cat \"$OUT\"", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := config(t)
			spec := script(t, tt.script)
			spec.Env = map[string]string{"LOG": filepath.Join(c.Dir, jobapi.PlainLog), "OUT": filepath.Join(t.TempDir(), "out")}
			r := start(t, c, spec)
			if tt.stop {
				r.output("pid")
				r.stop(jobapi.StopRequest{})
			}
			r.end()
			_, text, ok := strings.Cut(r.file(jobapi.PlainLog), "pid ")
			number, _, _ := strings.Cut(text, "\r\n")
			pid, err := strconv.Atoi(number)
			if !ok || err != nil {
				t.Fatalf("log is %q", r.file(jobapi.PlainLog))
			}
			// What was killed is gone when its parent, not the agent, has reaped it.
			for deadline := time.Now().Add(10 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("process %d is left", pid)
				}
			}
		})
	}
}

func TestASecondStartDoesNotRunTheJobAgain(t *testing.T) {
	t.Parallel()
	c := config(t)
	first := start(t, c, script(t, "echo once; exit 3")).end()
	again := launch(t, c)
	if diff := cmp.Diff(first, again.end()); diff != "" {
		t.Errorf("status (-first +second):\n%s", diff)
	}
	if got := again.file(jobapi.PlainLog); got != "once\r\n" {
		t.Errorf("log is %q", got)
	}

	c = config(t)
	killed := start(t, c, script(t, "echo ready; sleep 1000"))
	killed.output("ready")
	killed.signal(syscall.SIGKILL)
	killed.wait()
	s := launch(t, c).end()
	if s.State != jobapi.Failed || s.Reason != "executor_error" {
		t.Errorf("status after the agent was killed is %+v", s)
	}
}

func TestBadJobs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, job, message string
	}{
		{"not JSON", "{", "Failed to read the job (decode job: unexpected end of JSON input)"},
		{"no commands", "{}", "Failed to read the job (decode job: commands are empty)"},
		{"relative working dir", `{"commands":["true"],"working_dir":"a/b"}`,
			"Failed to set job working dir (a/b is not absolute)"},
		{"home of another", `{"commands":["true"],"working_dir":"~ml/x"}`,
			"Failed to set job working dir (~ml/x: the home of another user is not supported, use ~/ or an absolute path)"},
		{"working dir is a file", `{"commands":["true"],"working_dir":"/etc/passwd"}`,
			"Failed to set job working dir (/etc/passwd is not a directory)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := config(t)
			if err := os.WriteFile(filepath.Join(c.Dir, jobapi.SpecFile), []byte(tt.job), 0o600); err != nil {
				t.Fatal(err)
			}
			check(t, launch(t, c).end(), jobapi.Status{State: jobapi.Failed, Reason: "executor_error", Message: tt.message})
		})
	}
}

func TestBinaryOutput(t *testing.T) {
	t.Parallel()
	data := make([]byte, 4<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	spec := script(t, "stty raw -echo && cat data")
	if err := os.WriteFile(filepath.Join(spec.WorkingDir, "data"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, config(t), spec)
	if s := r.end(); s.State != jobapi.Done {
		t.Errorf("status is %+v", s)
	}
	if r.file(jobapi.RawLog) != string(data) {
		t.Error("the raw log differs from what was written")
	}
}

func TestMillionLines(t *testing.T) {
	t.Parallel()
	r := start(t, config(t), script(t, "seq 1000000"))
	if s := r.end(); s.State != jobapi.Done {
		t.Errorf("status is %+v", s)
	}
	var want strings.Builder
	for i := range 1000000 {
		fmt.Fprintf(&want, "%d\r\n", i+1)
	}
	if r.file(jobapi.PlainLog) != want.String() || r.file(jobapi.RawLog) != want.String() {
		t.Error("the logs differ from what was written")
	}
}

func TestStopKeepsOutput(t *testing.T) {
	t.Parallel()
	// The interrupt character must not throw away what is on its way.
	r := start(t, config(t), script(t, "trap 'seq 100000; exit 0' INT; echo ready; while :; do sleep 0.02; done"))
	r.output("ready")
	r.stop(jobapi.StopRequest{})
	r.end()
	if got := r.file(jobapi.PlainLog); !strings.HasSuffix(got, "99999\r\n100000\r\n") || strings.Count(got, "\n") < 100000 {
		t.Errorf("the log has %d bytes and ends with %q", len(got), got[max(len(got)-20, 0):])
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	want := agent.Config{
		Dir: "/d", Root: "/", Drain: 250 * time.Millisecond, ServerLimit: 2 * time.Minute, Measure: 10 * time.Second,
		Schedule: exec.Schedule{Hangup: 5 * time.Second, Kill: 10 * time.Second},
	}
	if diff := cmp.Diff(want, agent.Default("/d")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
