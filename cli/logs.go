package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"dstack/protocol/api"
)

// logPage is how many events one page of a log has.
const logPage = 1000

type logsOptions struct {
	project          string
	follow, diagnose bool
	replica, job     int
	since            string
	output           outputOptions
}

func (a *App) logsCommand() *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use: "logs run_name", Short: "Show the log of a run", Args: names(1, 1, "run_name"),
		Long:              "Show the log of a run's job. Only the last submission of the job is shown.",
		ValidArgsFunction: a.completeRuns(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.logs(cmd.Context(), o, args[0])
		},
	}
	a.projectFlag(cmd, &o.project)
	set := cmd.Flags()
	set.BoolVarP(&o.follow, "follow", "f", false, "Go on until the job has ended")
	set.BoolVarP(&o.diagnose, "diagnose", "d", false, "Show the log of the agent instead of the job's")
	set.IntVar(&o.replica, "replica", 0, "The replica of the job")
	set.IntVar(&o.job, "job", 0, "The number of the job in its replica")
	set.StringVar(&o.since, "since", "", "Show what was written since this time: 10m, 2h, 1d, or RFC 3339")
	o.output.define(set)
	return quietly(cmd)
}

func (a *App) logs(ctx context.Context, o logsOptions, name string) error {
	if o.follow && o.diagnose {
		return errors.New("the log of the agent can't be followed: leave out -f or -d")
	}
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	since, err := a.since(o.since)
	if err != nil {
		return err
	}
	run, err := s.findRun(ctx, name)
	if err != nil {
		return err
	}
	submission, err := findSubmission(run, o.replica, o.job)
	if err != nil {
		return err
	}
	if o.follow {
		return s.followLog(ctx, run, api.FollowLogsRequest{JobSubmissionID: submission, Since: since}, func(c api.LogChunk) error {
			if o.output.wantsJSON() {
				return a.printJSON(logLine(c))
			}
			return a.writeLog(c.Message)
		})
	}
	limit := logPage
	req := api.PollLogsRequest{
		RunName: name, JobSubmissionID: submission, StartTime: since, Limit: &limit, Diagnose: o.diagnose,
	}
	for {
		page, err := s.PollLogs(ctx, req)
		if err != nil {
			return err
		}
		if err := a.printLogs(page.Logs, o.output.wantsJSON()); err != nil {
			return err
		}
		if page.NextToken == nil {
			return nil
		}
		req.NextToken = page.NextToken
	}
}

// logLine is a chunk as logs/poll shows it.
func logLine(c api.LogChunk) api.LogEvent {
	return api.LogEvent{Timestamp: c.Timestamp, LogSource: "stdout", Message: base64.StdEncoding.EncodeToString(c.Message)}
}

func (a *App) printLogs(events []api.LogEvent, asJSON bool) error {
	for _, e := range events {
		if asJSON {
			if err := a.printJSON(e); err != nil {
				return err
			}
			continue
		}
		text, err := base64.StdEncoding.DecodeString(e.Message)
		if err != nil {
			return fmt.Errorf("decode log: %w", err)
		}
		if err := a.writeLog(text); err != nil {
			return err
		}
	}
	return nil
}

// writeLog passes a job's output on as it is.
func (a *App) writeLog(text []byte) error {
	if _, err := a.Out.Write(text); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	return nil
}

// findSubmission is the id of the last submission of a job.
func findSubmission(run api.Run, replica, num int) (string, error) {
	for _, job := range run.Jobs {
		if job.JobSpec.ReplicaNum == replica && job.JobSpec.JobNum == num && len(job.JobSubmissions) > 0 {
			return job.JobSubmissions[len(job.JobSubmissions)-1].ID, nil
		}
	}
	return "", sentence("Failed to find replica=%d job=%d of run %s", replica, num, runName(run))
}
