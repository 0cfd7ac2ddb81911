package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/protocol/api"
)

func (a *App) importCommand() *cobra.Command {
	var o listOptions
	cmd := listCommand(a, &o, listing[api.Import]{
		name: "import", subs: "list,delete", short: "Use fleets and gateways of other projects", key: "imports",
		list: func(ctx context.Context, s *session) ([]api.Import, error) {
			answer, err := s.ListImports(ctx)
			a.warnings(answer.Warnings)
			return answer.Imports, err
		},
		table: func(items []api.Import, _ string, _ bool) term.Table { return render.ImportsTable(items) },
	})
	cmd.AddCommand(a.importDeleteCommand(&o))
	return cmd
}

func (a *App) importDeleteCommand(o *listOptions) *cobra.Command {
	cmd := a.deleteSub(o, "Use an export of another project no longer", a.completeImports, a.importDelete)
	args := cmd.Args
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		if err := args(cmd, given); err != nil {
			return err
		}
		if project, export, ok := strings.Cut(given[0], "/"); !ok || project == "" || export == "" || strings.Contains(export, "/") {
			return usageError{cmd: cmd, msg: "Invalid format: '" + given[0] + "'. Expected <export-project>/<export-name>"}
		}
		return nil
	}
	return cmd
}

func (a *App) importDelete(ctx context.Context, s *session, name string, yes bool) error {
	if err := a.askUnless(ctx, yes, "Delete the import "+name+"?"); err != nil {
		return err
	}
	project, export, _ := strings.Cut(name, "/")
	if err := s.DeleteImport(ctx, project, export); err != nil {
		return err
	}
	a.Printf("Import %s deleted", name)
	return nil
}

func (a *App) completeImports(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	return namesOf(a, func(ctx context.Context, s *session) ([]api.Import, error) {
		answer, err := s.ListImports(ctx)
		return answer.Imports, err
	}, render.ImportName)(cmd, args, word)
}
