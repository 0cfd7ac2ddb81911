package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// TestWhatTheAgentSaidOfItself comes with the start and the end of a job, as
// far as it goes by then.
func TestWhatTheAgentSaidOfItself(t *testing.T) {
	rt := newFakeRuntime(t)
	note := func(c *fakeContainer, text string) {
		if err := os.WriteFile(filepath.Join(c.dir, jobapi.DiagnosticsLog), []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	long := "begin \xff" + strings.Repeat("x", hostapi.MaxDiagnostics)
	rt.script = func(c *fakeContainer) {
		note(c, "begin")
		c.run()
		<-c.stops
		note(c, long)
		c.end(jobapi.Status{State: jobapi.Terminated})
	}
	r := newRig(t, rt)
	r.Put("t1", spec())
	if got := r.Await("t1", hostapi.TaskRunning); got.Diagnostics != "begin" {
		t.Errorf("at the start: %q", got.Diagnostics)
	}
	r.Stop("t1", hostapi.StopTask{Grace: 10})
	if got := r.AwaitEnds("t1", 1).Diagnostics; len(got) != hostapi.MaxDiagnostics || !strings.HasPrefix(got, "begin ?x") {
		t.Errorf("at the end: %d bytes, %.20q", len(got), got)
	}
	r.Remove("t1")
}
