//go:build e2e

package agent_test

import (
	"encoding/json"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/agent/state"
	"dstack/protocol/jobapi"
)

// These tests run the real program as process 1 of a PID namespace, as a
// container engine does. They need root and unshare(1).

// build compiles a program of ours as `make build` does.
func build(t *testing.T, pkg, out string) {
	t.Helper()
	cmd := osexec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// install copies the agent that `make build` made: users get that one.
func install(t *testing.T, to string) {
	t.Helper()
	program, err := os.ReadFile("../bin/dstack-agent")
	if err != nil {
		t.Fatalf("%v: run make build", err)
	}
	if err := os.WriteFile(to, program, 0o755); err != nil {
		t.Fatal(err)
	}
}

// container starts a job under `dstack-agent init` with root as its file system.
func container(t *testing.T, root string, spec jobapi.Spec) *run {
	t.Helper()
	task := filepath.Join(root, jobapi.Dir)
	proc, dev := filepath.Join(root, "proc"), filepath.Join(root, "dev")
	for _, d := range []string{task, proc, dev} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(task, 0o700); err != nil {
		t.Fatal(err)
	}
	install(t, filepath.Join(root, "dstack-agent"))
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(task, jobapi.SpecFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &run{t: t, dir: task}
	r.cmd = osexec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount", "sh", "-c",
		`mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$1" /dstack-agent init`,
		"sh", root)
	r.cmd.Stderr = &r.stderr
	return r.start()
}

// inside returns the host's ids of the processes below unshare: init, agent, job.
func (r *run) inside() []int { return descendants(r.t, r.cmd.Process.Pid) }

func TestEmptyImage(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	build(t, "dstack/agent/testdata/job", filepath.Join(root, "job"))
	r := container(t, root, jobapi.Spec{
		Isolated: true, JobID: "job-id", Commands: []string{"/job"}, User: "4242:4343", WorkingDir: "/a/b",
	})
	check(t, r.end(), jobapi.Status{State: jobapi.Failed, Reason: "container_exited_with_error", ExitStatus: exitOf(7)})
	if got := r.cmd.ProcessState.ExitCode(); got != 7 {
		t.Errorf("process 1 exits with %d", got)
	}
	want := strings.Join([]string{
		"groups [] <nil>", "in /a/b <nil>", "user 4242 4343", "home / job job-id",
		"task open /dstack/.task: permission denied", "profile true <nil>", "",
	}, "\r\n")
	if diff := cmp.Diff(want, r.file(jobapi.PlainLog)); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	for path, mode := range map[string]os.FileMode{"dstack": 0o755, "dstack/profile": 0o600, "a/b": 0o755} {
		if info, err := os.Stat(filepath.Join(root, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

// debian makes a root file system of this machine's programs.
func debian(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, d := range []string{"etc", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"usr", "bin", "lib", "lib64"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("/"+d, filepath.Join(root, d), "", syscall.MS_BIND|syscall.MS_REC|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(filepath.Join(root, d), syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	return root
}

func TestContainerIsEmptyAtTheEnd(t *testing.T) {
	t.Parallel()
	r := container(t, debian(t), jobapi.Spec{
		Isolated: true,
		Commands: []string{"/bin/sh", "-i", "-c", `setsid sh -c 'trap "" HUP TERM INT; (sleep 1000 &); echo up; while :; do sleep 1; done' & sleep 1000`},
	})
	r.output("up")
	all := r.inside()
	r.stop(jobapi.StopRequest{Kill: true, Reason: "aborted_by_user"})
	check(t, r.end(), jobapi.Status{State: jobapi.Terminated, Reason: "aborted_by_user", ExitStatus: exitOf(137)})
	if len(all) < 5 {
		t.Errorf("only %d processes were there", len(all))
	}
	for _, pid := range all {
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("process %d is left", pid)
		}
	}
}

func TestSignalToProcessOne(t *testing.T) {
	t.Parallel()
	r := container(t, debian(t), jobapi.Spec{
		Isolated: true, Commands: []string{"/bin/sh", "-c", "trap 'exit 5' INT; echo up; while :; do sleep 0.02; done"},
	})
	r.output("up")
	if err := syscall.Kill(r.inside()[0], syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	check(t, r.end(), jobapi.Status{
		State: jobapi.Failed, Reason: "container_exited_with_error", ExitStatus: exitOf(5),
		Message: "The job was stopped from outside dstack (terminated): its container engine or host went down",
	})
}

func TestAgentIsKilled(t *testing.T) {
	t.Parallel()
	r := container(t, debian(t), jobapi.Spec{
		Isolated: true, Commands: []string{"/bin/sh", "-c", "echo up; sleep 1000"},
	})
	r.output("up")
	all := r.inside()
	if err := syscall.Kill(all[1], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := r.wait(); got != 137 {
		t.Errorf("process 1 exits with %d", got)
	}
	if s, err := state.Load(r.dir); err != nil || s.State != jobapi.Running {
		t.Errorf("state is %+v, %v", s, err)
	}
	for _, pid := range all {
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("process %d is left", pid)
		}
	}
}

func TestNoZombies(t *testing.T) {
	t.Parallel()
	r := container(t, debian(t), jobapi.Spec{
		Isolated: true,
		Commands: []string{"/bin/sh", "-c", `for i in $(seq 50); do (setsid true &); done
			while grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do sleep 0.02; done >/dev/null; echo clean`},
	})
	check(t, r.end(), jobapi.Status{State: jobapi.Done, Reason: "done_by_runner", ExitStatus: exitOf(0)})
}

func TestFullDiskOfTheHost(t *testing.T) {
	t.Parallel()
	c := config(t)
	if err := syscall.Mount("tmpfs", c.Dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(c.Dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := start(t, c, script(t, "seq 1000000; sleep 1000")).end()
	if s.State != jobapi.Failed || s.Reason != "executor_error" || !strings.Contains(s.Message, "the disk of the host is full") {
		t.Errorf("status is %+v", s)
	}
}

func TestFootprint(t *testing.T) {
	t.Parallel()
	root := debian(t)
	r := container(t, root, jobapi.Spec{
		Isolated: true, Commands: []string{"/bin/sh", "-c", "seq 1000000; sleep 1000"},
	})
	r.output("\n1000000\r\n")
	info, err := os.Stat(filepath.Join(root, "dstack-agent"))
	if err != nil || info.Size() > 10<<20 {
		t.Errorf("the program has %d bytes, %v", info.Size(), err)
	}
	for _, pid := range r.inside()[:2] {
		status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(status), "VmRSS:")
		kib, err := strconv.Atoi(strings.Fields(text)[0])
		if err != nil || kib > 15<<10 {
			t.Errorf("process %d has %d KiB, %v", pid, kib, err)
		}
		t.Logf("process %d: %d KiB", pid, kib)
	}
	r.stop(jobapi.StopRequest{Kill: true})
	r.end()
}
