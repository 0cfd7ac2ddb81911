package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"dstack/client"
	"dstack/client/userconfig"
	"dstack/protocol/api"
)

// session is one project of one server.
type session struct {
	*client.Project

	project string
	token   string
}

// host is the name or address of the server's machine.
func (s *session) host() string {
	u, err := url.Parse(s.BaseURL())
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// connect finds the server and the project of a command; nothing is sent yet.
func (a *App) connect(project string) (*session, error) {
	if project == "" {
		project = a.project
	}
	file := &userconfig.File{}
	if a.env.Getenv("DSTACK_SERVER_URL") == "" || a.env.Getenv("DSTACK_TOKEN") == "" {
		var err error
		if file, err = a.userConfig(); err != nil {
			return nil, err
		}
	}
	target, err := userconfig.Resolve(file, project, a.env.LookupEnv)
	if err != nil {
		return nil, err
	}
	return a.session(target)
}

func (a *App) session(target userconfig.Target) (*session, error) {
	c, err := a.client(target.URL, target.Token)
	if err != nil {
		return nil, err
	}
	return &session{c.Project(target.Project), target.Project, target.Token}, nil
}

// projectFlag defines --project. A command and its sub-commands share the
// value, so that the option works in both places.
func (a *App) projectFlag(cmd *cobra.Command, project *string) {
	cmd.Flags().StringVar(project, "project", *project, "The project to use (DSTACK_PROJECT, else the default project)")
	metavar(cmd.Flags(), "project", "NAME")
	if err := cmd.RegisterFlagCompletionFunc("project", a.completeProjects); err != nil {
		panic(err) // the flag is defined above
	}
}

// logPoll is how often the log of a server without streams is looked at.
const logPoll = time.Second

// followLog calls fn with each piece of a submission's log until the job has
// ended and its log is complete. A server without streams is polled.
func (s *session) followLog(ctx context.Context, run api.Run, req api.FollowLogsRequest, fn func(api.LogChunk) error) error {
	err := s.FollowLogs(ctx, req, fn)
	if e, ok := errors.AsType[*client.APIError](err); !ok || (e.Status != http.StatusNotFound && e.Status != http.StatusMethodNotAllowed) {
		return err
	}
	since, skip := req.Since, req.Offset
	rest := func(c api.LogChunk) error {
		n := min(skip, int64(len(c.Message)))
		skip, c.Message = skip-n, c.Message[n:]
		if len(c.Message) == 0 {
			return nil
		}
		return fn(c)
	}
	again := time.NewTicker(logPoll)
	defer again.Stop()
	for {
		latest, err := s.GetRunByID(ctx, run.ID)
		if err != nil {
			return err
		}
		ended := submissionEnded(latest, req.JobSubmissionID)
		if since, err = s.pollLog(ctx, run, req.JobSubmissionID, since, rest); err != nil || ended {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-again.C:
		}
	}
}

func submissionEnded(run api.Run, id string) bool {
	for _, job := range run.Jobs {
		for _, submission := range job.JobSubmissions {
			if submission.ID == id {
				return submission.Status.Finished()
			}
		}
	}
	return true
}

// pollLog reads what is there of a log after a time and gives the time of the
// last piece.
func (s *session) pollLog(ctx context.Context, run api.Run, submission string, since *api.Time, fn func(api.LogChunk) error) (*api.Time, error) {
	limit := logPage
	req := api.PollLogsRequest{RunName: runName(run), JobSubmissionID: submission, StartTime: since, Limit: &limit}
	for {
		page, err := s.PollLogs(ctx, req)
		if err != nil {
			return since, err
		}
		for _, event := range page.Logs {
			text, err := base64.StdEncoding.DecodeString(event.Message)
			if err != nil {
				return since, fmt.Errorf("decode log: %w", err)
			}
			if err := fn(api.LogChunk{Timestamp: event.Timestamp, Message: text}); err != nil {
				return since, err
			}
			since = &event.Timestamp
		}
		if page.NextToken == nil || len(page.Logs) == 0 {
			return since, nil
		}
		req.NextToken = page.NextToken
	}
}
