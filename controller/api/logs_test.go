package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/logs"
	"dstack/protocol/api"
)

// TestRenderPage compares what is rendered by hand with what the types say.
func TestRenderPage(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	for _, page := range []logs.Page{
		{},
		{Events: []logs.Event{{At: at, Data: []byte("a \"line\" <of> a log\n")}}},
		{Events: []logs.Event{{At: at.Truncate(time.Second), Data: []byte("ä\xff")}, {At: at}, {At: at.Add(time.Second), Data: []byte("€")}}, Next: "17"},
	} {
		want := api.JobSubmissionLogs{Logs: []api.LogEvent{}, NextToken: none(page.Next)}
		for _, e := range page.Events {
			message := base64.StdEncoding.EncodeToString([]byte(strings.ToValidUTF8(string(e.Data), "\uFFFD")))
			want.Logs = append(want.Logs, api.LogEvent{Timestamp: api.At(e.At), LogSource: "stdout", Message: message})
		}
		wantJSON, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := renderPage(page, "")
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(wantJSON), string(got)); d != "" {
			t.Error(d)
		}
	}
}

// TestPolledLogsFollowTheLog: no row changes when a job prints, and the same
// question gets the new lines all the same.
func TestPolledLogsFollowTheLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := applyRun(t, r, runSpec("train", ""), nil)
	job := run.LatestJobSubmission.ID
	ask := fmt.Sprintf(`{"run_name":"train","job_submission_id":%q}`, job)
	size, want := int64(0), ""
	for i := range 3 {
		for range 2 {
			got := ""
			for _, e := range post[api.JobSubmissionLogs](r, "/api/project/main/logs/poll", ask).Logs {
				text, err := base64.StdEncoding.DecodeString(e.Message)
				if err != nil {
					t.Fatal(err)
				}
				got += string(text)
			}
			if got != want {
				t.Errorf("after %d lines: %q, want %q", i, got, want)
			}
		}
		line := fmt.Sprintf("line %d\n", i)
		var err error
		if size, err = r.logs.Append(t.Context(), logs.Key{Project: "main", Run: "train", JobID: job}, size, time.Now(), []byte(line)); err != nil {
			t.Fatal(err)
		}
		want += line
	}
}
