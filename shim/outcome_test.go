package shim

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
	"dstack/shim/workload"
)

func TestConclude(t *testing.T) {
	byUser := &hostapi.StopTask{Reason: "terminated_by_user", Message: "m"}
	said := func(s jobapi.State, reason, message string, status *int) *jobapi.Status {
		return &jobapi.Status{State: s, Reason: reason, Message: message, ExitStatus: status}
	}
	tests := []struct {
		name string
		in   ending
		want verdict
	}{
		{"done", ending{outcome: said(jobapi.Done, "", "", nil)}, verdict{reasonDone, "", exit(0)}},
		{"done before the stop came", ending{outcome: said(jobapi.Done, "", "", nil), stop: byUser}, verdict{reasonDone, "", exit(0)}},
		{"failed", ending{outcome: said(jobapi.Failed, reasonExited, "", exit(3))}, verdict{reasonExited, "", exit(3)}},
		{"stopped", ending{outcome: said(jobapi.Terminated, "x", "y", exit(130)), stop: byUser}, verdict{"terminated_by_user", "m", exit(130)}},
		{"max duration", ending{outcome: said(jobapi.Terminated, reasonMaxTime, "Max", exit(130))}, verdict{reasonMaxTime, "Max", exit(130)}},
		{"quota", ending{outcome: said(jobapi.Failed, reasonLogQuota, "q", exit(137))}, verdict{reasonLogQuota, "q", exit(137)}},
		{"a job cannot call itself interrupted", ending{outcome: said(jobapi.Failed, "interrupted_by_no_capacity", "", exit(1))}, verdict{reasonExited, "", exit(1)}},
		{"a job cannot call itself stopped by a user", ending{outcome: said(jobapi.Terminated, "terminated_by_user", "", exit(1))}, verdict{reasonByServer, "", exit(1)}},
		{"OOM with the agent's word", ending{outcome: said(jobapi.Failed, reasonExited, "", exit(137)), exit: workload.Exit{OOM: true}, memory: 1 << 30},
			verdict{reasonExited, "The job ran out of memory and was killed (OOM): its limit is 1GiB", exit(137)}},
		{"OOM that only the agent saw", ending{outcome: said(jobapi.Failed, reasonExited, "OOM.", exit(137)), memory: 1 << 30},
			verdict{reasonExited, "OOM. Its memory limit is 1GiB", exit(137)}},
		{"OOM that killed the agent", ending{exit: workload.Exit{Code: 137, OOM: true}},
			verdict{reasonExited, "The job ran out of memory and was killed (OOM): the host has no more", exit(137)}},
		{"engine stopped it gently", ending{outcome: said(jobapi.Failed, reasonExited, "from outside", exit(130)), exit: workload.Exit{EngineRestarted: true}},
			verdict{reasonExited, engineRestarted, exit(130)}},
		{"engine killed it", ending{exit: workload.Exit{Code: 137, EngineRestarted: true}}, verdict{reasonExited, engineRestarted, exit(137)}},
		{"reboot", ending{exit: workload.Exit{Code: 255}, rebooted: true}, verdict{reasonExited, wasRebooted, exit(137)}},
		{"killed after a stop", ending{exit: workload.Exit{Code: 137}, stop: byUser}, verdict{"terminated_by_user", "m", exit(137)}},
		{"gone", ending{exit: workload.Exit{Missing: true, Code: -1}}, verdict{reasonExecutor, "The container or process of the job is gone: somebody else removed it", nil}},
		{"agent killed", ending{exit: workload.Exit{Code: 137}, tail: "tail"},
			verdict{reasonExecutor, "The agent that ran the job was killed, or failed (exit status 137): tail", nil}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, conclude(tt.in), cmp.AllowUnexported(verdict{})); diff != "" {
				t.Errorf("conclude (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"task":{"id":"a","state":"running"},"stop":{"grace":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data, "a")
		if err == nil && r.Task.ID != "a" {
			t.Fatal("record of another task")
		}
	})
}
