//go:build e2e

package shim

import (
	"context"
	"errors"
	"io"
	"log"
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

	"github.com/docker/docker/api/types/container"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"dstack/protocol/hostapi"
)

func dockerShim(t *testing.T, liveRestore bool) (*realShim, *engine) {
	t.Helper()
	e := newEngine(t, liveRestore)
	e.importBusybox()
	s := newRealShim(t, "docker", "DOCKER_HOST="+e.host())
	return s, e
}

func (e *engine) count() int {
	all, err := e.cli.ContainerList(context.Background(), container.ListOptions{All: true})
	if err != nil {
		e.t.Fatal(err)
	}
	return len(all)
}

// agent is the agent's process in the one container that runs: the child of
// the container's first process.
func (e *engine) agent() int {
	e.t.Helper()
	all, err := e.cli.ContainerList(context.Background(), container.ListOptions{})
	if err != nil || len(all) != 1 {
		e.t.Fatalf("running containers: %v, %v", all, err)
	}
	info, err := e.cli.ContainerInspect(context.Background(), all[0].ID)
	if err != nil {
		e.t.Fatal(err)
	}
	agent := childOf(e.t, info.State.Pid)
	if agent == 0 {
		e.t.Fatal("the container has no agent")
	}
	return agent
}

func TestE2EDocker(t *testing.T) {
	s, e := dockerShim(t, false)

	t.Run("runs", func(t *testing.T) {
		began := time.Now()
		s.Put("d1", withID("d1", shell(`echo $GREETING $FROM_IMAGE; pwd; id -u; cat /proc/1/comm; exit 3`)))
		got := s.Await("d1", hostapi.TaskTerminated)
		t.Logf("took %v", time.Since(began))
		if got.ExitStatus == nil || *got.ExitStatus != 3 || got.Username != "root" || got.WorkingDir != "/srv" {
			t.Errorf("end = %+v", got)
		}
		if log := strings.ReplaceAll(s.Log("d1"), "\r", ""); log != "hi yes\n/srv\n0\ndstack-agent\n" {
			t.Errorf("log = %q", log)
		}
		s.Remove("d1")
		if n := e.count(); n != 0 {
			t.Errorf("%d containers are left", n)
		}
	})

	t.Run("what the image says", func(t *testing.T) {
		spec := withID("d2", shell(""))
		spec.Job.Commands = nil
		s.Put("d2", spec)
		if got := s.Await("d2", hostapi.TaskTerminated); got.Reason != reasonDone || !strings.Contains(s.Log("d2"), "from the image") {
			t.Errorf("end = %+v, log %q", got, s.Log("d2"))
		}
	})

	t.Run("limits and memory", func(t *testing.T) {
		spec := withID("d3", shell(`df /dev/shm | tail -1; x=$(head -c 200000000 /dev/zero | tr '\0' x); echo not reached`))
		spec.MemoryBytes, spec.ShmBytes, spec.CPUs = 64<<20, 32<<20, 0.5
		s.Put("d3", spec)
		got := s.Await("d3", hostapi.TaskTerminated)
		if got.Reason != reasonExited || got.ExitStatus == nil || *got.ExitStatus != 137 || !strings.Contains(got.Message, "64MiB") {
			t.Errorf("end = %+v, log %q", got, s.Log("d3"))
		}
		if !strings.Contains(s.Log("d3"), "32768") {
			t.Errorf("/dev/shm: %q", s.Log("d3"))
		}
	})

	t.Run("stop", func(t *testing.T) {
		s.Put("d4", withID("d4", shell(`trap 'echo got it; exit 0' INT; echo up; while :; do sleep 0.1; done`)))
		s.AwaitLog("d4", "up")
		s.Stop("d4", hostapi.StopTask{Grace: 30, Reason: "terminated_by_user", Message: "stopped"})
		got := s.Await("d4", hostapi.TaskTerminated)
		if got.Reason != "terminated_by_user" || got.Message != "stopped" || !strings.Contains(s.Log("d4"), "got it") {
			t.Errorf("end = %+v, log %q", got, s.Log("d4"))
		}
	})

	t.Run("mounts, ports, no docker socket", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "b")
		spec := withID("d5", shell(`echo data > /mnt/x; ls /var/run/docker.sock /run/docker.sock; ls -a /dstack/.task; touch /usr/local/bin/dstack-agent; sleep 60`))
		spec.Mounts = []hostapi.InstanceMount{{Source: dir, Target: "/mnt"}}
		spec.Job.SSHListen = ":10022"
		s.Put("d5", spec)
		got := s.Await("d5", hostapi.TaskRunning)
		if got.Ports[10022] == 0 {
			t.Errorf("ports = %v", got.Ports)
		}
		s.AwaitLog("d5", "Read-only")
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("mount: %v, %v", info, err)
		}
		if info, err := os.Stat(filepath.Dir(dir)); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("parent of mount: %v, %v", info, err)
		}
		s.Remove("d5")
	})

	t.Run("a million lines, 200 MB, while the shim is killed", func(t *testing.T) {
		s.Put("big", withID("big", shell(`yes "$(head -c 199 /dev/zero | tr '\0' x)" | head -n 1000000`)))
		for range 2 {
			s.AwaitThat("some log came", func() bool { return true })
			time.Sleep(300 * time.Millisecond)
			s.kill(syscall.SIGKILL)
			s.start()
		}
		began := time.Now()
		if got := s.Await("big", hostapi.TaskTerminated); got.Reason != reasonDone {
			t.Errorf("end = %+v", got)
		}
		log := s.Log("big")
		line := strings.Repeat("x", 199)
		if n := strings.Count(log, line+"\r\n") + strings.Count(log, line+"\n"); n != 1_000_000 {
			t.Errorf("%d lines, %d bytes", n, len(log))
		}
		t.Logf("took %v after the last start, shim uses %s", time.Since(began), s.memory())
		s.Remove("big")
	})

	t.Run("image that does not exist", func(t *testing.T) {
		spec := withID("d6", shell("true"))
		spec.Image = "localhost:1/nothing:1"
		s.Put("d6", spec)
		got := s.Await("d6", hostapi.TaskTerminated)
		if got.Reason != reasonContainer || !strings.HasPrefix(got.Message, "pullImage error: image localhost:1/nothing:1: the host cannot reach the registry") {
			t.Errorf("end = %+v", got)
		}
	})

	t.Run("agent killed", func(t *testing.T) {
		s.Put("d7", withID("d7", shell(`sleep 60`)))
		s.Await("d7", hostapi.TaskRunning)
		if err := syscall.Kill(e.agent(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if got := s.Await("d7", hostapi.TaskTerminated); got.Reason != reasonExecutor {
			t.Errorf("end = %+v", got)
		}
	})

	t.Run("shim killed while the job runs, and while it is away", func(t *testing.T) {
		s.Put("d8", withID("d8", shell(`for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.2; done; exit 5`)))
		s.Await("d8", hostapi.TaskRunning)
		s.kill(syscall.SIGKILL)
		s.start()
		time.Sleep(300 * time.Millisecond)
		s.kill(syscall.SIGKILL)
		time.Sleep(2 * time.Second) // the job ends meanwhile
		s.start()
		got := s.Await("d8", hostapi.TaskTerminated)
		if got.ExitStatus == nil || *got.ExitStatus != 5 {
			t.Errorf("end = %+v", got)
		}
		if log := strings.ReplaceAll(s.Log("d8"), "\r", ""); log != "1\n2\n3\n4\n5\n6\n7\n8\n" {
			t.Errorf("log = %q", log)
		}
	})

	t.Run("shim killed at any time during the start", func(t *testing.T) {
		for i := range 12 {
			id := "k" + strconv.Itoa(i)
			s.Put(id, withID(id, shell(`echo once; exit 4`)))
			time.Sleep(time.Duration(i) * 40 * time.Millisecond)
			s.kill(syscall.SIGKILL)
			s.start()
			got := s.Await(id, hostapi.TaskTerminated)
			if got.ExitStatus == nil || *got.ExitStatus != 4 || strings.Count(s.Log(id), "once") != 1 {
				t.Errorf("cut after %d ms: end = %+v, log %q", i*40, got, s.Log(id))
			}
			s.Remove(id)
		}
	})

	t.Run("dockerd restarted without live-restore", func(t *testing.T) {
		s.Put("d9", withID("d9", shell(`echo up; sleep 60`)))
		s.Await("d9", hostapi.TaskRunning)
		e.kill(syscall.SIGKILL)
		e.start()
		got := s.Await("d9", hostapi.TaskTerminated)
		if got.Reason != reasonExited || !strings.Contains(got.Message, "ngine was restarted") {
			t.Errorf("end = %+v", got)
		}
		var problems []string
		for _, i := range s.Infos() {
			if i.Problem != nil {
				problems = append(problems, i.Problem.Code)
			}
		}
		if len(problems) == 0 || problems[0] != "no_docker" {
			t.Errorf("problems told: %v", problems)
		}
	})

	t.Run("uninstall leaves nothing", func(t *testing.T) {
		s.Put("d10", withID("d10", shell(`sleep 60`)))
		s.Await("d10", hostapi.TaskRunning)
		bin, err := binaries()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(bin, "dstack-shim"), append([]string{"uninstall"}, s.args[1:]...)...)
		cmd.Env = append(os.Environ(), s.env...)
		waited := make(chan struct{})
		go func() { defer close(waited); _ = s.cmd.Wait() }()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("uninstall: %v: %s", err, out)
		}
		<-waited
		if n := e.count(); n != 0 {
			t.Errorf("%d containers are left", n)
		}
		if _, err := os.Stat(s.home); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("home after uninstall: %v", err)
		}
	})
}

func TestE2ELiveRestore(t *testing.T) {
	s, e := dockerShim(t, true)
	s.Put("l1", withID("l1", shell(`for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.5; done; exit 6`)))
	s.Await("l1", hostapi.TaskRunning)
	if !s.Hello().Info.LiveRestore {
		t.Error("live-restore is not reported")
	}
	e.kill(syscall.SIGKILL)
	e.start()
	got := s.Await("l1", hostapi.TaskTerminated)
	if got.ExitStatus == nil || *got.ExitStatus != 6 || strings.Count(s.Log("l1"), "\n") != 9 {
		t.Errorf("end = %+v, log %q", got, s.Log("l1"))
	}
}

// slowRegistry serves an image with a password, slowly, or stalls.
type slowRegistry struct {
	addr  string
	stall chan struct{} // while open, blobs hang
}

func newRegistry(t *testing.T) *slowRegistry {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &slowRegistry{addr: l.Addr().String(), stall: make(chan struct{})}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if user, pass, _ := q.BasicAuth(); user != "robot" || pass != "right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(q.URL.Path, "/slow/blobs/sha256") && q.Method == http.MethodGet {
			select {
			case <-r.stall:
			case <-q.Context().Done():
				return
			}
		}
		inner.ServeHTTP(w, q)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	for _, repo := range []string{"fast", "slow"} {
		img, err := random.Image(3<<20, 2)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := name.ParseReference(r.addr + "/" + repo + ":1")
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: "robot", Password: "right"})); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func TestE2EPull(t *testing.T) {
	reg := newRegistry(t)
	s, e := dockerShim(t, false)
	job := func(id, repo, user, password string) hostapi.TaskSpec {
		spec := withID(id, shell("true"))
		spec.Image, spec.RegistryUsername, spec.RegistryPassword, spec.PullStall = reg.addr+"/"+repo, user, password, 2
		return spec
	}
	t.Run("wrong password", func(t *testing.T) {
		s.Put("w1", job("w1", "fast:1", "robot", "wrong"))
		got := s.Await("w1", hostapi.TaskTerminated)
		if got.Reason != reasonContainer || !strings.Contains(got.Message, "refused the user name or password") {
			t.Errorf("end = %+v", got)
		}
	})
	t.Run("no such image", func(t *testing.T) {
		s.Put("w2", job("w2", "none:1", "robot", "right"))
		got := s.Await("w2", hostapi.TaskTerminated)
		if got.Reason != reasonContainer || !strings.Contains(got.Message, "does not exist") {
			t.Errorf("end = %+v", got)
		}
	})
	t.Run("latest that cannot be pulled, with a copy on the host", func(t *testing.T) {
		e.importImage("localhost:1/demo:latest", nil, busyboxTar(t))
		spec := withID("w0", shell("echo copy; exit 9"))
		spec.Image = "localhost:1/demo"
		s.Put("w0", spec)
		got := s.Await("w0", hostapi.TaskTerminated)
		if got.ExitStatus == nil || *got.ExitStatus != 9 {
			t.Errorf("end = %+v", got)
		}
	})
	t.Run("no progress", func(t *testing.T) {
		s.Put("w3", job("w3", "slow:1", "robot", "right"))
		got := s.Await("w3", hostapi.TaskTerminated)
		if got.Reason != reasonContainer || !strings.Contains(got.Message, "no progress for 2 s") {
			t.Errorf("end = %+v", got)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		spec := job("w4", "slow:1", "robot", "right")
		spec.PullStall = 600
		s.Put("w4", spec)
		s.Await("w4", hostapi.TaskPulling)
		s.Stop("w4", hostapi.StopTask{Grace: 10, Reason: "terminated_by_user"})
		if got := s.Await("w4", hostapi.TaskTerminated); got.Reason != "terminated_by_user" {
			t.Errorf("end = %+v", got)
		}
	})
	t.Run("dockerd and shim killed while pulling", func(t *testing.T) {
		spec := job("w5", "slow:1", "robot", "right")
		spec.PullStall = 600
		s.Put("w5", spec)
		s.Await("w5", hostapi.TaskPulling)
		e.kill(syscall.SIGKILL)
		e.start()
		s.kill(syscall.SIGKILL)
		s.start()
		close(reg.stall)
		// The random image holds no /bin/sh: that the command is not found
		// says that it was pulled, with the password kept over the restart.
		got := s.Await("w5", hostapi.TaskTerminated)
		if got.ExitStatus == nil || *got.ExitStatus != 127 {
			t.Errorf("end = %+v, log %q", got, s.Log("w5"))
		}
	})
}

func TestE2EIsolation(t *testing.T) {
	s, e := dockerShim(t, false)
	attack := filepath.Join(t.TempDir(), "attack")
	cmd := exec.Command("go", "build", "-o", attack, "./testdata/attack")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build attack: %v: %s", err, out)
	}
	for _, network := range []string{"bridge", "host"} {
		t.Run(network, func(t *testing.T) {
			victim, attacker := "victim-"+network, "attacker-"+network
			s.Put(victim, withID(victim, shell(`sleep 60`)))
			s.Await(victim, hostapi.TaskRunning)
			spec := withID(attacker, shell(`/attack/attack `+filepath.Join(s.home, hostapi.SocketName)+` `+
				filepath.Join(s.home, "tasks", victim, "run", "agent.sock")+` `+filepath.Join(e.dir, "docker.sock")))
			spec.NetworkMode = network
			spec.Mounts = []hostapi.InstanceMount{{Source: filepath.Dir(attack), Target: "/attack"}}
			s.Put(attacker, spec)
			if got := s.Await(attacker, hostapi.TaskTerminated); got.Reason != reasonDone {
				t.Errorf("end = %+v, log %q", got, s.Log(attacker))
			}
			var reached []string
			for line := range strings.Lines(strings.ReplaceAll(s.Log(attacker), "\r", "")) {
				if name, ok := strings.CutPrefix(strings.TrimSpace(line), "reached "); ok {
					reached = append(reached, name)
				}
			}
			ours := 0
			for _, name := range reached {
				switch {
				case name == "@attack-control", name == "/dstack/.task/agent.sock":
					ours++ // its own, which shows that the attack works
				case strings.HasPrefix(name, "@") && !strings.Contains(name, "dstack"):
					t.Logf("abstract socket of the host, not ours: %s", name)
				default:
					t.Errorf("reached %s", name)
				}
			}
			if ours < 2 {
				t.Errorf("the attack did not work: %q", s.Log(attacker))
			}
			s.Remove(victim)
			s.Remove(attacker)
		})
	}
}
