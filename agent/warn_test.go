package agent_test

import (
	"strings"
	"testing"

	"dstack/protocol/jobapi"
)

// The host goes: every process of the job's session gets TERM, and what becomes
// of that is the job's to decide.
func TestWarn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script string
		exit         int
		log          string
	}{
		{"handled", "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.02; done", 0, "saved"},
		{"the whole session", "sh -c 'trap \"echo child; exit 0\" TERM; echo ready; while :; do sleep 0.02; done' & trap 'wait; echo parent; exit 3' TERM; wait", 3, "child"},
		{"not handled", "echo ready; sleep 1000", 143, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, config(t), script(t, tt.script))
			r.output("ready")
			r.post("warn", nil)
			s := r.end()
			if s.ExitStatus == nil || *s.ExitStatus != tt.exit || s.State == jobapi.Terminated {
				t.Errorf("ended with %+v", s)
			}
			if got := r.file(jobapi.PlainLog); !strings.Contains(got, tt.log) {
				t.Errorf("log = %q", got)
			}
		})
	}
}

// A job that goes on is stopped as any other.
func TestWarnedJobIsStopped(t *testing.T) {
	t.Parallel()
	r := start(t, config(t), script(t, "trap 'echo told' TERM; trap 'echo int; exit 5' INT; echo ready; while :; do sleep 0.02; done"))
	r.output("ready")
	r.post("warn", nil)
	r.output("told")
	r.stop(jobapi.StopRequest{Reason: "interrupted_by_no_capacity"})
	if s := r.end(); s.State != jobapi.Terminated || s.Reason != "interrupted_by_no_capacity" || *s.ExitStatus != 5 {
		t.Errorf("ended with %+v", s)
	}
}
