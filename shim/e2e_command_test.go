//go:build e2e

package shim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dstack/protocol/hostapi"
	"dstack/protocol/version"
	"dstack/shim/shimtest"
)

// pipe is the connection that `dstack-shim dial` carries over stdin and stdout.
type pipe struct {
	net.Conn // what a pipe has no use for
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      io.ReadCloser
}

func (p *pipe) Read(b []byte) (int, error)  { return p.out.Read(b) }
func (p *pipe) Write(b []byte) (int, error) { return p.in.Write(b) }
func (p *pipe) Close() error {
	_ = p.in.Close()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	return nil
}
func (*pipe) SetDeadline(time.Time) error      { return nil }
func (*pipe) SetReadDeadline(time.Time) error  { return nil }
func (*pipe) SetWriteDeadline(time.Time) error { return nil }

func dialCommand(shim, home string) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		p := &pipe{cmd: exec.Command(shim, "dial", "--home", home)}
		var err error
		if p.in, err = p.cmd.StdinPipe(); err != nil {
			return nil, err
		}
		if p.out, err = p.cmd.StdoutPipe(); err != nil {
			return nil, err
		}
		if err := p.cmd.Start(); err != nil {
			return nil, err
		}
		magic := make([]byte, len(hostapi.Magic))
		if _, err := io.ReadFull(p.out, magic); err != nil || string(magic) != hostapi.Magic {
			return nil, errors.Join(errors.New("no magic"), err, p.Close())
		}
		return p, nil
	}
}

func TestE2ECommandLine(t *testing.T) {
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	shim, home := filepath.Join(bin, "dstack-shim"), filepath.Join(t.TempDir(), "home")
	out, err := exec.Command(shim, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), version.Version+" ") {
		t.Errorf("version = %q, %v", out, err)
	}
	var stderr bytes.Buffer
	dial := exec.Command(shim, "dial", "--home", home)
	dial.Stderr = &stderr
	if out, err := dial.Output(); err == nil || len(out) > 0 || dial.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "home") {
		t.Errorf("dial without a shim = %q, %q, %v", out, stderr.String(), err)
	}
	if out, err := exec.Command(shim, "uninstall", "--home", home).CombinedOutput(); err != nil {
		t.Errorf("uninstall of nothing: %v: %s", err, out)
	}

	sup := exec.Command(shim, "supervise", "--home", home, "--agent", filepath.Join(bin, "dstack-agent"), "--runtime", "process")
	if err := sup.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sup.Wait() }()
	c := shimtest.New(t, dialCommand(shim, home), true)
	await := func(what string, cond func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain: %s", what)
			}
		}
	}
	var info hostapi.Info
	answers := func() bool { return c.Call(t.Context(), http.MethodGet, "/v1/info", nil, &info) == nil }
	await("the shim answers", answers)
	if info.Runtime != hostapi.Process || info.Version != version.Version || info.Host.CPUs == 0 {
		t.Errorf("info = %+v", info)
	}
	c.Put("c1", withID("c1", shell(`sleep 4714`)))
	state := func() hostapi.TaskState {
		var tasks []hostapi.Task
		if c.Call(t.Context(), http.MethodGet, "/v1/tasks", nil, &tasks) != nil || len(tasks) != 1 {
			return ""
		}
		return tasks[0].State
	}
	await("the task runs", func() bool { return state() == hostapi.TaskRunning })

	serve := childOf(t, sup.Process.Pid)
	if err := syscall.Kill(serve, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await("another serve runs", func() bool { next := childOf(t, sup.Process.Pid); return next != 0 && next != serve })
	await("the task still runs", func() bool { return state() == hostapi.TaskRunning })

	if out, err := exec.Command(shim, "uninstall", "--home", home).CombinedOutput(); err != nil {
		t.Errorf("uninstall: %v: %s", err, out)
	}
	if err := <-ended; err != nil {
		t.Errorf("supervise ended with %v", err)
	}
	if _, err := os.Stat(home); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("home after uninstall: %v", err)
	}
	if pid := find("sleep\x004714\x00"); pid != 0 {
		t.Errorf("process %d of the job still runs", pid)
	}
}

// childOf is a child of a process; 0 if it has none.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	lists, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(field); err == nil {
				return child
			}
		}
	}
	return 0
}
