package cli

import (
	"fmt"
	"strings"

	"dstack/cli/term"
	"dstack/protocol/api"
	"dstack/protocol/reason"
)

// finalMessage says how a run ended and why.
func finalMessage(run api.Run, job *api.JobSubmission) []term.Cell {
	status, problem, cause, message := run.StatusMessage, deref(run.Error), deref(run.TerminationReason), ""
	if job != nil {
		if job.StatusMessage != "" {
			status = job.StatusMessage
		}
		if problem == "" {
			problem = deref(job.Error)
		}
		if r := deref(job.TerminationReason); r != "" {
			cause = r
		}
		message = strings.TrimSpace(deref(job.TerminationReasonMessage))
	}
	if status == "" {
		status = string(run.Status)
	}
	text := capitalize(status)
	if problem != "" {
		text += " (" + capitalize(problem) + ")"
	}
	if isDone(run, job) {
		return []term.Cell{{Text: text, Style: term.Code}}
	}
	lines := []term.Cell{{Text: text, Style: term.Error}}
	why, known := whyEnded(run, cause)
	if message == "" && known {
		message = capitalize(why.Cause) + "."
	}
	if message != "" {
		lines = append(lines, term.T(message))
	}
	switch {
	case cause == string(api.ReasonNoCapacity):
		lines = append(lines, term.T("See what each fleet and host lacks: dstack why "+runName(run)))
	case known && why.Next != "":
		lines = append(lines, term.T(why.Next))
	}
	if cause != "" && cause != string(api.ReasonNoCapacity) {
		lines = append(lines, term.T("Check dstack logs -d "+runName(run)+" for more details."))
	}
	return lines
}

// whyEnded explains the reason of a job or, if that only points to it, of its
// run.
func whyEnded(run api.Run, job string) (reason.Sentence, bool) {
	ended := api.JobReason(job)
	if ended != api.ReasonTerminatedByServer {
		if why, known := reason.Job(ended); known {
			return why, true
		}
	}
	return reason.Run(api.RunReason(deref(run.TerminationReason)))
}

// isDone says whether what was waited for is done: the run, or while that goes
// on the job.
func isDone(run api.Run, job *api.JobSubmission) bool {
	return run.Status == api.RunDone || !run.Status.Finished() && job != nil && job.Status == api.JobDone
}

// jobExitCode is 0 for what is done, else the exit status of the first job that
// has one, else 1. While the run goes on the job is the one that ended.
func jobExitCode(run api.Run, job *api.JobSubmission) int {
	if isDone(run, job) {
		return exitOK
	}
	var ended []api.JobSubmission
	if !run.Status.Finished() && job != nil {
		ended = append(ended, *job)
	} else {
		for _, job := range run.Jobs {
			if n := len(job.JobSubmissions); n > 0 {
				ended = append(ended, job.JobSubmissions[n-1])
			}
		}
	}
	for _, sub := range ended {
		if code := sub.ExitStatus; code != nil && *code > 0 && *code < 256 {
			return *code
		}
	}
	return exitFailed
}

// published says where a service and its model are reached; empty for other
// runs. What has no gateway is reached from here in any case, too.
func published(run api.Run, server string) string {
	if run.Service == nil {
		return ""
	}
	absolute := func(address string) string {
		if strings.HasPrefix(address, "/") {
			return server + address
		}
		return address
	}
	text := "Service is published at:\n  " + absolute(run.Service.URL) + "\n"
	if m := run.Service.Model; m != nil {
		text += "Model " + m.Name + " is published at:\n  " + absolute(m.BaseURL) + "\n"
	}
	if conf := run.RunSpec.Configuration.Service; conf != nil && strings.HasPrefix(run.Service.URL, "/") {
		text += fmt.Sprintf("Reach it from this machine with: dstack port-forward %s %d\n", runName(run), conf.Port.ContainerPort)
	}
	return text + "\n"
}
