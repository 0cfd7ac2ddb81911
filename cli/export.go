package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/protocol/api"
)

func (a *App) exportCommand() *cobra.Command {
	var o listOptions
	cmd := listCommand(a, &o, listing[api.Export]{
		name: "export", subs: "list,create,update,delete", short: "Share fleets and gateways with other projects", key: "exports",
		list: func(ctx context.Context, s *session) ([]api.Export, error) {
			answer, err := s.ListExports(ctx)
			a.warnings(answer.Warnings)
			return answer.Exports, err
		},
		table: func(items []api.Export, _ string, _ bool) term.Table { return render.ExportsTable(items) },
	})
	cmd.AddCommand(a.exportCreateCommand(&o), a.exportUpdateCommand(&o),
		a.deleteSub(&o, "Delete an export; projects that import it lose it", a.completeExports, a.exportDelete))
	return cmd
}

// warnings shows what the server warns of.
func (a *App) warnings(all []string) {
	for _, warning := range all {
		a.warn(warning)
	}
}

func (a *App) exportCreateCommand(o *listOptions) *cobra.Command {
	var req api.CreateExportRequest
	cmd := &cobra.Command{
		Use: "create name", Short: "Create an export", Args: names(1, 1, "name"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect(o.project)
			if err != nil {
				return err
			}
			req.Name = args[0]
			export, err := s.CreateExport(cmd.Context(), req)
			return a.showExport(export, err)
		},
	}
	a.projectFlag(cmd, &o.project)
	set := cmd.Flags()
	set.StringArrayVar(&req.ImporterProjects, "importer", nil, "A project that may use it; can be given several times")
	set.StringArrayVar(&req.ExportedFleets, "fleet", nil, "A fleet to share; can be given several times")
	set.StringArrayVar(&req.ExportedGateways, "gateway", nil, "A gateway to share; can be given several times")
	set.BoolVar(&req.IsGlobal, "global", false, "Share it with all projects")
	a.completeFlag(cmd, "fleet", a.completeFleets)
	a.completeFlag(cmd, "gateway", a.completeGateways)
	for flag, name := range map[string]string{"importer": "PROJECT", "fleet": "NAME", "gateway": "NAME"} {
		metavar(set, flag, name)
	}
	return cmd
}

func (a *App) exportUpdateCommand(o *listOptions) *cobra.Command {
	var req api.UpdateExportRequest
	cmd := &cobra.Command{
		Use: "update name", Short: "Change an export", Args: names(1, 1, "name"),
		ValidArgsFunction: a.completeExports,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkExclusive(cmd); err != nil {
				return err
			}
			s, err := a.connect(o.project)
			if err != nil {
				return err
			}
			req.Name = args[0]
			export, err := s.UpdateExport(cmd.Context(), req)
			return a.showExport(export, err)
		},
	}
	a.projectFlag(cmd, &o.project)
	set := cmd.Flags()
	for _, f := range []struct {
		list       *[]string
		name, help string
		complete   completer
	}{
		{&req.AddImporterProjects, "add-importer", "A further project that may use it", cobra.NoFileCompletions},
		{&req.RemoveImporterProjects, "remove-importer", "A project that may use it no longer", cobra.NoFileCompletions},
		{&req.AddExportedFleets, "add-fleet", "A further fleet to share", a.completeFleets},
		{&req.RemoveExportedFleets, "remove-fleet", "A fleet to share no longer", a.completeFleets},
		{&req.AddExportedGateways, "add-gateway", "A further gateway to share", a.completeGateways},
		{&req.RemoveExportedGateways, "remove-gateway", "A gateway to share no longer", a.completeGateways},
	} {
		set.StringArrayVar(f.list, f.name, nil, f.help+"; can be given several times")
		a.completeFlag(cmd, f.name, f.complete)
		metavar(set, f.name, map[bool]string{true: "PROJECT", false: "NAME"}[strings.HasSuffix(f.name, "importer")])
	}
	set.BoolVar(&req.SetGlobal, "set-global", false, "Share it with all projects")
	set.BoolVar(&req.UnsetGlobal, "unset-global", false, "Share it only with the projects that are named")
	exclusive(set, "set-global", "unset-global")
	return cmd
}

func (a *App) showExport(export api.Export, err error) error {
	if err != nil {
		return err
	}
	a.write(a.Render(render.ExportsTable([]api.Export{export})) + "\n")
	return nil
}

func (a *App) exportDelete(ctx context.Context, s *session, name string, yes bool) error {
	if err := a.askUnless(ctx, yes, "Delete the export "+name+"?"); err != nil {
		return err
	}
	if err := s.DeleteExport(ctx, name); err != nil {
		return err
	}
	a.Printf("Export %s deleted", name)
	return nil
}

func (a *App) completeExports(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	return namesOf(a, func(ctx context.Context, s *session) ([]api.Export, error) {
		answer, err := s.ListExports(ctx)
		return answer.Exports, err
	}, func(e api.Export) string { return e.Name })(cmd, args, word)
}
