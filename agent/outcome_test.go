package agent

import (
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/agent/exec"
	"dstack/protocol/jobapi"
)

func TestResult(t *testing.T) {
	t.Parallel()
	const reason = "container_exited_with_error"
	exited := func(code int) syscall.WaitStatus { return syscall.WaitStatus(code << 8) }
	tests := []struct {
		name   string
		end    *ending
		status syscall.WaitStatus
		oom    bool
		want   jobapi.Status
		exit   int
	}{
		{"done", nil, exited(0), false, jobapi.Status{State: jobapi.Done, Reason: "done_by_runner"}, 0},
		{"failed", nil, exited(3), false, jobapi.Status{State: jobapi.Failed, Reason: reason}, 3},
		{"status above 128 that is no signal", nil, exited(255), false, jobapi.Status{State: jobapi.Failed, Reason: reason}, 255},
		{"signal", nil, 15, false, jobapi.Status{State: jobapi.Failed, Reason: reason,
			Message: "The job was ended by signal 15 (SIGTERM)"}, 143},
		{"core dumped", nil, 11 | 0x80, false, jobapi.Status{State: jobapi.Failed, Reason: reason,
			Message: "The job was ended by signal 11 (SIGSEGV)"}, 139},
		{"signal of a child", nil, exited(139), false, jobapi.Status{State: jobapi.Failed, Reason: reason,
			Message: "The job exited with status 139, as after signal 11 (SIGSEGV)"}, 139},
		{"out of memory", nil, exited(137), true, jobapi.Status{State: jobapi.Failed, Reason: reason,
			Message: "The job ran out of memory: the kernel killed it (SIGKILL)"}, 137},
		{"out of memory, but the job lived", nil, exited(1), true, jobapi.Status{State: jobapi.Failed, Reason: reason}, 1},
		{"stopped, whatever the status", &ending{jobapi.Terminated, "r", "m"}, exited(0), false,
			jobapi.Status{State: jobapi.Terminated, Reason: "r", Message: "m"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.want.ExitStatus = &tt.exit
			if diff := cmp.Diff(tt.want, result(tt.end, tt.status, tt.oom)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMergeOrders(t *testing.T) {
	t.Parallel()
	schedule := exec.DefaultSchedule()
	var o *order
	steps := []struct {
		request jobapi.StopRequest
		want    order
	}{
		{jobapi.StopRequest{}, order{ending{jobapi.Terminated, "terminated_by_server", ""}, schedule, false}},
		{jobapi.StopRequest{Grace: 60, Reason: "terminated_by_user", Message: "m"},
			order{ending{jobapi.Terminated, "terminated_by_user", "m"}, schedule, false}},
		{jobapi.StopRequest{Kill: true}, order{ending{jobapi.Terminated, "terminated_by_user", "m"}, schedule, true}},
		{jobapi.StopRequest{Reason: "aborted_by_user"}, order{ending{jobapi.Terminated, "aborted_by_user", ""}, schedule, true}},
	}
	for i, step := range steps {
		o = o.merge(step.request, schedule)
		if *o != step.want {
			t.Errorf("step %d: %+v, want %+v", i, *o, step.want)
		}
	}
	long := (*order)(nil).merge(jobapi.StopRequest{Grace: 60}, schedule)
	short := (*order)(nil).merge(jobapi.StopRequest{Grace: 3}, schedule)
	if long.schedule.Kill != time.Minute || short.schedule.Kill != 10*time.Second {
		t.Errorf("KILL after %v and %v", long.schedule.Kill, short.schedule.Kill)
	}
}

func TestSignalledIsFasterThanTheEngine(t *testing.T) {
	t.Parallel()
	o := signalled(exec.DefaultSchedule(), syscall.SIGTERM)
	want := exec.Schedule{Hangup: 5 * time.Second, Kill: 8 * time.Second}
	if diff := cmp.Diff(want, o.schedule); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := o.merge(jobapi.StopRequest{Reason: "r"}, exec.DefaultSchedule()).ending; got.state != jobapi.Terminated || got.reason != "r" {
		t.Errorf("a request after the signal gives %+v", got)
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	three, zero := 3, 0
	for want, s := range map[int]jobapi.Status{
		0: {State: jobapi.Done, ExitStatus: &zero}, 3: {State: jobapi.Failed, ExitStatus: &three},
		1: {State: jobapi.Terminated, ExitStatus: &zero},
	} {
		if got := exitCode(s); got != want {
			t.Errorf("exit code of %v is %d, want %d", s.State, got, want)
		}
	}
}
