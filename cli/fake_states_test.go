package cli

import (
	"fmt"
	"slices"

	"dstack/protocol/api"
)

// script lists the states that a run goes through.
func (r *fakeRun) script(f *fakeServer, command string) {
	var code int
	set := func(run api.RunStatus, job api.JobStatus, message string) func(*fakeRun) {
		return func(r *fakeRun) {
			sub := &r.Jobs[0].JobSubmissions[len(r.Jobs[0].JobSubmissions)-1]
			r.Status, r.StatusMessage, sub.Status, sub.StatusMessage = run, string(run), job, message
			if job == api.JobProvisioning {
				sub.JobProvisioningData = &api.JobProvisioningData{Backend: "remote", Region: "remote", InstanceType: fakeMachine(), Dockerized: true}
			}
		}
	}
	end := func(code int, reason api.JobReason, message string) func(*fakeRun) {
		return func(r *fakeRun) {
			sub := &r.Jobs[0].JobSubmissions[len(r.Jobs[0].JobSubmissions)-1]
			why := string(reason)
			sub.TerminationReason, sub.TerminationReasonMessage = &why, &message
			if code >= 0 {
				sub.ExitStatus = &code
			}
		}
	}
	both := func(fns ...func(*fakeRun)) func(*fakeRun) {
		return func(r *fakeRun) {
			for _, fn := range fns {
				fn(r)
			}
		}
	}
	start := []func(*fakeRun){
		set(api.RunProvisioning, api.JobProvisioning, "provisioning"),
		set(api.RunRunning, api.JobRunning, "running"),
	}
	finish := func(code int) func(*fakeRun) {
		if code == 0 {
			return set(api.RunDone, api.JobDone, "exited (0)")
		}
		return both(set(api.RunFailed, api.JobFailed, fmt.Sprintf("exited (%d)", code)),
			end(code, api.ReasonContainerError, fmt.Sprintf("Container exited with exit code %d", code)))
	}
	r.log = command + "\n"
	switch {
	case command == "stuck":
	case command == "serve":
		r.log = servedLog
		r.states = []func(*fakeRun){start[0], both(start[1], func(r *fakeRun) { f.ssh.place(r) })}
	case command == "hang", command == "stubborn":
		r.states = start
	case command == "no capacity":
		r.log = ""
		r.states = []func(*fakeRun){both(set(api.RunFailed, api.JobFailed, "no capacity"), end(-1, api.ReasonNoCapacity, "12 types match but exceed max_price"))}
	case command == "retry":
		again := func(r *fakeRun) {
			r.Jobs[0].JobSubmissions = append(r.Jobs[0].JobSubmissions, api.JobSubmission{ID: f.id(), SubmissionNum: 1, SubmittedAt: api.At(fakeStart)})
			set(api.RunSubmitted, api.JobSubmitted, "submitted")(r)
		}
		interrupted := both(set(api.RunPending, api.JobFailed, "interrupted"), func(r *fakeRun) { r.StatusMessage = "retrying" })
		r.states = append(append(slices.Clone(start), interrupted, again), append(start, finish(0))...)
	case scan(command, "exit %d", &code):
		r.states = append(start, finish(code))
	case scan(command, "signal %d", &code):
		r.states = append(start, finish(128+code))
	default:
		r.states = append(start, finish(0))
	}
}

func scan(text, format string, to *int) bool {
	n, err := fmt.Sscanf(text, format, to)
	return n == 1 && err == nil
}
