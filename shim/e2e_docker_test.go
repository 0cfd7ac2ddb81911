//go:build e2e

package shim

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

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

// TestE2EEngineKilled kills the engine at every moment of the starts of
// ENGINE_KILLS jobs (default 20).
func TestE2EEngineKilled(t *testing.T) {
	kills := 20
	if text := os.Getenv("ENGINE_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("ENGINE_KILLS: %v", err)
		}
		kills = n
	}
	s, e := dockerShim(t, true)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range kills {
		id := "e" + strconv.Itoa(i)
		s.Put(id, withID(id, shell(`echo once; exit 4`)))
		for e.count() == 0 {
			time.Sleep(time.Millisecond)
		}
		wait := time.Duration(random.Int64N(int64(150 * time.Millisecond)))
		time.Sleep(wait)
		e.kill(syscall.SIGKILL)
		e.start()
		got := s.Await(id, hostapi.TaskTerminated)
		if got.ExitStatus == nil || *got.ExitStatus != 4 || strings.Count(s.Log(id), "once") != 1 {
			t.Errorf("killed after %v: end = %+v, log %q", wait, got, s.Log(id))
		}
		s.Remove(id)
	}
	t.Logf("processes killed: %d", strings.Count(s.log(), "process of container is killed"))
	if n := e.count(); n != 0 {
		t.Errorf("%d containers are left", n)
	}
}

// TestE2EContainerLeft kills the engine between the two steps of a start:
// containerd has made the container, and nobody told it to start it.
func TestE2EContainerLeft(t *testing.T) {
	s, e := dockerShim(t, true)
	seen := map[string]bool{}
	for i := range 100 {
		id := "c" + strconv.Itoa(i)
		s.Put(id, withID(id, shell(`echo once; exit 4`)))
		made := e.stopAtCreate(seen)
		if made {
			e.kill(syscall.SIGKILL)
			e.start()
		} else if err := e.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		got := s.Await(id, hostapi.TaskTerminated)
		if got.ExitStatus == nil || *got.ExitStatus != 4 || strings.Count(s.Log(id), "once") != 1 {
			t.Errorf("end = %+v, log %q", got, s.Log(id))
		}
		s.Remove(id)
		if made {
			t.Logf("killed at job %d; processes killed: %d", i, strings.Count(s.log(), "process of container is killed"))
			return
		}
	}
	t.Error("the engine was always too fast")
}

// stopAtCreate halts the engine as soon as containerd has a process for a
// container that is not in seen, and says whether it did so before the
// container was started.
func (e *engine) stopAtCreate(seen map[string]bool) bool {
	e.t.Helper()
	ctr := func(command string) string {
		out, err := exec.Command("sh", "-c", "ctr -a "+filepath.Join(e.dir, "containerd.sock")+" -n moby "+command).CombinedOutput()
		if err != nil {
			e.t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	tasks := filepath.Join(e.dir, "state", "io.containerd.runtime.v2.task", "moby")
	for end := time.Now().Add(20 * time.Second); ; {
		made, err := filepath.Glob(filepath.Join(tasks, "*", "init.pid"))
		if err != nil || time.Now().After(end) {
			e.t.Fatalf("no container was made: %v", err)
		}
		for _, file := range made {
			id := filepath.Base(filepath.Dir(file))
			if seen[id] {
				continue
			}
			seen[id] = true
			if err := e.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				e.t.Fatal(err)
			}
			return strings.HasSuffix(ctr("task ls | grep "+id+" || true"), "CREATED")
		}
	}
}
