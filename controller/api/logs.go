package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"dstack/controller/logs"
	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	defaultLogs = 100
	maxLogs     = 1000
	emptyPage   = `{"logs":[],"external_url":null,"next_token":null}`
	// eventOverhead is how many bytes an event takes besides its message.
	eventOverhead = 96
	// maxKeptPage is how many bytes a page has at most that is remembered: who
	// reads a large log through does not push out everything else.
	maxKeptPage = 64 << 10
)

// pollLogs reads one page of a submission's log. The submission decides the
// place, not the run's name in the request, and it must be of the project. The
// answer holds until the log grows.
func (a *API) pollLogs(ctx context.Context, c call, in api.PollLogsRequest) (reply[api.JobSubmissionLogs], error) {
	out := reply[api.JobSubmissionLogs]{raw: []byte(emptyPage)}
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
	// Counted first: what comes in between is told again.
	count, err := a.deps.Logs.Events(key)
	if err != nil {
		return out, noLogs(err)
	}
	page, err := a.deps.Logs.Poll(ctx, key, opts)
	if err != nil {
		return out, noLogs(err)
	}
	external := ""
	if a.deps.LogURL != nil {
		external = a.deps.LogURL(key)
	}
	if out.raw, err = renderPage(page, external); err != nil {
		return out, err
	}
	out.live = page.Remote || len(out.raw) > maxKeptPage
	out.still = func() bool {
		now, err := a.deps.Logs.Events(key)
		return err == nil && now == count
	}
	return out, nil
}

func noLogs(err error) error {
	e := refuse("Failed to poll logs from log storage")
	e.Err = err
	return e
}

// renderPage is a page, with a link to its log elsewhere, as an [api.JobSubmissionLogs] in JSON: followers ask for
// pages all the time, and reflection takes five times as long.
func renderPage(page logs.Page, external string) ([]byte, error) {
	size := len(emptyPage) + len(page.Next)
	for _, e := range page.Events {
		size += base64.StdEncoding.EncodedLen(len(e.Data)) + eventOverhead
	}
	b := append(make([]byte, 0, size), `{"logs":[`...)
	for i, e := range page.Events {
		if i > 0 {
			b = append(b, ',')
		}
		at, err := api.At(e.At).MarshalJSON()
		if err != nil {
			return nil, err //nolint:wrapcheck // says what it was doing
		}
		b = append(append(b, `{"timestamp":`...), at...)
		b = append(b, `,"log_source":"stdout","message":"`...)
		text := e.Data
		if !utf8.Valid(text) {
			text = bytes.ToValidUTF8(text, []byte("\uFFFD"))
		}
		b = append(base64.StdEncoding.AppendEncode(b, text), `"}`...)
	}
	b = append(b, `],"external_url":`...)
	if external == "" {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendQuote(b, external)
	}
	b = append(b, `,"next_token":`...)
	if page.Next == "" {
		return append(b, "null}"...), nil
	}
	return append(strconv.AppendQuote(b, page.Next), '}'), nil
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
