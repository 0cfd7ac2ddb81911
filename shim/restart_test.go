package shim

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
	"dstack/shim/gpu"
	"dstack/shim/journal"
	"dstack/shim/workload"
)

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

// TestRestoredControllerHearsAgain: a controller whose database was restored
// from a backup hears how tasks are, and how those ended whose end it had
// acknowledged before.
func TestRestoredControllerHearsAgain(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = func(c *fakeContainer) {
		c.run()
		if filepath.Base(filepath.Dir(c.dir)) == "t1" {
			c.say("bye")
			c.end(jobapi.Status{State: jobapi.Done})
			return
		}
		<-c.stops
		c.end(jobapi.Status{State: jobapi.Terminated})
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.AwaitEnds("t1", 1)
	r.Put("t2", spec())
	r.Await("t2", hostapi.TaskRunning)
	r.restart() // a server that knows all hears nothing twice
	r.AwaitHello()
	if got := states(r.Told(), "t1"); got[len(got)-1] != hostapi.TaskTerminated || slices.Index(got, hostapi.TaskTerminated) != len(got)-1 {
		t.Errorf("told %v", got)
	}
	r.stop()
	r.Restore()
	r.start()
	if got := r.AwaitEnds("t1", 2); got.Reason != reasonDone || *got.PlainSize != 3 {
		t.Errorf("end = %+v", got)
	}
	r.AwaitTimes("t2", hostapi.TaskRunning, 2)
	r.Remove("t2")
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
