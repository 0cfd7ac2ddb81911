package cli

import (
	"context"

	"github.com/spf13/cobra"

	"dstack/client"
	"dstack/protocol/config"
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
	a.completeFlag(cmd, "file", completeYAML)
	return cmd
}

func (a *App) delete(ctx context.Context, project, file string, yes bool) error {
	conf, _, err := a.loadConfiguration(file, yes, false)
	if err != nil {
		return err
	}
	kind, name := nameOf(conf)
	if kind == "" {
		return sentence("Presets are deleted by their id: dstack preset delete ID")
	}
	if name == nil {
		return sentence("Configuration specifies no %s to delete", kind)
	}
	s, err := a.connect(project)
	if err != nil {
		return err
	}
	switch kind {
	case "fleet":
		return a.fleetDelete(ctx, project, *name, nil, yes)
	case "volume":
		return a.volumeDelete(ctx, s, *name, yes)
	case "gateway":
		return a.gatewayDeleteByFile(ctx, s, *name, yes)
	}
	return a.runDelete(ctx, s, *name, yes)
}

// nameOf is the kind of thing that a configuration describes, and its name.
func nameOf(conf config.Apply) (kind string, name *string) {
	switch {
	case conf.Fleet != nil:
		return "fleet", conf.Fleet.Name
	case conf.Volume != nil:
		return "volume", conf.Volume.Name
	case conf.Gateway != nil:
		return "gateway", conf.Gateway.Name
	case conf.Run != nil:
		return "run", conf.Run.Base().Name
	}
	return "", nil
}

func (a *App) runDelete(ctx context.Context, s *session, name string, yes bool) error {
	if _, err := s.GetRun(ctx, name); client.IsNotExist(err) {
		return missing("Run %s does not exist", name)
	} else if err != nil {
		return err
	}
	if err := a.askUnless(ctx, yes, "Delete the run "+name+"?"); err != nil {
		return err
	}
	if err := s.DeleteRuns(ctx, []string{name}); err != nil {
		return err
	}
	a.Printf("Run %s deleted", name)
	return nil
}

func (a *App) gatewayDeleteByFile(ctx context.Context, s *session, name string, yes bool) error {
	if _, err := s.GetGateway(ctx, name); client.IsNotExist(err) {
		return missing("Gateway %s does not exist", name)
	} else if err != nil {
		return err
	}
	if err := a.askUnless(ctx, yes, "Delete the gateway "+name+"?"); err != nil {
		return err
	}
	if err := s.DeleteGateways(ctx, []string{name}); err != nil {
		return err
	}
	a.Printf("Gateway %s deleted", name)
	return nil
}
