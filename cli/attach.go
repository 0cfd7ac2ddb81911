package cli

import "github.com/spf13/cobra"

// attachCommand stands for a command that a later build brings: scripts get a
// plain sentence and exit code 1 instead of a usage error.
func (a *App) attachCommand() *cobra.Command {
	return &cobra.Command{
		Use: "attach run_name", Short: "Forward ports of a run and open SSH access to it (not in this build yet)",
		DisableFlagParsing: true,
		ValidArgsFunction:  a.completeRuns(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if arg == "-h" || arg == "--help" {
					a.help(cmd, nil)
					return nil
				}
			}
			return sentence("This build of dstack does not have `dstack attach` yet. Read the output of a run with: dstack logs -f run_name")
		},
	}
}
