// Package status tells what the REST API shows of statuses and reasons
// (spec: rest-api.md 10): texts, errors, and what follows from a reason.
package status

import (
	"fmt"
	"slices"
	"strings"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

// NoFleets is in the message of a job for which there was no fleet.
const NoFleets = "No matching fleet found"

// OfRunReason is the final status of a run that ends for a reason.
func OfRunReason(r api.RunReason) api.RunStatus {
	switch r {
	case api.ReasonAllJobsDone:
		return api.RunDone
	case api.ReasonStoppedByUser, api.ReasonAbortedByUser:
		return api.RunTerminated
	}
	return api.RunFailed
}

// JobReasonOf is the reason that the live jobs of an ending run get.
func JobReasonOf(r api.RunReason) api.JobReason {
	switch r {
	case api.ReasonAllJobsDone:
		return api.ReasonDoneByRunner
	case api.ReasonStoppedByUser:
		return api.ReasonTerminatedByUser
	case api.ReasonAbortedByUser:
		return api.ReasonJobAbortedByUser
	}
	return api.ReasonTerminatedByServer
}

// OfJobReason is the final status of a job that ends for a reason.
func OfJobReason(r *api.JobReason) api.JobStatus {
	if r == nil {
		return api.JobFailed
	}
	switch *r {
	case api.ReasonDoneByRunner:
		return api.JobDone
	case api.ReasonJobAbortedByUser:
		return api.JobAborted
	case api.ReasonTerminatedByUser, api.ReasonTerminatedByServer, api.ReasonMaxDuration,
		api.ReasonScaledDown, api.ReasonInactivity, api.ReasonUtilization:
		return api.JobTerminated
	}
	return api.JobFailed
}

// RetryEvent is the event of a retry policy that a reason stands for; empty
// if a job that ended for it is never retried.
func RetryEvent(r *api.JobReason) string {
	switch {
	case r == nil || OfJobReason(r) != api.JobFailed:
		return ""
	case *r == api.ReasonNoCapacity:
		return config.RetryNoCapacity
	case *r == api.ReasonInterrupted:
		return config.RetryInterruption
	}
	return config.RetryError
}

// RunError is `error` of a run; nil if there is none.
func RunError(r *api.RunReason) *string {
	if r == nil {
		return nil
	}
	switch *r {
	case api.ReasonRetryLimitExceeded, api.ReasonServerError, api.ReasonRunGatewayError:
		return spaced(string(*r))
	}
	return nil
}

// JobError is `error` of a submission; nil if there is none.
func JobError(r *api.JobReason) *string {
	if r == nil {
		return nil
	}
	switch *r {
	case api.ReasonNoCapacity, api.ReasonInterrupted, api.ReasonContainerError, api.ReasonTerminatedByUser,
		api.ReasonTerminatedByServer, api.ReasonJobAbortedByUser, api.ReasonDoneByRunner:
		return nil
	case api.ReasonCreatingContainer:
		s := "runner error"
		return &s
	case api.ReasonUtilization:
		s := "utilization policy"
		return &s
	}
	return spaced(string(*r))
}

func spaced(s string) *string {
	s = strings.ReplaceAll(s, "_", " ")
	return &s
}

// OfSubmission is `status_message` of a submission.
func OfSubmission(st api.JobStatus, reason *api.JobReason, message *string, exit *int) string {
	r := api.JobReason("")
	if reason != nil {
		r = *reason
	}
	switch {
	case st == api.JobDone:
		return "exited (0)"
	case st == api.JobFailed && r == api.ReasonContainerError:
		if exit == nil {
			return "exited (None)"
		}
		return fmt.Sprintf("exited (%d)", *exit)
	case st == api.JobFailed && r == api.ReasonNoCapacity:
		if message != nil && strings.Contains(*message, NoFleets) {
			return "no fleets"
		}
		return "no capacity"
	case st == api.JobFailed && r == api.ReasonInterrupted:
		return "interrupted"
	case st == api.JobFailed:
		return "error"
	case st == api.JobTerminated && r == api.ReasonTerminatedByUser:
		return "stopped"
	}
	return string(st)
}

// JobFacts is what the message of a run needs to know of one of its jobs.
type JobFacts struct {
	// Latest is the status of the newest submission.
	Latest api.JobStatus
	// LastReason is the newest reason of any submission that has one.
	LastReason *api.JobReason
	Retry      *api.Retry
}

// OfRun is `status_message` of a run.
func OfRun(st api.RunStatus, jobs []JobFacts) string {
	if len(jobs) == 0 {
		return string(st)
	}
	if !slices.ContainsFunc(jobs, func(j JobFacts) bool { return j.Latest != api.JobPulling }) {
		return string(api.JobPulling)
	}
	if st != api.RunSubmitted && st != api.RunPending {
		return string(st)
	}
	for _, j := range jobs {
		if j.LastReason != nil && *j.LastReason == api.ReasonNoCapacity &&
			j.Retry != nil && slices.Contains(j.Retry.OnEvents, config.RetryNoCapacity) {
			return "retrying"
		}
	}
	return string(st)
}
