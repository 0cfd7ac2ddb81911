package shim

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

func interruption(in time.Duration) hostapi.Notice {
	return hostapi.Notice{Kind: hostapi.NoticeInterruption, Ends: time.Now().Add(in)}
}

// wantInterrupted looks at the end of a task whose machine goes.
func wantInterrupted(t *testing.T, got hostapi.Task, status *int, words string) {
	t.Helper()
	if got.Reason != reasonInterrupted || !strings.Contains(got.Message, words) {
		t.Errorf("ended with %s, %q", got.Reason, got.Message)
	}
	if (got.ExitStatus == nil) != (status == nil) || status != nil && *got.ExitStatus != *status {
		t.Errorf("exit status %v", got.ExitStatus)
	}
}

// A job that saves its work at the notice was not done all the same.
func TestJobEndsByItselfAfterTheNotice(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = func(c *fakeContainer) {
		c.run()
		<-c.warns
		c.say("saved\n")
		c.end(jobapi.Status{State: jobapi.Done, ExitStatus: exit(0)})
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskRunning)
	r.m.Noticed(interruption(2 * time.Minute))
	wantInterrupted(t, r.Await("t1", hostapi.TaskTerminated), exit(0), "takes the spot machine back at")
	if got := r.Log("t1"); got != "saved\n" {
		t.Errorf("log = %q", got)
	}
	if n := r.AwaitNotice(); n.Kind != hostapi.NoticeInterruption {
		t.Errorf("told %+v", n)
	}
}

// Once a machine is to go, no other notice changes that.
func TestRebalanceAfterTheInterruption(t *testing.T) {
	rt := newFakeRuntime(t)
	going := make(chan struct{})
	rt.script = func(c *fakeContainer) {
		c.run()
		<-c.warns
		<-going
		c.end(jobapi.Status{State: jobapi.Done, ExitStatus: exit(0)})
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskRunning)
	r.m.Noticed(hostapi.Notice{Kind: hostapi.NoticeRebalance})
	r.m.Noticed(interruption(2 * time.Minute))
	r.m.Noticed(hostapi.Notice{Kind: hostapi.NoticeRebalance})
	if n := r.m.notice(); n == nil || n.Kind != hostapi.NoticeInterruption {
		t.Errorf("the last notice is %+v", n)
	}
	r.m.Noticed(interruption(3 * time.Minute))
	close(going)
	wantInterrupted(t, r.Await("t1", hostapi.TaskTerminated), exit(0), "takes the spot machine back at")
	r.Put("t2", spec())
	wantInterrupted(t, r.Await("t2", hostapi.TaskTerminated), nil, "takes the spot machine back at")
}

// One that goes on is stopped in time, gently.
func TestJobIsStoppedBeforeItsMachineGoes(t *testing.T) {
	rt := newFakeRuntime(t)
	stops := make(chan jobapi.StopRequest, 1)
	rt.script = func(c *fakeContainer) {
		c.run()
		<-c.warns
		stops <- <-c.stops
		c.end(jobapi.Status{State: jobapi.Terminated, ExitStatus: exit(130)})
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskRunning)
	r.m.Noticed(interruption(beforeEnd + 300*time.Millisecond))
	wantInterrupted(t, r.Await("t1", hostapi.TaskTerminated), exit(130), "takes the spot machine back at")
	if stop := <-stops; stop.Kill || stop.Grace != 10 || stop.Reason != reasonInterrupted {
		t.Errorf("stopped with %+v", stop)
	}
}

// The shim may die between the notice and the end.
func TestNoticeOutlivesTheShim(t *testing.T) {
	rt := newFakeRuntime(t)
	end, warned := make(chan struct{}), make(chan struct{}, 8)
	rt.script = func(c *fakeContainer) {
		c.run()
		<-c.warns
		warned <- struct{}{}
		<-end
		c.end(jobapi.Status{State: jobapi.Failed, Reason: reasonExited, ExitStatus: exit(143)})
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskRunning)
	r.m.Noticed(interruption(time.Hour))
	<-warned
	r.stop()
	close(end)
	r.start()
	wantInterrupted(t, r.Await("t1", hostapi.TaskTerminated), exit(143), "and the job ended with exit status 143")
}

// What does not run yet does not begin, what comes later neither.
func TestNothingBeginsOnAMachineThatGoes(t *testing.T) {
	rt := newFakeRuntime(t)
	pulling := make(chan struct{})
	rt.pull = func(ctx context.Context, _ func(hostapi.PullProgress)) error {
		close(pulling)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	<-pulling
	r.m.Noticed(hostapi.Notice{Kind: hostapi.NoticeInterruption})
	wantInterrupted(t, r.Await("t1", hostapi.TaskTerminated), nil, "takes the spot machine back")
	r.Put("t2", spec())
	wantInterrupted(t, r.Await("t2", hostapi.TaskTerminated), nil, "takes the spot machine back")
}

// A recommendation ends nothing.
func TestRebalanceIsOnlyTold(t *testing.T) {
	rt := newFakeRuntime(t)
	end := make(chan struct{})
	rt.script = func(c *fakeContainer) {
		c.run()
		select {
		case <-c.warns:
			t.Error("warned")
		case <-end:
		}
		c.end(jobapi.Status{State: jobapi.Done, ExitStatus: exit(0)})
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskRunning)
	r.m.Noticed(hostapi.Notice{Kind: hostapi.NoticeRebalance})
	r.AwaitNotice()
	r.Put("t2", spec())
	r.Await("t2", hostapi.TaskRunning)
	close(end)
	if got := r.Await("t1", hostapi.TaskTerminated); got.Reason != reasonDone {
		t.Errorf("ended with %s, %q", got.Reason, got.Message)
	}
}

func TestBlameNotice(t *testing.T) {
	for _, c := range []struct{ reason, want string }{
		{reasonDone, reasonInterrupted},
		{reasonExited, reasonInterrupted},
		{reasonExecutor, reasonInterrupted}, // its container went with the machine
		{reasonMaxTime, reasonMaxTime},
		{reasonLogQuota, reasonLogQuota},
	} {
		if got := blameNotice("It goes", verdict{reason: c.reason}); got.reason != c.want {
			t.Errorf("%s: %+v", c.reason, got)
		}
	}
	// A stop that somebody asked for counts.
	stop := &hostapi.StopTask{Reason: "terminated_by_user"}
	outcome := &jobapi.Status{State: jobapi.Terminated, ExitStatus: exit(130)}
	if got := conclude(ending{outcome: outcome, stop: stop, warned: "It goes"}); got.reason != "terminated_by_user" {
		t.Errorf("stopped by the user: %+v", got)
	}
	// One that was asked for because of the notice may come too late for a job
	// that ends when it is told.
	stop.Reason, outcome.State, outcome.Reason = reasonInterrupted, jobapi.Failed, reasonExited
	if got := conclude(ending{outcome: outcome, stop: stop, warned: "It goes"}); got.reason != reasonInterrupted {
		t.Errorf("ended between notice and stop: %+v", got)
	}
}

// hostKeys is a machine whose key is ours to replace.
type hostKeys struct{ used string }

func (k *hostKeys) Make(context.Context) (string, error) { return "ssh-ed25519 AAAA", nil }

func (k *hostKeys) Use(_ context.Context, public string) error {
	if public != "ssh-ed25519 AAAA" {
		return errors.New("another key")
	}
	k.used = public
	return nil
}

func TestHostKeyCalls(t *testing.T) {
	r := newRig(t, newFakeRuntime(t))
	var key hostapi.HostKey
	if err := r.Call(t.Context(), "POST", "/v1/host-key", nil, &key); err == nil {
		t.Error("the key of a host of an SSH fleet can be replaced")
	}
	keys := &hostKeys{}
	r.hostKey = keys
	r.restart()
	if err := r.Call(t.Context(), "POST", "/v1/host-key", nil, &key); err != nil || key.Public == "" {
		t.Fatalf("make: %+v, %v", key, err)
	}
	if err := r.Call(t.Context(), "POST", "/v1/host-key/use", hostapi.HostKey{Public: "x"}, nil); err == nil {
		t.Error("another key was used")
	}
	if err := r.Call(t.Context(), "POST", "/v1/host-key/use", key, nil); err != nil || keys.used != key.Public {
		t.Errorf("use: %q, %v", keys.used, err)
	}
}
