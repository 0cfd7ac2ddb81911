package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/protocol/api"
)

func (a *App) gatewayCommand() *cobra.Command {
	var o listOptions
	cmd := listCommand(a, &o, listing[api.Gateway]{
		name: "gateway", subs: "list,get,update,delete", short: "Manage gateways", key: "gateways",
		verbose: "Show ages and errors",
		list:    func(ctx context.Context, s *session) ([]api.Gateway, error) { return s.ListGateways(ctx) },
		table: func(items []api.Gateway, project string, verbose bool) term.Table {
			return render.GatewaysTable(items, project, render.GatewayColumns{Created: verbose, Error: verbose}, a.age)
		},
	})
	cmd.AddCommand(
		getCommand(a, &o, "gateway", a.completeGateways, findGateway), a.gatewayUpdateCommand(&o),
		a.deleteSub(&o, "Delete a gateway", a.completeGateways, a.gatewayDelete))
	return cmd
}

// findGateway gets a gateway of the project or, as PROJECT/NAME, one that is
// imported.
func findGateway(ctx context.Context, s *session, name string) (api.Gateway, error) {
	of, short, imported := strings.Cut(name, "/")
	if !imported {
		return s.GetGateway(ctx, name)
	}
	all, err := s.ListGateways(ctx)
	if err != nil {
		return api.Gateway{}, err
	}
	for _, g := range all {
		if g.ProjectName == of && g.Name == short {
			return g, nil
		}
	}
	return api.Gateway{}, missing("Gateway %s not found", name)
}

func (a *App) gatewayUpdateCommand(o *listOptions) *cobra.Command {
	var (
		setDefault bool
		domain     string
	)
	cmd := &cobra.Command{
		Use: "update name", Short: "Make a gateway the default, or change its domain", Args: names(1, 1, "name"),
		Long:              "Make a gateway the default of the project. The name of an imported gateway is PROJECT/NAME.",
		ValidArgsFunction: a.completeGateways,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.gatewayUpdate(cmd.Context(), o.project, args[0], setDefault, domain)
		},
	}
	a.projectFlag(cmd, &o.project)
	cmd.Flags().BoolVar(&setDefault, "set-default", false, "Make it the default gateway of the project")
	cmd.Flags().StringVar(&domain, "domain", "", "Change its domain (deprecated: use dstack apply)")
	return cmd
}

func (a *App) gatewayUpdate(ctx context.Context, project, name string, setDefault bool, domain string) error {
	s, err := a.connect(project)
	if err != nil {
		return err
	}
	of, short, imported := strings.Cut(name, "/")
	if !imported {
		of, short = "", name
	}
	if domain != "" {
		a.Warn("`dstack gateway update --domain` is deprecated and may be disallowed in the future. Use `dstack apply` to update domains or other gateway configuration properties")
		if imported {
			return sentence("The domain of an imported gateway can only be changed in its own project")
		}
		if _, err := s.SetWildcardDomain(ctx, name, domain); err != nil {
			return err
		}
	}
	if setDefault {
		if err := s.SetDefaultGateway(ctx, of, short); err != nil {
			return err
		}
	}
	gateway, err := findGateway(ctx, s, name)
	if err != nil {
		return err
	}
	a.write(a.gatewayTable(s, gateway) + "\n")
	return nil
}

func (a *App) gatewayTable(s *session, gateway api.Gateway) string {
	return a.Render(render.GatewaysTable([]api.Gateway{gateway}, s.project, render.GatewayColumns{}, a.age))
}

func (a *App) gatewayDelete(ctx context.Context, s *session, name string, yes bool) error {
	gateway, err := s.GetGateway(ctx, name)
	if err != nil {
		return err
	}
	a.write(a.gatewayTable(s, gateway) + "\n")
	if !yes {
		ok, err := a.confirm(ctx, "Do you want to delete the gateway?")
		if err != nil {
			return err
		}
		if !ok {
			a.Print("Exiting...")
			return nil
		}
	}
	if err := s.DeleteGateways(ctx, []string{name}); err != nil {
		return err
	}
	a.Print("Gateway deleted")
	return nil
}

func (a *App) completeGateways(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	return a.completeFrom(func(ctx context.Context, s *session) ([]string, error) {
		gateways, err := s.ListGateways(ctx)
		found := make([]string, len(gateways))
		for i, g := range gateways {
			found[i] = g.Name
			if g.ProjectName != s.project {
				found[i] = g.ProjectName + "/" + g.Name
			}
		}
		return found, err
	})(cmd, args, word)
}
