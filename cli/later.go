package cli

import "github.com/spf13/cobra"

// laterCommands are the commands of 0.22.5 that a later build brings.
var laterCommands = map[string]string{
	"attach":  "Forward ports of a run and open SSH access to it",
	"export":  "Share fleets with other projects",
	"import":  "Use fleets of other projects",
	"gateway": "Manage gateways",
	"offer":   "List machines and prices",
	"login":   "Log in by single sign-on",
	"preset":  "Manage presets",
	"secret":  "Manage secrets",
	"volume":  "Manage volumes",
}

// laterCommand stands for a command that this build does not have: scripts
// get a plain sentence and exit code 1 instead of a usage error.
func (a *App) laterCommand(name string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: laterCommands[name] + " (not in this build yet)",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if arg == "-h" || arg == "--help" {
					a.help(cmd, nil)
					return nil
				}
			}
			return sentence("This build of dstack does not have `dstack %s` yet.", name)
		},
	}
}
