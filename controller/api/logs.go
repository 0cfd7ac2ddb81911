package api

import (
	"context"
	"encoding/base64"
	"strings"

	"dstack/controller/logs"
	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	defaultLogs = 100
	maxLogs     = 1000
	logSource   = "stdout"
)

// pollLogs reads one page of a submission's log. The submission decides the
// place, not the run's name in the request, and it must be of the project.
func (a *API) pollLogs(ctx context.Context, c call, in api.PollLogsRequest) (api.JobSubmissionLogs, error) {
	out := api.JobSubmissionLogs{Logs: []api.LogEvent{}}
	opts := logs.PollOptions{
		Descending: in.Descending, Token: deref(in.NextToken, ""), Limit: deref(in.Limit, defaultLogs),
	}
	if _, err := logs.ParseToken(opts.Token); err != nil {
		return out, refuse("%v", err)
	}
	key, found, err := a.findLog(ctx, c, in.JobSubmissionID)
	if err != nil || !found {
		return out, err
	}
	if in.Diagnose {
		key = key.Diagnostics()
	}
	if in.StartTime != nil {
		opts.Start = &in.StartTime.Time
	}
	if in.EndTime != nil {
		opts.End = &in.EndTime.Time
	}
	page, err := a.deps.Logs.Poll(ctx, key, opts)
	if err != nil {
		e := refuse("Failed to poll logs from log storage")
		e.Err = err
		return out, e
	}
	for _, e := range page.Events {
		text := strings.ToValidUTF8(string(e.Data), "\uFFFD")
		out.Logs = append(out.Logs, api.LogEvent{
			Timestamp: api.At(e.At), LogSource: logSource, Message: base64.StdEncoding.EncodeToString([]byte(text)),
		})
	}
	out.NextToken = none(page.Next)
	return out, nil
}

// findLog is false if the project has no such submission: its log is empty.
func (a *API) findLog(ctx context.Context, c call, id string) (key logs.Key, found bool, err error) {
	err = a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		project, run, err := tx.JobLog(id)
		if isNotFound(err) || err == nil && project != c.Project.ID {
			return nil
		}
		key, found = logs.Key{Project: c.Project.Name, Run: run, JobID: id}, err == nil
		return err //nolint:wrapcheck // says what it was doing
	})
	return key, found, err
}
