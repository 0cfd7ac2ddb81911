package cli

import (
	"context"

	"github.com/spf13/cobra"

	"dstack/client"
)

func (a *App) deleteCommand() *cobra.Command {
	var (
		project, file string
		yes           bool
	)
	cmd := &cobra.Command{
		Use: "delete", Aliases: []string{"destroy"}, Short: "Delete what a configuration file describes", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.delete(cmd.Context(), project, file, yes)
		},
	}
	a.projectFlag(cmd, &project)
	cmd.Flags().StringVarP(&file, "file", "f", "", "The configuration file, default .dstack.yml; - is standard input and needs -y")
	metavar(cmd.Flags(), "file", "FILE")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Don't ask for confirmation")
	if err := cmd.RegisterFlagCompletionFunc("file", completeYAML); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func (a *App) delete(ctx context.Context, project, file string, yes bool) error {
	conf, _, err := a.loadConfiguration(file, yes, false)
	if err != nil {
		return err
	}
	s, err := a.connect(project)
	if err != nil {
		return err
	}
	if conf.Fleet != nil {
		if conf.Fleet.Name == nil {
			return sentence("Configuration specifies no fleet to delete")
		}
		return a.fleetDelete(ctx, project, *conf.Fleet.Name, nil, yes)
	}
	if conf.Run == nil {
		return sentence("Only runs and fleets can be deleted yet")
	}
	name := conf.Run.Base().Name
	if name == nil {
		return sentence("Configuration specifies no run to delete")
	}
	if _, err := s.GetRun(ctx, *name); client.IsNotExist(err) {
		return missing("Run %s does not exist", *name)
	} else if err != nil {
		return err
	}
	if !yes {
		if err := a.confirmOrExit(ctx, "Delete the run "+*name+"?"); err != nil {
			return err
		}
	}
	if err := s.DeleteRuns(ctx, []string{*name}); err != nil {
		return err
	}
	a.Printf("Run %s deleted", *name)
	return nil
}
