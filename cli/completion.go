package cli

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dstack/client/userconfig"
	"dstack/protocol/config"
)

// completionTime is how long a shell waits for names at most.
const completionTime = 2 * time.Second

// shells are those that have a completion script.
var shells = []string{"bash", "zsh", "fish", "powershell"}

func (a *App) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion {" + strings.Join(shells, ",") + "}", Short: "Print the completion script of a shell",
		Long: "Print the completion script of a shell. It completes commands, options and the names of what exists.\n\n" +
			"For bash: `source <(dstack completion bash)`. For PowerShell: `dstack completion powershell | Out-String | Invoke-Expression`.",
		ValidArgs: shells,
		Args:      names(1, 1, "shell"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Out, true)
			case "zsh":
				return root.GenZshCompletion(a.Out)
			case "fish":
				return root.GenFishCompletion(a.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.Out)
			}
			return usageError{cmd: cmd, msg: "argument shell: invalid choice: '" + args[0] + "' (choose from '" + strings.Join(shells, "', '") + "')"}
		},
	}
}

// completer finds the names that a word can be completed to.
type completer = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective)

// completeRuns offers the names of runs.
func (a *App) completeRuns(onlyActive bool) completer {
	return a.completeFrom(func(ctx context.Context, s *session) ([]string, error) {
		runs, err := s.ListRuns(ctx, onlyActive, listLimit)
		found := make([]string, len(runs))
		for i, run := range runs {
			found[i] = runName(run)
		}
		return found, err
	})
}

// completeFleets offers the names of the project's fleets.
func (a *App) completeFleets(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	return a.completeFrom(func(ctx context.Context, s *session) ([]string, error) {
		fleets, err := s.ListFleets(ctx)
		var found []string
		for _, fleet := range fleets {
			if fleet.ProjectName == s.project {
				found = append(found, fleet.Name)
			}
		}
		return found, err
	})(cmd, args, word)
}

// completeRunFlags completes the options that choose where a run goes.
func (a *App) completeRunFlags(cmd *cobra.Command) {
	fixed := func(values ...string) completer {
		return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	}
	a.completeFlag(cmd, "backend", fixed(config.BackendTypes...))
	a.completeFlag(cmd, "fleet", a.completeFleets)
	a.completeFlag(cmd, "profile", a.completeProfiles)
	a.completeFlag(cmd, "spot-policy", fixed("spot", "on-demand", "auto"))
	for _, flag := range []string{
		"cpu", "gpu", "memory", "disk", "max-price", "max-duration", "region", "instance-type", "idle-duration", "retry-duration", "max-offers",
	} {
		a.completeFlag(cmd, flag, cobra.NoFileCompletions)
	}
}

// completeProfiles offers the profiles of this folder and of the user.
func (a *App) completeProfiles(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	here, err := os.Getwd()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := userconfig.ProfileNames(here, a.env.Home)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return matching(all, word, nil), cobra.ShellCompDirectiveNoFileComp
}

// completeKind offers the names of one kind of thing.
func (a *App) completeKind(kind string) completer {
	return map[string]completer{
		"fleet": a.completeFleets, "run": a.completeRuns(false), "volume": a.completeVolumes,
		"gateway": a.completeGateways, "secret": a.completeSecrets,
	}[kind]
}

// completeFlag completes the values of an option.
func (a *App) completeFlag(cmd *cobra.Command, flag string, complete completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // the flag is defined by the caller
	}
}

// namesOf offers the names of what the server lists.
func namesOf[T any](a *App, list func(context.Context, *session) ([]T, error), name func(T) string) completer {
	return a.completeFrom(func(ctx context.Context, s *session) ([]string, error) {
		items, err := list(ctx, s)
		found := make([]string, len(items))
		for i, item := range items {
			found[i] = name(item)
		}
		return found, err
	})
}

// completeFrom offers what the server lists; an error offers nothing.
func (a *App) completeFrom(list func(context.Context, *session) ([]string, error)) completer {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		project := ""
		if f := cmd.Flags().Lookup("project"); f != nil {
			project = f.Value.String()
		}
		s, err := a.connect(project)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		all, err := list(ctx, s)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return matching(all, word, args), cobra.ShellCompDirectiveNoFileComp
	}
}

// matching keeps the names that begin with word and were not given yet.
func matching(all []string, word string, given []string) []string {
	taken := map[string]bool{}
	for _, name := range given {
		taken[name] = true
	}
	var found []string
	for _, name := range all {
		if strings.HasPrefix(name, word) && !taken[name] {
			found = append(found, name)
		}
	}
	return found
}

// completeYAML offers configuration files.
func completeYAML(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"yml", "yaml"}, cobra.ShellCompDirectiveFilterFileExt
}
