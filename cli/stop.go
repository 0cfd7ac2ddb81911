package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"dstack/client"
	"dstack/protocol/api"
)

func (a *App) stopCommand() *cobra.Command {
	var (
		project    string
		abort, yes bool
	)
	cmd := &cobra.Command{
		Use: "stop run_name [run_name ...]", Short: "Stop runs", Args: names(1, -1, "run_name"),
		Long:              "Stop runs. A stopped job gets its stop_duration to end by itself; with -x it is killed at once.",
		ValidArgsFunction: a.completeRuns(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.stop(cmd.Context(), project, args, abort, yes)
		},
	}
	a.projectFlag(cmd, &project)
	cmd.Flags().BoolVarP(&abort, "abort", "x", false, "Kill the jobs at once")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Don't ask for confirmation")
	return cmd
}

func (a *App) stop(ctx context.Context, project string, runNames []string, abort, yes bool) error {
	s, err := a.connect(project)
	if err != nil {
		return err
	}
	runs := make([]api.Run, 0, len(runNames))
	for _, name := range runNames {
		run, err := s.findRun(ctx, name)
		if err != nil {
			return err
		}
		runs = append(runs, run)
	}
	if !yes {
		question := "Are you sure you want to stop the run?"
		if len(runs) > 1 {
			question = "Are you sure you want to stop the runs " + strings.Join(runNames, ", ") + "?"
		}
		if ok, err := a.confirm(ctx, question); err != nil || !ok {
			return err
		}
	}
	if err := s.StopRuns(ctx, runNames, abort); err != nil {
		return err
	}
	for _, run := range runs {
		name := runName(run)
		switch {
		case run.Status.Finished():
			a.Printf("Run %s has already finished (%s)", name, run.StatusMessage)
		case abort:
			a.Printf("Aborting %s", name)
		default:
			a.Printf("Stopping %s", name)
		}
	}
	return nil
}

// findRun gets a run by name, with the sentence that users know if it is not
// there.
func (s *session) findRun(ctx context.Context, name string) (api.Run, error) {
	run, err := s.GetRun(ctx, name)
	if client.IsNotExist(err) {
		return api.Run{}, missing("Run %s not found", name)
	}
	return run, err
}

func runName(run api.Run) string {
	if run.RunSpec.RunName == nil {
		return run.ID
	}
	return *run.RunSpec.RunName
}
