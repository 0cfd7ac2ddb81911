// Package reason has a sentence for every reason for which a run, job or
// instance ends, waits or finds no place: what the cause is, and what to do
// next. Servers and clients use the same ones.
package reason

import (
	"dstack/protocol/api"
)

// Sentence explains a reason. Cause is a clause that can follow "the job
// ended: "; Next is a whole sentence. Either has no place in it: who uses them
// says where.
type Sentence struct {
	Cause string `json:"cause"`
	Next  string `json:"next"`
}

// Text is the sentence about something with its name, and what to do.
func (s Sentence) Text(what string) string {
	text := what + ": " + s.Cause + "."
	if s.Next != "" {
		text += " " + s.Next
	}
	return text
}

// Run explains why a run ended.
func Run(r api.RunReason) (Sentence, bool) {
	s, ok := runs()[r]
	return s, ok
}

// Job explains why a job ended.
func Job(r api.JobReason) (Sentence, bool) {
	s, ok := jobs()[r]
	return s, ok
}

// Instance explains why an instance ended.
func Instance(r api.InstanceReason) (Sentence, bool) {
	s, ok := instances()[r]
	return s, ok
}

func runs() map[api.RunReason]Sentence {
	return map[api.RunReason]Sentence{
		api.ReasonAllJobsDone:        {"all its jobs are done", "Read what they wrote with `dstack logs`."},
		api.ReasonJobFailed:          {"one of its jobs failed, and its retry policy does not cover that", "Look at the job below; `retry` in the configuration makes dstack try again."},
		api.ReasonRetryLimitExceeded: {"it was tried again for as long as its retry policy allows", "Look at the last failure below; a longer `retry.duration` gives it more time."},
		api.ReasonStoppedByUser:      {"a user stopped it", "Apply the configuration again to start it anew; `dstack event` shows who stopped it."},
		api.ReasonAbortedByUser:      {"a user aborted it, without grace", "Apply the configuration again to start it anew; `dstack event` shows who aborted it."},
		api.ReasonServerError:        {"the server could not go on with it", "Look into the server's log, then apply the configuration again."},
		api.ReasonRunGatewayError:    {"it could not be registered with its gateway", "Look at the gateway with `dstack gateway`, then apply the configuration again."},
	}
}

func jobs() map[api.JobReason]Sentence {
	return map[api.JobReason]Sentence{
		api.ReasonNoCapacity:          {"no instance had room for it", "Add hosts to a fleet, ask for less, or set `retry` to wait for room."},
		api.ReasonInterrupted:         {"its spot instance was taken away", "Set `retry` with the event `interruption`, or use `spot_policy: on-demand`."},
		api.ReasonInstanceUnreachable: {"its instance did not answer for two minutes", "Check the host and the network with `dstack fleet -v`; set `retry` with the event `error` to go on elsewhere."},
		api.ReasonAccessRevoked:       {"the fleet of its instance is no longer shared with this project", "Ask the owner of the fleet to export it again, or use another fleet."},
		api.ReasonWaitingInstance:     {"its instance did not come up in time", "Look at the instance with `dstack fleet -v`, then apply the configuration again."},
		api.ReasonWaitingRunner:       {"its host did not accept it in time", "Look at the host with `dstack fleet -v`: Docker or the disk may be at fault."},
		api.ReasonVolumeError:         {"one of its volumes could not be used", "Look at the volumes with `dstack volume list`, then apply the configuration again."},
		api.ReasonGatewayError:        {"it could not be registered with the gateway of its service", "Look at the gateway with `dstack gateway`, then apply the configuration again."},
		api.ReasonContainerError:      {"its command exited with an error", "Read its output with `dstack logs`, correct the command, and apply again."},
		api.ReasonPortsBindingFailed:  {"a port that it needs is in use on its host", "Free the port on the host, or let the job use another one."},
		api.ReasonCreatingContainer:   {"its container could not be created", "Check `image` and `registry_auth`, and that the host reaches the registry."},
		api.ReasonExecutorError:       {"its host could not prepare or keep it", "The message says what failed; look at the host with `dstack fleet -v`."},
		api.ReasonLogQuota:            {"it wrote more output than allowed in an hour", "Let it write less, or raise DSTACK_SERVER_LOG_QUOTA_PER_JOB_HOUR on the server."},
		api.ReasonTerminatedByUser:    {"a user stopped its run", "Apply the configuration again to start it anew."},
		api.ReasonTerminatedByServer:  {"the server ended it, because its run ended or starts anew", "Look at the run's own reason."},
		api.ReasonScaledDown:          {"its service needs fewer replicas, or replaced it by a newer one", "Nothing is wrong; set `replicas` to have more."},
		api.ReasonInactivity:          {"nobody was connected to it for as long as `inactivity_duration` allows", "Apply the configuration again, with a longer `inactivity_duration` if need be."},
		api.ReasonUtilization:         {"its accelerators were used less than `utilization_policy` demands", "Use them more, or relax `utilization_policy`."},
		api.ReasonMaxDuration:         {"it ran for as long as `max_duration` allows", "Set a longer `max_duration`, and let it continue from a checkpoint."},
		api.ReasonJobAbortedByUser:    {"a user aborted its run, without grace", "Apply the configuration again to start it anew."},
		api.ReasonDoneByRunner:        {"its command finished successfully", "Read its output with `dstack logs`."},
	}
}

func instances() map[api.InstanceReason]Sentence {
	return map[api.InstanceReason]Sentence{
		api.ReasonInstanceTerminatedByUser:    {"a user removed it", "Apply the fleet again to add it."},
		api.ReasonInstanceIdleTimeout:         {"it was idle for as long as `idle_duration` allows", "Nothing is wrong; set a longer `idle_duration` to keep it."},
		api.ReasonInstanceProvisioningTimeout: {"it did not become ready in time", "Check that the server reaches it over SSH, then apply the fleet again."},
		api.ReasonInstanceError:               {"it could not be prepared", "The message says what failed; correct it, then apply the fleet again."},
		api.ReasonInstanceNoOffers:            {"no backend offered a machine for it", "Change the fleet's `resources`, or add a backend that has them."},
		api.ReasonInstanceSpecMismatch:        {"it is none that its fleet would have as it is configured now", "Nothing is wrong; the fleet gets another one if it needs one."},
		api.ReasonInstanceJobFinished:         {"the job that it was made for ended before it was ready", "Nothing is wrong."},
		api.ReasonInstanceMaxInstances:        {"its fleet has more machines than `nodes.max`", "Nothing is wrong; raise `nodes.max` to keep more."},
		api.ReasonInstanceUnreachableTooLong:  {"it did not answer for too long", "Check the host and the network, then apply the fleet again."},
	}
}
