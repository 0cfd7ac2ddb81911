package status

import (
	"testing"

	"dstack/protocol/api"
)

func ptr[T any](v T) *T { return &v }

func TestJobReasons(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reason api.JobReason
		status api.JobStatus
		event  string
		err    string
	}{
		{"failed_to_start_due_to_no_capacity", "failed", "no-capacity", ""},
		{"interrupted_by_no_capacity", "failed", "interruption", ""},
		{"instance_unreachable", "failed", "error", "instance unreachable"},
		{"instance_access_revoked", "failed", "error", "instance access revoked"},
		{"waiting_instance_limit_exceeded", "failed", "error", "waiting instance limit exceeded"},
		{"waiting_runner_limit_exceeded", "failed", "error", "waiting runner limit exceeded"},
		{"volume_error", "failed", "error", "volume error"},
		{"gateway_error", "failed", "error", "gateway error"},
		{"container_exited_with_error", "failed", "error", ""},
		{"ports_binding_failed", "failed", "error", "ports binding failed"},
		{"creating_container_error", "failed", "error", "runner error"},
		{"executor_error", "failed", "error", "executor error"},
		{"log_quota_exceeded", "failed", "error", "log quota exceeded"},
		{"terminated_by_user", "terminated", "", ""},
		{"terminated_by_server", "terminated", "", ""},
		{"scaled_down", "terminated", "", "scaled down"},
		{"inactivity_duration_exceeded", "terminated", "", "inactivity duration exceeded"},
		{"terminated_due_to_utilization_policy", "terminated", "", "utilization policy"},
		{"max_duration_exceeded", "terminated", "", "max duration exceeded"},
		{"aborted_by_user", "aborted", "", ""},
		{"done_by_runner", "done", "", ""},
	} {
		if got := OfJobReason(&c.reason); got != c.status {
			t.Errorf("%s: status %s, want %s", c.reason, got, c.status)
		}
		if got := RetryEvent(&c.reason); got != c.event {
			t.Errorf("%s: retry event %q, want %q", c.reason, got, c.event)
		}
		got := ""
		if e := JobError(&c.reason); e != nil {
			got = *e
		}
		if got != c.err {
			t.Errorf("%s: error %q, want %q", c.reason, got, c.err)
		}
	}
	if OfJobReason(nil) != api.JobFailed || RetryEvent(nil) != "" || JobError(nil) != nil {
		t.Error("a job without a reason fails, without retry and error")
	}
}

func TestRunReasons(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reason api.RunReason
		status api.RunStatus
		job    api.JobReason
		err    string
	}{
		{"all_jobs_done", "done", "done_by_runner", ""},
		{"job_failed", "failed", "terminated_by_server", ""},
		{"retry_limit_exceeded", "failed", "terminated_by_server", "retry limit exceeded"},
		{"stopped_by_user", "terminated", "terminated_by_user", ""},
		{"aborted_by_user", "terminated", "aborted_by_user", ""},
		{"server_error", "failed", "terminated_by_server", "server error"},
		{"gateway_error", "failed", "terminated_by_server", "gateway error"},
	} {
		got := ""
		if e := RunError(&c.reason); e != nil {
			got = *e
		}
		if OfRunReason(c.reason) != c.status || JobReasonOf(c.reason) != c.job || got != c.err {
			t.Errorf("%s: got %s, %s, %q", c.reason, OfRunReason(c.reason), JobReasonOf(c.reason), got)
		}
	}
}

func TestSubmissionMessage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status  api.JobStatus
		reason  api.JobReason
		message string
		exit    *int
		want    string
	}{
		{"done", "done_by_runner", "", ptr(0), "exited (0)"},
		{"failed", "container_exited_with_error", "", ptr(3), "exited (3)"},
		{"failed", "container_exited_with_error", "", nil, "exited (None)"},
		{"failed", "failed_to_start_due_to_no_capacity", "No matching fleet found. Possible", nil, "no fleets"},
		{"failed", "failed_to_start_due_to_no_capacity", "Fleet is at capacity", nil, "no capacity"},
		{"failed", "interrupted_by_no_capacity", "", nil, "interrupted"},
		{"failed", "executor_error", "", nil, "error"},
		{"terminated", "terminated_by_user", "", nil, "stopped"},
		{"terminated", "max_duration_exceeded", "", nil, "terminated"},
		{"aborted", "aborted_by_user", "", nil, "aborted"},
		{"running", "", "", nil, "running"},
	} {
		if got := OfSubmission(c.status, &c.reason, &c.message, c.exit); got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.status, c.reason, got, c.want)
		}
	}
}

func TestRunMessage(t *testing.T) {
	t.Parallel()
	lack := ptr(api.ReasonNoCapacity)
	retry := &api.Retry{OnEvents: []string{"no-capacity"}}
	for _, c := range []struct {
		status api.RunStatus
		jobs   []JobFacts
		want   string
	}{
		{"pending", nil, "pending"},
		{"provisioning", []JobFacts{{Latest: "pulling"}, {Latest: "pulling"}}, "pulling"},
		{"provisioning", []JobFacts{{Latest: "pulling"}, {Latest: "running"}}, "provisioning"},
		{"pending", []JobFacts{{Latest: "failed", LastReason: lack, Retry: retry}}, "retrying"},
		{"submitted", []JobFacts{{Latest: "submitted", LastReason: lack, Retry: retry}}, "retrying"},
		{"submitted", []JobFacts{{Latest: "submitted", LastReason: lack}}, "submitted"},
		{"running", []JobFacts{{Latest: "running", LastReason: lack, Retry: retry}}, "running"},
	} {
		if got := OfRun(c.status, c.jobs); got != c.want {
			t.Errorf("%s %v: got %q, want %q", c.status, c.jobs, got, c.want)
		}
	}
}
