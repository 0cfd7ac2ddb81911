//go:build e2e

// Package cycles attaches to a running job again and again, several at once,
// cuts a third of them, and looks for what is left: in the user's files, in
// the agent, in the server, on the network.
package cycles

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// Attaches at the same time; every third is cut by SIGKILL.
const (
	workers  = 8
	cutEvery = 3
)

// cycles is how many attaches there are: ATTACH_CYCLES, or as many as CI has
// time for.
func cycles(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv("ATTACH_CYCLES")
	if text == "" {
		return 240
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < workers {
		t.Fatalf("ATTACH_CYCLES=%s is no number of cycles", text)
	}
	return n
}

// What the user had before, and has to have afterwards.
const (
	userConfig   = "# mine\nHost *.example\n    User me\n\nHost last"
	dstackConfig = "ServerAliveInterval 5\n\nHost other\n    HostName 1.2.3.4\n"
)

// rig is a server with a job on this machine that serves a page.
type rig struct {
	*lab.Server

	page      int // the job's port
	agentPort int
	agent     int // process ids
	next      atomic.Int64
}

func newRig(t *testing.T) *rig {
	r := &rig{page: freePort(t), Server: lab.ServerFor(t, []string{"DSTACK_SHIM_RUNTIME=process"}, "--local")}
	r.write(t, ".ssh/config", userConfig)
	r.write(t, ".dstack/ssh/config", dstackConfig)
	command := fmt.Sprintf("echo hello > index.html; exec busybox httpd -f -p 127.0.0.1:%d", r.page)
	if _, err := r.Submit(t.Context(), "web", map[string]any{"commands": []string{"mkdir www && cd www", command}, "ports": []int{r.page}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the shim and the job would outlive the server
		_, _ = r.CLI(context.Background(), r.Dir, "stop", "-y", "-x", "web")
		_, _ = r.Finish(context.Background(), "web", time.Minute)
		if result, err := r.CLI(context.Background(), r.Dir, "fleet", "delete", "-y", "local"); err != nil || result.Exit != 0 {
			t.Errorf("%+v, %v", result, err)
		}
	})
	run, err := r.WaitRun(t.Context(), "web", time.Minute, "start", func(run api.Run) bool { return run.Status == api.RunRunning })
	if err != nil {
		t.Fatal(err)
	}
	r.agentPort = run.Jobs[0].JobSubmissions[0].JobRuntimeData.Ports["10022"]
	if r.agent = owner(t, r.agentPort); r.agent == 0 {
		t.Fatal("nobody listens for SSH")
	}
	return r
}

func (r *rig) write(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join(r.Dir, "home", path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestCycles(t *testing.T) {
	r := newRig(t)
	total := cycles(t)
	r.cycle(t, freePort(t), false) // what is made once is there
	before := r.count(t)
	start := time.Now()
	var all sync.WaitGroup
	for range workers {
		port := freePort(t)
		all.Go(func() {
			for n := r.next.Add(1); n <= total && !t.Failed(); n = r.next.Add(1) {
				r.cycle(t, port, n%cutEvery == 0)
			}
		})
	}
	all.Wait()
	t.Logf("%d cycles in %s", total, time.Since(start).Round(time.Second))
	if t.Failed() {
		return
	}
	r.cycle(t, freePort(t), false) // takes away what the cut ones left
	r.checkHome(t)
	err := lab.Wait(t.Context(), 30*time.Second, "end of all connections", func(context.Context) error {
		if now := r.count(t); now.more(before) {
			return fmt.Errorf("before %+v, now %+v", before, now)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	r.checkGoroutines(t)
}

// cycle attaches, reads the job's page through the forwarded port, and
// detaches or is killed.
func (r *rig) cycle(t *testing.T, port int, cut bool) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := r.Command(ctx, r.Dir, lab.Binary("dstack"), "attach", "web", "-p", fmt.Sprintf("%d:%d", port, r.page))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	seen, attached := "", false
	lines := bufio.NewScanner(out)
	for !attached && lines.Scan() {
		seen += lines.Text() + "\n"
		attached = strings.HasPrefix(lines.Text(), "Press Ctrl+C to detach")
	}
	if attached {
		if text, err := fetch(port); err != nil || text != "hello\n" {
			t.Errorf("page %q, %v", text, err)
		}
	}
	signal := os.Interrupt
	if cut {
		signal = os.Kill
	}
	_ = cmd.Process.Signal(signal) // has ended already if it is not attached
	rest, _ := io.ReadAll(out)
	err = cmd.Wait()
	if killed, _ := errors.AsType[*exec.ExitError](err); !attached || (cut && killed == nil) || (!cut && (err != nil || string(rest) != "Detached\n")) {
		t.Errorf("attach (cut: %v) ended with %v:\n%s%s%s", cut, err, seen, rest, stderr.String())
	}
}

// fetch reads the job's page through a local port.
func fetch(port int) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	response, err := client.Get(fmt.Sprintf("http://localhost:%d/", port))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(response.Body)
	return string(text), errors.Join(err, response.Body.Close())
}

// checkHome looks for what is left in the user's files.
func (r *rig) checkHome(t *testing.T) {
	t.Helper()
	ssh := filepath.Join(r.Dir, "home", ".dstack", "ssh")
	for path, want := range map[string]string{
		filepath.Join(ssh, "config"):                   dstackConfig,
		filepath.Join(r.Dir, "home", ".ssh", "config"): "Include " + filepath.Join(ssh, "config") + "\n" + userConfig,
	} {
		if text, err := os.ReadFile(path); err != nil || string(text) != want {
			t.Errorf("%s is %q, %v, want %q", path, text, err, want)
		}
	}
	for _, pattern := range []string{"attached/*", "forwards/*", ".*", "../../.ssh/.*", "*.tmp*"} {
		if left, err := filepath.Glob(filepath.Join(ssh, pattern)); err != nil || len(left) > 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
	}
}

// counts are what a leak would make grow.
type counts struct {
	agentFiles, serverFiles, children, connections int
}

func (c counts) more(than counts) bool {
	const slack = 3 // idle connections to the server, files that are open for a moment
	return c.agentFiles > than.agentFiles || c.serverFiles > than.serverFiles+slack || c.children > than.children || c.connections > than.connections
}

func (r *rig) count(t *testing.T) counts {
	t.Helper()
	connections := 0
	for _, s := range sockets(t) {
		if s.local == r.agentPort && s.state == established {
			connections++
		}
	}
	return counts{agentFiles: files(t, r.agent), serverFiles: files(t, r.PID()), children: children(t, r.agent), connections: connections}
}

// goroutines is how many an agent may have to which nobody is attached.
const goroutines = 60

// checkGoroutines has the agent print its goroutines, which ends it.
func (r *rig) checkGoroutines(t *testing.T) {
	t.Helper()
	out, err := os.Open(fmt.Sprintf("/proc/%d/fd/2", r.agent))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := syscall.Kill(r.agent, syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	err = lab.Wait(t.Context(), 30*time.Second, "end of the agent", func(context.Context) error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", r.agent)); err == nil {
			return errors.New("is still there")
		}
		return nil
	})
	dump, readErr := io.ReadAll(out)
	n := strings.Count(string(dump), "\ngoroutine ")
	if err := errors.Join(err, readErr); err != nil || n == 0 || n > goroutines {
		t.Errorf("the agent had %d goroutines, %v\n%s", n, err, dump)
	}
	t.Logf("the agent had %d goroutines", n)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("not TCP")
	}
	return address.Port
}
