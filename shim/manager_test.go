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

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
	"dstack/shim/host"
	"dstack/shim/shimtest"
	"dstack/shim/workload"
)

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

// Root in a container can make the log as long as it likes, without a disk.
func TestALogIsNoLongerThanItsQuota(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = func(c *fakeContainer) {
		c.run()
		c.say("hello\n")
		if err := os.Truncate(filepath.Join(c.dir, jobapi.PlainLog), 1<<40); err != nil {
			t.Error(err)
		}
		c.change(func() { c.plain = 1 << 40 })
		c.end(jobapi.Status{State: jobapi.Done})
	}
	r := newRig(t, rt)
	limited := spec()
	limited.Job.LogQuotaHour = 1000
	r.Put("t1", limited)
	if got := r.Await("t1", hostapi.TaskTerminated); *got.PlainSize != 2000 {
		t.Errorf("size = %d", *got.PlainSize)
	}
	if got := r.Log("t1"); len(got) != 2000 || !strings.HasPrefix(got, "hello\n") {
		t.Errorf("log has %d bytes", len(got))
	}
}

// Without a quota, and with one that is too large to mean anything, there is a
// limit, too.
func TestEveryLogHasALimit(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for quota, want := range map[int64]int64{0: 64 << 30, 1000: 5000, 1 << 60: 64 << 30} {
		rec := record{Launched: now.Add(-3*time.Hour - time.Minute)}
		rec.Spec.Job.LogQuotaHour = quota
		if got := rec.maxLog(now); got != want {
			t.Errorf("quota %d: limit is %d, want %d", quota, got, want)
		}
	}
}

// An agent that changes its mind all the time must not fill the disks with it.
func TestAnAgentTellsItsStartOnce(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = func(c *fakeContainer) { c.run(); <-c.stops; c.end(jobapi.Status{State: jobapi.Terminated}) }
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskRunning)
	before := r.m.journal.NextSeq()
	for i := range 100 {
		r.m.task("t1").see(jobapi.Event{Status: &jobapi.Status{State: jobapi.Running, Username: fmt.Sprint("user", i), SSHPort: i + 1}})
	}
	if told := r.m.journal.NextSeq() - before; told != 0 {
		t.Errorf("%d events of a job that had started already", told)
	}
	r.Remove("t1")
}

func TestNewStreamReplacesTheOld(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		rt := newFakeRuntime(t)
		r := &rig{t: t, home: t.TempDir(), boot: "b", rt: func() Runtime { return rt }, alone: true}
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
