package agent

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dstack/agent/exec"
	"dstack/agent/reap"
	"dstack/protocol/jobapi"
)

// Job termination reasons of the REST API that the agent gives.
const (
	reasonDone        = "done_by_runner"
	reasonExited      = "container_exited_with_error"
	reasonExecutor    = "executor_error"
	reasonMaxDuration = "max_duration_exceeded"
	reasonLogQuota    = "log_quota_exceeded"
	reasonTerminated  = "terminated_by_server"
	reasonPorts       = "ports_binding_failed"
)

// signalGrace is when KILL comes if the agent was told to end by a signal:
// before the 10 s after which a container engine kills the agent itself.
const signalGrace = 8 * time.Second

// ending is why a job is being ended that did not end by itself.
type ending struct {
	state           jobapi.State
	reason, message string
}

// order is how a job is to be stopped, from all the requests so far.
type order struct {
	ending   ending
	schedule exec.Schedule
	kill     bool
}

// merge adds a request to an order, which is nil before the first. What was
// granted stays granted, but KILL can always be asked for; the last reason
// that was given counts.
func (o *order) merge(r jobapi.StopRequest, schedule exec.Schedule) *order {
	merged := order{
		ending:   ending{jobapi.Terminated, reasonTerminated, ""},
		schedule: schedule.WithGrace(time.Duration(r.Grace) * time.Second),
	}
	if o != nil {
		merged = *o
	}
	if r.Reason != "" {
		merged.ending = ending{jobapi.Terminated, r.Reason, r.Message}
	}
	merged.kill = merged.kill || r.Kill
	return &merged
}

// signalled is the order that a signal to the agent gives. Nobody of ours
// sends one without a request before: the engine or the host is going down.
func signalled(schedule exec.Schedule, s fmt.Stringer) *order {
	schedule.Kill = min(schedule.Kill, signalGrace)
	return &order{
		ending: ending{jobapi.Failed, reasonExited,
			fmt.Sprintf("The job was stopped from outside dstack (%s): its container engine or host went down", s)},
		schedule: schedule,
	}
}

// failed is the final status of a job that never started.
func failed(reason, format string, args ...any) jobapi.Status {
	return jobapi.Status{State: jobapi.Failed, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// result is the final status of a job whose main process ended with status,
// because of end if that is not nil. outOfMemory says that the kernel killed
// a process of the job for its memory.
func result(end *ending, status syscall.WaitStatus, outOfMemory bool) jobapi.Status {
	code := reap.Code(status)
	s := jobapi.Status{ExitStatus: &code}
	switch {
	case end != nil:
		s.State, s.Reason, s.Message = end.state, end.reason, end.message
	case code == 0:
		s.State, s.Reason = jobapi.Done, reasonDone
	default:
		s.State, s.Reason = jobapi.Failed, reasonExited
		s.Message = explain(code, status.Signaled(), outOfMemory)
	}
	return s
}

// explain says in words what an exit code above 128 means.
func explain(code int, bySignal, outOfMemory bool) string {
	number := syscall.Signal(code - 128)
	name := ""
	if number > 0 {
		name = unix.SignalName(number)
	}
	switch {
	case number == syscall.SIGKILL && outOfMemory:
		return "The job ran out of memory: the kernel killed it (SIGKILL)"
	case bySignal:
		return fmt.Sprintf("The job was ended by signal %d (%s)", int(number), name)
	case name != "":
		return fmt.Sprintf("The job exited with status %d, as after signal %d (%s)", code, int(number), name)
	}
	return ""
}
