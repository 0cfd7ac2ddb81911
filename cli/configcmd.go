package cli

import (
	"github.com/spf13/cobra"

	"dstack/client/userconfig"
)

// configCommand is the older form of `project add` and `project delete`.
func (a *App) configCommand() *cobra.Command {
	var (
		o      projectAddOptions
		remove bool
	)
	cmd := &cobra.Command{
		Use: "config", Short: "Add or remove a project (older form of `project`)", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.Warn("`dstack config` is deprecated. Use `dstack project add` or `dstack project delete`.")
			if err := checkExclusive(cmd); err != nil {
				return err
			}
			switch {
			case o.name == "":
				return sentence("Specify --project")
			case remove:
				return a.changeProjects(func(file *userconfig.File) error {
					file.Delete(o.name)
					return nil
				})
			case o.url == "":
				return sentence("Specify --url")
			case o.token == "":
				return sentence("Specify --token")
			}
			return a.projectAdd(cmd.Context(), o)
		},
	}
	set := cmd.Flags()
	set.StringVar(&o.name, "project", a.env.Getenv("DSTACK_PROJECT"), "The name of the project")
	set.StringVar(&o.url, "url", "", "The URL of the server")
	set.StringVar(&o.url, "server", "", "Same as --url")
	set.StringVar(&o.token, "token", "", "Your token")
	set.BoolVarP(&o.yes, "yes", "y", false, "Make it the default project without asking")
	set.BoolVarP(&o.no, "no", "n", false, "Don't make it the default project")
	exclusive(set, "yes", "no")
	set.BoolVar(&o.yes, "default", false, "Same as --yes")
	set.BoolVar(&o.no, "no-default", false, "Same as --no")
	hide(set, "server", "default", "no-default")
	set.BoolVar(&remove, "remove", false, "Remove the project")
	return cmd
}
