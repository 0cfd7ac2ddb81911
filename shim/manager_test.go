package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
	"dstack/shim/gpu"
	"dstack/shim/host"
	"dstack/shim/journal"
	"dstack/shim/shimtest"
	"dstack/shim/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a shim in a process of its own, as far as that goes: it can be
// killed and started again on the same home.
type rig struct {
	t    *testing.T
	home string
	boot string
	rt   *fakeRuntime
	m    *Manager
	// alone says that nobody follows the shim.
	alone bool
	stop  func()
	*shimtest.Controller
}

func newRig(t *testing.T, rt *fakeRuntime) *rig {
	r := &rig{t: t, home: t.TempDir(), boot: "boot-1", rt: rt}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) start() {
	r.t.Helper()
	home, err := host.Open(r.home)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(r.home, "journal"), 0o700); err != nil {
		r.t.Fatal(err)
	}
	j, err := journal.Open(filepath.Join(r.home, "journal"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.m, err = New(r.t.Context(), Config{
		Home: r.home, HostID: "h", BootID: r.boot, Log: zerolog.New(zerolog.NewTestWriter(r.t)),
		Detect: func(context.Context) (gpu.Found, error) {
			return gpu.Found{Vendor: gpu.NVIDIA, GPUs: []hostapi.GPU{{ID: "g0"}, {ID: "g1"}}}, nil
		},
	}, r.rt, j)
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := home.Listen()
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.m.Run(ctx) })
	g.Go(func() error { return host.Serve(ctx, l, r.m.Handler(func(hostapi.Shutdown) {})) })
	if r.Controller == nil {
		r.Controller = shimtest.New(r.t, func(ctx context.Context) (net.Conn, error) { return host.Dial(ctx, r.home) }, true)
	}
	for r.Call(ctx, "GET", "/v1/tasks", nil, &[]hostapi.Task{}) != nil || !r.running() {
		time.Sleep(time.Millisecond)
	}
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		for ctx.Err() == nil && !r.alone {
			if err := r.Stream(ctx); err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), "EOF") {
				r.t.Errorf("stream: %v", err)
				return
			}
		}
	}()
	r.stop = func() {
		r.stop = func() {}
		cancel()
		if err := g.Wait(); err != nil {
			r.t.Errorf("shim: %v", err)
		}
		<-followed
		if err := errors.Join(j.Close(), home.Close()); err != nil {
			r.t.Error(err)
		}
	}
}

func (r *rig) running() bool {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	return r.m.spawn != nil
}

// restart kills the shim and starts another.
func (r *rig) restart() {
	r.t.Helper()
	r.stop()
	r.start()
}

func spec() hostapi.TaskSpec {
	return hostapi.TaskSpec{Name: "run-0-0", Image: "img", NetworkMode: "bridge", RegistryPassword: "hunter2",
		Job: jobapi.Spec{Commands: []string{"x"}, Env: map[string]string{"TOKEN": "s3cret"}}}
}

func states(told []hostapi.Task, id string) []hostapi.TaskState {
	var out []hostapi.TaskState
	for _, t := range told {
		if t.ID == id {
			out = append(out, t.State)
		}
	}
	return out
}

func exit(n int) *int { return &n }

func TestTaskRunsToItsEnd(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = func(c *fakeContainer) {
		c.run()
		c.say("hello\n")
		c.say("world\n")
		c.end(jobapi.Status{State: jobapi.Failed, Reason: reasonExited, ExitStatus: exit(3)})
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	got := r.Await("t1", hostapi.TaskTerminated)
	size := int64(12)
	want := hostapi.Task{
		ID: "t1", State: hostapi.TaskTerminated, Reason: reasonExited, ExitStatus: exit(3),
		Ports: map[int]int{22: 33}, Username: "root", WorkingDir: "/w", PlainSize: &size,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("end (-want +got):\n%s", diff)
	}
	wantStates := []hostapi.TaskState{hostapi.TaskPulling, hostapi.TaskCreating, hostapi.TaskRunning, hostapi.TaskTerminated}
	if diff := cmp.Diff(wantStates, states(r.Told(), "t1")); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if got := r.Log("t1"); got != "hello\nworld\n" {
		t.Errorf("log = %q", got)
	}
	data, err := os.ReadFile(filepath.Join(r.home, "tasks", "t1", recordName))
	if err != nil {
		t.Fatal(err)
	}
	if s := string(data); strings.Contains(s, "hunter2") || strings.Contains(s, "s3cret") {
		t.Error("secrets are still on the disk after the end")
	}
	r.Remove("t1")
	r.Remove("t1")
	if _, err := os.Stat(filepath.Join(r.home, "tasks", "t1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder after remove: %v", err)
	}
}

func TestIdentityOfATaskIsForEver(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = func(c *fakeContainer) { c.run(); <-c.stops; c.end(jobapi.Status{State: jobapi.Terminated}) }
	r := newRig(t, rt)
	gone := func(id string) {
		t.Helper()
		var e *hostapi.Error
		if err := r.Call(t.Context(), "PUT", "/v1/tasks/"+id, spec(), nil); !errors.As(err, &e) || e.Code != hostapi.CodeGone {
			t.Errorf("put of gone %s = %v", id, err)
		}
	}
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskRunning)
	other := spec()
	other.Name = "other"
	if got := r.Put("t1", other); got.State != hostapi.TaskRunning {
		t.Errorf("put of known task = %+v", got)
	}
	r.Remove("t1")
	gone("t1")
	r.Stop("never-seen", hostapi.StopTask{Reason: "x"})
	gone("never-seen")
	r.Remove("never-seen-2")
	gone("never-seen-2")
	r.restart()
	gone("t1")
	gone("never-seen")
	if rt.launches["t1"] != 1 {
		t.Errorf("launched %d times", rt.launches["t1"])
	}
}

func TestBadRequests(t *testing.T) {
	r := newRig(t, newFakeRuntime(t))
	for name, call := range map[string]struct {
		id     string
		change func(*hostapi.TaskSpec)
	}{
		"id":      {"..", func(*hostapi.TaskSpec) {}},
		"name":    {"a", func(s *hostapi.TaskSpec) { s.Name = "../x" }},
		"image":   {"a", func(s *hostapi.TaskSpec) { s.Image = "" }},
		"network": {"a", func(s *hostapi.TaskSpec) { s.NetworkMode = "container:other" }},
		"gpus":    {"a", func(s *hostapi.TaskSpec) { s.GPUs = -1 }},
	} {
		s := spec()
		call.change(&s)
		var e *hostapi.Error
		if _, err := r.m.Put(call.id, s); !errors.As(err, &e) || e.Code != hostapi.CodeBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStopWhilePullingCancelsThePull(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.pull = func(ctx context.Context, report func(hostapi.PullProgress)) error {
		report(hostapi.PullProgress{Downloaded: 5, Total: 10})
		<-ctx.Done()
		return &workload.StartError{Reason: reasonContainer, Message: "context canceled"}
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskPulling)
	r.Stop("t1", hostapi.StopTask{Reason: "terminated_by_user", Message: "m"})
	r.Stop("t1", hostapi.StopTask{Reason: "aborted_by_user"})
	got := r.Await("t1", hostapi.TaskTerminated)
	if got.Reason != "terminated_by_user" || got.Message != "m" || rt.launches["t1"] != 0 {
		t.Errorf("end = %+v, launched %d times", got, rt.launches["t1"])
	}
}

func TestStopGoesToTheAgentFirst(t *testing.T) {
	rt := newFakeRuntime(t)
	requests := make(chan jobapi.StopRequest, 8)
	rt.script = func(c *fakeContainer) {
		c.run()
		for {
			s := <-c.stops
			requests <- s
			if s.Kill {
				c.say("bye\n")
				c.end(jobapi.Status{State: jobapi.Terminated, Reason: s.Reason, ExitStatus: exit(137)})
				return
			}
		}
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskRunning)
	r.Stop("t1", hostapi.StopTask{Grace: 1000, Reason: "terminated_by_user"})
	if got := <-requests; got.Kill || got.Grace != 1000 || got.Reason != "terminated_by_user" {
		t.Errorf("first request = %+v", got)
	}
	r.Stop("t1", hostapi.StopTask{Grace: 0, Reason: "aborted_by_user"})
	if got := <-requests; !got.Kill {
		t.Errorf("second request = %+v", got)
	}
	got := r.Await("t1", hostapi.TaskTerminated)
	if got.Reason != "terminated_by_user" || *got.ExitStatus != 137 || r.Log("t1") != "bye\n" {
		t.Errorf("end = %+v, log %q", got, r.Log("t1"))
	}
}

func TestDeafAgentIsKilled(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.mute = true
	rt.script = func(c *fakeContainer) { <-c.dead }
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskCreating)
	r.Stop("t1", hostapi.StopTask{Grace: 0, Reason: "aborted_by_user"})
	if got := r.Await("t1", hostapi.TaskTerminated); got.Reason != "aborted_by_user" || *got.ExitStatus != 137 {
		t.Errorf("end = %+v", got)
	}
}

func TestRestartAtEachStage(t *testing.T) {
	t.Run("pulling is resumed", func(t *testing.T) {
		rt := newFakeRuntime(t)
		hang := make(chan struct{})
		rt.pull = func(ctx context.Context, _ func(hostapi.PullProgress)) error {
			select {
			case <-hang:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		r := newRig(t, rt)
		r.Put("t1", spec())
		r.Await("t1", hostapi.TaskPulling)
		r.restart()
		close(hang)
		if got := r.Await("t1", hostapi.TaskTerminated); got.Reason != reasonDone || rt.launches["t1"] != 1 {
			t.Errorf("end = %+v, launched %d times", got, rt.launches["t1"])
		}
	})
	t.Run("running goes on", func(t *testing.T) {
		rt := newFakeRuntime(t)
		resume := make(chan struct{})
		rt.script = func(c *fakeContainer) {
			c.run()
			c.say("one\n")
			<-resume
			c.say("two\n")
			<-resume
			c.end(jobapi.Status{State: jobapi.Done})
		}
		r := newRig(t, rt)
		r.Put("t1", spec())
		r.Await("t1", hostapi.TaskRunning)
		r.restart()
		resume <- struct{}{}
		r.restart()
		resume <- struct{}{}
		if got := r.Await("t1", hostapi.TaskTerminated); got.Reason != reasonDone || rt.launches["t1"] != 1 {
			t.Errorf("end = %+v, launched %d times", got, rt.launches["t1"])
		}
		if got := r.Log("t1"); got != "one\ntwo\n" {
			t.Errorf("log = %q", got)
		}
	})
	t.Run("ended meanwhile", func(t *testing.T) {
		rt := newFakeRuntime(t)
		resume := make(chan struct{})
		rt.script = func(c *fakeContainer) {
			c.run()
			<-resume
			c.say("while you were out\n")
			c.end(jobapi.Status{State: jobapi.Failed, Reason: reasonExited, ExitStatus: exit(7)})
		}
		r := newRig(t, rt)
		r.Put("t1", spec())
		r.Await("t1", hostapi.TaskRunning)
		r.stop()
		close(resume)
		<-rt.container("t1").stopped
		r.start()
		if got := r.Await("t1", hostapi.TaskTerminated); got.ExitStatus == nil || *got.ExitStatus != 7 {
			t.Errorf("end = %+v", got)
		}
		if got := r.Log("t1"); got != "while you were out\n" {
			t.Errorf("log = %q", got)
		}
	})
	t.Run("host rebooted meanwhile", func(t *testing.T) {
		rt := newFakeRuntime(t)
		rt.script = func(c *fakeContainer) { c.run(); <-c.dead }
		r := newRig(t, rt)
		r.Put("t1", spec())
		r.Await("t1", hostapi.TaskRunning)
		r.stop()
		r.boot = "boot-2"
		rt.container("t1").die(workload.Exit{Code: 137})
		r.start()
		got := r.Await("t1", hostapi.TaskTerminated)
		if got.Reason != reasonExited || !strings.Contains(got.Message, "rebooted") {
			t.Errorf("end = %+v", got)
		}
	})
	t.Run("stop is remembered", func(t *testing.T) {
		rt := newFakeRuntime(t)
		asked := make(chan struct{})
		rt.script = func(c *fakeContainer) {
			c.run()
			<-c.stops
			close(asked)
			again := <-c.stops
			c.end(jobapi.Status{State: jobapi.Terminated, Reason: again.Reason})
		}
		r := newRig(t, rt)
		r.Put("t1", spec())
		r.Await("t1", hostapi.TaskRunning)
		r.Stop("t1", hostapi.StopTask{Grace: 1000, Reason: "terminated_by_user"})
		<-asked
		r.restart() // the next shim asks the agent again
		if got := r.Await("t1", hostapi.TaskTerminated); got.Reason != "terminated_by_user" {
			t.Errorf("end = %+v", got)
		}
	})
}

// A crash may come between any two writes: whatever the record says, the task
// is launched at most once and ends.
func TestCrashBetweenSteps(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = func(c *fakeContainer) { c.run(); c.say("x"); c.end(jobapi.Status{State: jobapi.Done}) }
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskTerminated)
	r.stop()
	whole, err := parseRecordFile(r.home, "t1")
	if err != nil {
		t.Fatal(err)
	}
	for i, state := range []hostapi.TaskState{hostapi.TaskCreating, hostapi.TaskRunning} {
		back := whole
		back.Task = hostapi.Task{ID: "t1", State: state}
		back.Published = false
		if err := saveRecord(filepath.Join(r.home, "tasks", "t1"), back); err != nil {
			t.Fatal(err)
		}
		r.start()
		if got := r.AwaitEnds("t1", i+2); got.Reason != reasonDone {
			t.Errorf("from %s: end = %+v", state, got)
		}
		r.stop()
	}
	if rt.launches["t1"] != 1 {
		t.Errorf("launched %d times", rt.launches["t1"])
	}
	r.start()
}

func parseRecordFile(home, id string) (record, error) {
	data, err := os.ReadFile(filepath.Join(home, "tasks", id, recordName))
	if err != nil {
		return record{}, err
	}
	return parseRecord(data, id)
}

// A shim that dies between its journal and the record of a task must not
// believe to have told what it did not tell.
func TestNoEventIsLostBetweenJournalAndRecord(t *testing.T) {
	home := t.TempDir()
	open := func() (*Manager, *journal.Journal) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(home, "journal"), 0o700); err != nil {
			t.Fatal(err)
		}
		j, err := journal.Open(filepath.Join(home, "journal"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(t.Context(), Config{Home: home, HostID: "h", Log: zerolog.Nop(), Detect: func(context.Context) (gpu.Found, error) {
			return gpu.Found{}, nil
		}}, newFakeRuntime(t), j)
		if err != nil {
			t.Fatal(err)
		}
		return m, j
	}
	m, j := open()
	if _, err := m.Put("t1", spec()); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.task("t1").update(func(r *record) { r.Task.State = hostapi.TaskRunning }); err == nil {
		t.Fatal("updated without a journal")
	}
	m, j = open()
	defer func() { _ = j.Close() }()
	if got := m.task("t1").record().Task.State; got != hostapi.TaskPreparing {
		t.Errorf("state = %s, of which nobody was told", got)
	}
}

func TestDamagedRecordIsAFailedTask(t *testing.T) {
	rt := newFakeRuntime(t)
	r := newRig(t, rt)
	r.stop()
	dir := filepath.Join(r.home, "tasks", "t1")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, recordName), []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	if got := r.Await("t1", hostapi.TaskTerminated); got.Reason != reasonExecutor {
		t.Errorf("task = %+v", got)
	}
	r.Remove("t1")
}

func TestGPUs(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = func(c *fakeContainer) { c.run(); <-c.stops; c.end(jobapi.Status{State: jobapi.Terminated}) }
	r := newRig(t, rt)
	s := spec()
	s.GPUs = 2
	r.Put("t1", s)
	r.Await("t1", hostapi.TaskRunning)
	r.restart()
	s.GPUs = 1
	r.Put("t2", s)
	got := r.Await("t2", hostapi.TaskTerminated)
	if got.Reason != reasonExecutor || got.Message != "no capacity: 1 GPUs requested, 0 available" {
		t.Errorf("t2 = %+v", got)
	}
	r.Stop("t1", hostapi.StopTask{Grace: 10})
	r.Await("t1", hostapi.TaskTerminated)
	r.Put("t3", s)
	if got := r.Await("t3", hostapi.TaskRunning); got.State != hostapi.TaskRunning {
		t.Errorf("t3 = %+v", got)
	}
	r.Remove("t3")
}

func TestImageSaysWhatToRun(t *testing.T) {
	rt := newFakeRuntime(t)
	jobs := make(chan jobapi.Spec, 4)
	rt.script = func(c *fakeContainer) { jobs <- c.job; c.run(); c.end(jobapi.Status{State: jobapi.Done}) }
	rt.image = workload.Image{Entrypoint: []string{"/e"}, Cmd: []string{"a", "b"}, User: "www"}
	r := newRig(t, rt)
	s := spec()
	s.Job.Commands = nil
	r.Put("t1", s)
	r.Await("t1", hostapi.TaskTerminated)
	if j := <-jobs; !cmp.Equal(j.Commands, []string{"/e", "a", "b"}) || j.ImageUser != "www" {
		t.Errorf("job = %+v", j)
	}
	rt.image = workload.Image{}
	r.Put("t2", s)
	got := r.Await("t2", hostapi.TaskTerminated)
	if got.Reason != reasonContainer || !strings.HasPrefix(got.Message, "Could not determine what command to run.") {
		t.Errorf("end = %+v", got)
	}
}

func TestLongLogPassesInOrder(t *testing.T) {
	const lines = 100_000 // the full size runs with a real agent, see e2e
	rt := newFakeRuntime(t)
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "%08d %s\n", i, strings.Repeat("x", 190))
	}
	rt.script = func(c *fakeContainer) {
		c.run()
		for text := want.String(); text != ""; {
			n := min(len(text), 1<<20)
			c.say(text[:n])
			text = text[n:]
		}
		c.end(jobapi.Status{State: jobapi.Done})
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskTerminated)
	if r.Log("t1") != want.String() {
		t.Error("the log differs")
	}
}

func TestLogShorterThanPromised(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = func(c *fakeContainer) {
		c.run()
		c.say("0123456789")
		<-c.stops
		c.end(jobapi.Status{State: jobapi.Done})
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.AwaitLog("t1", "0123456789")
	// A hostile job shows a long file when its size counts, and no file later.
	c := rt.container("t1")
	c.change(func() { c.plain = 1 << 40 })
	r.Stop("t1", hostapi.StopTask{Grace: 30})
	got := r.Await("t1", hostapi.TaskTerminated)
	if got.PlainSize == nil || *got.PlainSize != 10 {
		t.Errorf("end = %+v", got)
	}
}

func TestNewStreamReplacesTheOld(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		r := &rig{t: t, home: t.TempDir(), boot: "b", rt: newFakeRuntime(t), alone: true}
		r.start()
		ended := make([]chan error, 3)
		for i := range ended {
			c := shimtest.New(t, func(ctx context.Context) (net.Conn, error) { return host.Dial(ctx, r.home) }, http2)
			ended[i] = make(chan error, 1)
			go func() { ended[i] <- c.Stream(context.Background()) }()
			c.AwaitHello()
			if i > 0 {
				if err := <-ended[i-1]; err == nil {
					t.Error("a replaced stream ended well")
				}
			}
		}
		r.stop()
		<-ended[2]
	}
}

func TestShutdownCallUninstalls(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = func(c *fakeContainer) { c.run(); <-c.dead }
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskRunning)
	if err := r.Call(t.Context(), "POST", "/v1/shutdown", hostapi.Shutdown{Uninstall: true}, nil); err != nil {
		t.Fatal(err)
	}
	if len(rt.containers) != 0 || len(r.m.List()) != 0 {
		t.Errorf("left: %v, %v", rt.containers, r.m.List())
	}
}
