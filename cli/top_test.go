package cli

import (
	"net/http/httptest"
	"strings"
	"testing"

	"dstack/protocol/api"
)

// TestTopOfOldServer asks job by job a server that can't tell of all at once.
func TestTopOfOldServer(t *testing.T) {
	t.Parallel()
	job := func(num int, status api.JobStatus) api.Job {
		return api.Job{JobSpec: api.JobSpec{JobNum: num, JobName: "sleep-0-" + string(rune('0'+num))}, JobSubmissions: []api.JobSubmission{{Status: status}}}
	}
	name := "sleep"
	run := &fakeRun{Run: api.Run{Status: api.RunRunning, Jobs: []api.Job{job(0, api.JobRunning), job(1, api.JobRunning), job(2, api.JobDone)}}}
	run.RunSpec.RunName = &name
	server := httptest.NewServer(&fakeServer{changed: make(chan struct{}), old: true, runs: []*fakeRun{run}})
	defer server.Close()
	for _, args := range [][]string{{"top"}, {"top", "sleep"}} {
		code, out, errs := runApp(t, server.URL, fakeStart, args...)
		if code != 0 || strings.Count(out, "43% of 4") != 2 || strings.Contains(out, "sleep-0-2") {
			t.Errorf("%v: exit code %d\n%s%s", args, code, out, errs)
		}
	}
	if code, _, errs := runApp(t, server.URL, fakeStart, "top", "nope"); code != 1 || errs != "Run nope not found\n" {
		t.Errorf("exit code %d, %q", code, errs)
	}
}
