package shim

import (
	"testing"
	"time"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// TestUsageIsKeptForAWhile drops what comes too often, and the oldest.
func TestUsageIsKeptForAWhile(t *testing.T) {
	task := (&Manager{cfg: Config{Log: zerolog.Nop()}}).newTask("t1", record{})
	start := time.Now()
	for n := range 3 * (hostapi.MaxUsage + 10) {
		task.measure(jobapi.Usage{CPUMicro: int64(n)}, start.Add(time.Duration(n)*400*time.Millisecond))
	}
	end := start.Add(time.Hour)
	got := task.takeUsage(end)
	if len(got) != hostapi.MaxUsage {
		t.Fatalf("%d measurements are kept", len(got))
	}
	for i, u := range got {
		// Of three each 400 ms apart one counts.
		n := int64(3 * (i + 10))
		if u.TaskID != "t1" || u.Usage.CPUMicro != n || u.AgeMillis != time.Hour.Milliseconds()-n*400 {
			t.Errorf("measurement %d: %+v", i, u)
		}
	}
	if again := task.takeUsage(end); again != nil {
		t.Errorf("told again: %v", again)
	}
}

// TestUsageGoesToTheController sees it arrive on a stream that is open, and
// on one that opens later; nothing of it is in the journal.
func TestUsageGoesToTheController(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = func(c *fakeContainer) { c.run(); <-c.stops; c.end(jobapi.Status{State: jobapi.Terminated}) }
	r := newRig(t, rt)
	r.Put("t1", spec())
	r.Await("t1", hostapi.TaskRunning)
	before := r.m.journal.NextSeq()
	r.m.task("t1").see(jobapi.Event{Usage: &jobapi.Usage{CPUMicro: 1}})
	if got := r.AwaitUsage(1); got[0].TaskID != "t1" || got[0].Usage.CPUMicro != 1 || got[0].AgeMillis < 0 {
		t.Errorf("told %+v", got)
	}
	// What comes while nobody listens is told when a stream opens.
	r.m.task("t1").measure(jobapi.Usage{CPUMicro: 2}, time.Now().Add(2*time.Second))
	r.m.streams.enter(func(error) {})()
	if got := r.AwaitUsage(2); got[1].Usage.CPUMicro != 2 {
		t.Errorf("told later %+v", got)
	}
	if after := r.m.journal.NextSeq(); after != before {
		t.Errorf("%d events in the journal", after-before)
	}
	r.Remove("t1")
}
