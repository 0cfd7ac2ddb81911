package cli

import (
	"context"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"dstack/client"
	"dstack/protocol/api"
)

func (a *App) runCommand() *cobra.Command {
	var project string
	cmd := &cobra.Command{
		Use: "run {get} ...", Short: "Show runs", Args: subCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.help(cmd, nil)
			return nil
		},
	}
	a.projectFlag(cmd, &project)
	cmd.AddCommand(a.runGetCommand(&project))
	return cmd
}

func (a *App) runGetCommand(project *string) *cobra.Command {
	var (
		id            string
		asJSON, watch bool
	)
	cmd := &cobra.Command{
		Use: "get [NAME]", Short: "Show one run as JSON", Args: names(0, 1, "NAME"),
		ValidArgsFunction: a.completeRuns(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf(cmd, args, id); err != nil {
				return err
			}
			return a.runGet(cmd.Context(), *project, args, id, watch)
		},
	}
	a.projectFlag(cmd, project)
	cmd.Flags().StringVar(&id, "id", "", "The id of the run")
	cmd.Flags().BoolVar(&asJSON, "json", true, "Print JSON (the only format)")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "Print the run again after each change, one line each, until it ends")
	return quietly(cmd)
}

// oneOf demands either a name or an id.
func oneOf(cmd *cobra.Command, args []string, id string) error {
	switch {
	case len(args) == 0 && id == "":
		return usageError{cmd: cmd, msg: "one of the arguments NAME --id is required"}
	case len(args) > 0 && id != "":
		return argumentError(cmd, "id", "not allowed with argument NAME")
	}
	return nil
}

func (a *App) runGet(ctx context.Context, project string, args []string, id string, watch bool) error {
	s, err := a.connect(project)
	if err != nil {
		return err
	}
	var run api.Run
	if id != "" {
		if _, bad := uuid.Parse(id); bad != nil {
			return sentence("Invalid UUID format: %s", id)
		}
		run, err = s.GetRunByID(ctx, id)
		if client.IsNotExist(err) {
			return missing("Run %s not found", id)
		}
	} else {
		run, err = s.findRun(ctx, args[0])
	}
	if err != nil {
		return err
	}
	if watch {
		return s.WatchRun(ctx, run.ID, func(latest api.Run) error { return a.printJSON(latest) })
	}
	return a.printIndented(run)
}
