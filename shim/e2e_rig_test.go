//go:build e2e

package shim

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
	"dstack/shim/host"
	"dstack/shim/shimtest"
)

// binaries builds the real shim and agent once and returns their folder.
var binaries = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.TempDir(), "dstack-shim-e2e-bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, name := range []string{"dstack-shim", "dstack-agent"} {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), "dstack/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w: %s", name, err, out)
		}
	}
	return dir, nil
})

// engine is a real dockerd of the test's own.
type engine struct {
	t           *testing.T
	dir         string
	liveRestore bool
	env         []string // of dockerd, in addition
	containerd  *exec.Cmd
	cmd         *exec.Cmd
	cli         *client.Client
}

func newEngine(t *testing.T, liveRestore bool, env ...string) *engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "shim-e2e-dockerd")
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, dir: dir, liveRestore: liveRestore, env: env}
	bridge(t)
	e.cli, err = client.NewClientWithOpts(client.WithHost(e.host()), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	// An own containerd, as on real hosts: one that dockerd starts dies with it.
	e.containerd = exec.Command("containerd", "--root", filepath.Join(dir, "containerd"), "--state", filepath.Join(dir, "state"),
		"--address", filepath.Join(dir, "containerd.sock"), "--log-level", "error")
	if err := e.containerd.Start(); err != nil {
		t.Fatalf("start containerd: %v", err)
	}
	e.start()
	t.Cleanup(func() {
		all, err := e.cli.ContainerList(context.Background(), container.ListOptions{All: true})
		if err != nil {
			t.Errorf("list containers: %v", err)
		}
		for _, c := range all {
			_ = e.cli.ContainerRemove(context.Background(), c.ID, container.RemoveOptions{Force: true})
		}
		_ = e.cli.Close()
		e.kill(syscall.SIGTERM)
		_ = e.containerd.Process.Signal(syscall.SIGTERM)
		_ = e.containerd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("dockerd's log:\n%s", text[max(0, len(text)-8000):])
		}
		_ = exec.Command("sh", "-c", "grep -o ' "+dir+"[^ ]*' /proc/mounts | sort -r | xargs -r umount -l").Run()
		_ = os.RemoveAll(dir)
	})
	return e
}

// bridge makes a network bridge of the tests' own: several engines of one
// machine must not share docker0.
func bridge(t *testing.T) {
	t.Helper()
	if _, err := net.InterfaceByName("dshim0"); err == nil {
		return
	}
	out, err := exec.Command("sh", "-c", "ip link add dshim0 type bridge && ip addr add 172.31.250.1/24 dev dshim0 && ip link set dshim0 up").CombinedOutput()
	if err != nil {
		t.Fatalf("make bridge: %v: %s", err, out)
	}
}

func (e *engine) host() string { return "unix://" + filepath.Join(e.dir, "docker.sock") }

func (e *engine) start() {
	e.t.Helper()
	args := []string{
		"--host", e.host(), "--data-root", filepath.Join(e.dir, "root"), "--exec-root", filepath.Join(e.dir, "exec"),
		"--pidfile", filepath.Join(e.dir, "pid"), "--containerd", filepath.Join(e.dir, "containerd.sock"), "--bridge", "dshim0", "--iptables=false", "--ip6tables=false", "--ip-masq=false",
	}
	if e.liveRestore {
		args = append(args, "--live-restore")
	}
	_ = os.Remove(filepath.Join(e.dir, "pid"))
	log, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		e.t.Fatal(err)
	}
	e.cmd = exec.Command("dockerd", args...)
	e.cmd.Env = append(os.Environ(), e.env...)
	e.cmd.Stdout, e.cmd.Stderr = log, log
	if err := e.cmd.Start(); err != nil {
		e.t.Fatalf("start dockerd (apt-get install docker.io): %v", err)
	}
	_ = log.Close()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := e.cli.Ping(context.Background()); err == nil {
			return
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(filepath.Join(e.dir, "log"))
			e.t.Fatalf("dockerd does not answer: %s", text)
		}
	}
}

func (e *engine) kill(sig syscall.Signal) {
	_ = e.cmd.Process.Signal(sig)
	_ = e.cmd.Wait()
}

// importBusybox makes the image busybox:1 out of the host's static busybox.
func (e *engine) importBusybox() {
	e.t.Helper()
	e.importImage("busybox:1", []string{"ENV FROM_IMAGE=yes", "WORKDIR /srv", `CMD ["/bin/sh", "-c", "echo from the image"]`}, busyboxTar(e.t))
}

func (e *engine) importImage(ref string, changes []string, content io.Reader) {
	e.t.Helper()
	out, err := e.cli.ImageImport(context.Background(), image.ImportSource{Source: content, SourceName: "-"}, ref, image.ImportOptions{Changes: changes})
	if err != nil {
		e.t.Fatalf("import image: %v", err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		e.t.Fatal(err)
	}
	_ = out.Close()
}

func busyboxTar(t *testing.T) io.Reader {
	t.Helper()
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("read busybox (apt-get install busybox-static): %v", err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h *tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin/", "tmp/", "etc/", "root/", "srv/"} {
		add(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o777}, nil)
	}
	add(&tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, data)
	list, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(list)) {
		if name != "busybox" {
			add(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	add(&tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("root:x:0:0:root:/root:/bin/sh\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

// realShim is the real daemon as a process.
type realShim struct {
	t    *testing.T
	home string
	args []string
	env  []string
	cmd  *exec.Cmd
	stop context.CancelFunc
	left chan struct{}
	*shimtest.Controller
}

func newRealShim(t *testing.T, runtime string, env ...string) *realShim {
	t.Helper()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	s := &realShim{t: t, home: filepath.Join(t.TempDir(), "home"), env: env}
	s.args = []string{"serve", "--home", s.home, "--agent", filepath.Join(bin, "dstack-agent"), "--runtime", runtime}
	s.Controller = shimtest.New(t, func(ctx context.Context) (net.Conn, error) { return host.Dial(ctx, s.home) }, true)
	s.start()
	t.Cleanup(func() {
		s.kill(syscall.SIGTERM)
		out, err := exec.Command(filepath.Join(bin, "dstack-shim"), append([]string{"uninstall"}, s.args[1:]...)...).CombinedOutput()
		_ = out
		if err != nil && os.Getenv("DOCKER_HOST") == "" && runtime == "process" {
			t.Errorf("uninstall: %v: %s", err, out)
		}
	})
	return s
}

func (s *realShim) start() {
	s.t.Helper()
	bin, err := binaries()
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(filepath.Join(bin, "dstack-shim"), s.args...)
	s.cmd.Env = append(append(os.Environ(), "DSTACK_SHIM_LOG_LEVEL=debug"), s.env...)
	log, err := os.OpenFile(filepath.Join(filepath.Dir(s.home), "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	_ = log.Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if s.Call(context.Background(), "GET", "/v1/tasks", nil, &[]hostapi.Task{}) == nil {
			break
		}
		if time.Now().After(end) {
			s.t.Fatalf("the shim does not answer: %s", s.log())
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.left = cancel, make(chan struct{})
	go func() {
		defer close(s.left)
		for ctx.Err() == nil {
			err := s.Stream(ctx)
			if err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "connect") && !errors.Is(err, os.ErrNotExist) {
				s.t.Errorf("stream: %v", err)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
}

func (s *realShim) log() string {
	b, _ := os.ReadFile(filepath.Join(filepath.Dir(s.home), "log"))
	return string(b)
}

// memory is the resident memory of the shim, as the kernel prints it.
func (s *realShim) memory() string {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (s *realShim) kill(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	s.stop()
	<-s.left
	_ = s.cmd.Process.Signal(sig)
	_ = s.cmd.Wait()
	s.cmd = nil
	if s.t.Failed() {
		s.t.Logf("shim's log:\n%s", s.log())
	}
}

func shell(script string) hostapi.TaskSpec {
	return hostapi.TaskSpec{
		Name: "e2e-0-0", Image: "busybox:1", NetworkMode: "bridge", PullStall: 30,
		Job: jobapi.Spec{
			RunName: "e2e", JobName: "e2e-0-0", Commands: []string{"/bin/sh", "-c", script}, Isolated: true,
			NodesNum: 1, Env: map[string]string{"GREETING": "hi"},
		},
	}
}
