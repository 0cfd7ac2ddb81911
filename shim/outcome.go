package shim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
	"dstack/shim/workload"
)

// Job termination reasons of the REST API that the shim gives by itself.
const (
	reasonDone      = "done_by_runner"
	reasonExited    = "container_exited_with_error"
	reasonExecutor  = "executor_error"
	reasonContainer = "creating_container_error"
	reasonVolume    = "volume_error"
	reasonByServer  = "terminated_by_server"
	reasonMaxTime   = "max_duration_exceeded"
	reasonLogQuota  = "log_quota_exceeded"
	// reasonInterrupted is that of a job whose machine the cloud took back.
	reasonInterrupted = "interrupted_by_no_capacity"
	bySignal          = 128 // exit statuses above this are of signals
	statusKilled      = bySignal + 9
	wasRebooted       = "The host was rebooted while the job ran"
	engineRestarted   = `The Docker Engine was restarted while the job ran; set "live-restore": true in /etc/docker/daemon.json to keep jobs alive`
)

// ending is all that is known of a task that has ended.
type ending struct {
	exit workload.Exit
	// outcome is what the agent left; it is not to be trusted further than
	// the job itself.
	outcome *jobapi.Status
	// stop is the first request to stop the task.
	stop *hostapi.StopTask
	// warned says that the machine goes, if the job still ran when that came.
	warned string
	// rebooted says that the host was booted again since the launch.
	rebooted bool
	memory   int64 // limit in bytes, 0 if none
	tail     string
}

// verdict is how a task ended, for the controller.
type verdict struct {
	reason, message string
	status          *int
}

// conclude is the verdict on an ended task. What the agent says of the job
// counts first; without its word, what is known of the container.
func conclude(e ending) verdict {
	v := concludeJob(e)
	if e.warned != "" && (e.stop == nil || e.stop.Reason == reasonInterrupted) {
		return blameNotice(e.warned, v)
	}
	return v
}

func concludeJob(e ending) verdict {
	if e.outcome != nil {
		return believe(e)
	}
	switch {
	case e.stop != nil:
		v := verdict{reason: e.stop.Reason, message: e.stop.Message}
		if e.exit.Code >= 0 && !e.exit.Missing && !e.exit.NeverStarted {
			v.status = &e.exit.Code
		}
		return v
	case e.rebooted:
		return killed(wasRebooted)
	case e.exit.OOM:
		return killed(outOfMemory(e.memory))
	case e.exit.EngineRestarted:
		return killed(engineRestarted)
	case e.exit.Missing:
		return verdict{reason: reasonExecutor, message: "The container or process of the job is gone: somebody else removed it"}
	case e.exit.NeverStarted:
		return verdict{reason: reasonExecutor, message: "The start of the container was interrupted"}
	}
	v := verdict{reason: reasonExecutor, message: "The agent that ran the job was killed, or failed"}
	if e.exit.Code >= 0 {
		v.message += fmt.Sprintf(" (exit status %d)", e.exit.Code)
	}
	if e.tail != "" {
		v.message += ": " + e.tail
	}
	return v
}

func killed(message string) verdict {
	status := statusKilled
	return verdict{reason: reasonExited, message: message, status: &status}
}

func outOfMemory(limit int64) string {
	if limit > 0 {
		return fmt.Sprintf("The job ran out of memory and was killed (OOM): its limit is %s", units.BytesSize(float64(limit)))
	}
	return "The job ran out of memory and was killed (OOM): the host has no more"
}

// believe is the verdict by the agent's word, as far as it can be one.
func believe(e ending) verdict {
	o := e.outcome
	v := verdict{reason: o.Reason, message: o.Message, status: o.ExitStatus}
	switch o.State {
	case jobapi.Done:
		zero := 0
		return verdict{reason: reasonDone, message: o.Message, status: &zero}
	case jobapi.Terminated:
		switch {
		case o.Reason == reasonMaxTime:
		case e.stop != nil:
			v.reason, v.message = e.stop.Reason, e.stop.Message
		default:
			v.reason = reasonByServer
		}
	default:
		if !slices.Contains([]string{reasonExited, reasonExecutor, reasonLogQuota, reasonContainer}, o.Reason) {
			v.reason = reasonExited
		}
		switch {
		case o.ExitStatus == nil || *o.ExitStatus <= bySignal:
		case e.rebooted:
			v.message = wasRebooted
		case e.exit.EngineRestarted:
			v.message = engineRestarted
		case *o.ExitStatus != statusKilled:
		case e.exit.OOM:
			v.message = outOfMemory(e.memory)
		case e.memory > 0: // the kernel's word may come late; the agent's has no number
			v.message = strings.TrimSpace(o.Message + " Its memory limit is " + units.BytesSize(float64(e.memory)))
		}
	}
	return v
}
