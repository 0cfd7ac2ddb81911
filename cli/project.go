package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"dstack/cli/term"
	"dstack/client/userconfig"
	"dstack/protocol/config"
)

func (a *App) projectCommand() *cobra.Command {
	var o projectListOptions
	list := func(cmd *cobra.Command, _ []string) error { return a.projectList(cmd.Context(), o) }
	menu := func(cmd *cobra.Command, args []string) error {
		if o.verbose || o.output.wantsJSON() || !a.Interactive() {
			return list(cmd, args)
		}
		return a.projectMenu(cmd.Context())
	}
	cmd := &cobra.Command{
		Use: "project {add,list,set-default,delete} ...", Short: "Manage the projects of this machine", Args: subCommand, RunE: menu,
		Long: "Manage the projects in ~/.dstack/config.yml. Without a sub-command a menu to choose the default project is shown or, away from a terminal, a list.",
	}
	sub := &cobra.Command{Use: "list", Short: "List projects", Args: noArgs, RunE: list}
	for _, c := range []*cobra.Command{cmd, sub} {
		c.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "Show the user, too")
		o.output.define(c.Flags())
	}
	cmd.AddCommand(a.projectAddCommand(), a.projectDeleteCommand(), sub, a.projectSetDefaultCommand())
	return cmd
}

type projectListOptions struct {
	verbose bool
	output  outputOptions
}

// projectEntry is a project as JSON shows it: without its token.
type projectEntry struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	User    string `json:"user,omitempty"`
	Default bool   `json:"default"`
}

func (a *App) projectList(ctx context.Context, o projectListOptions) error {
	file, err := a.userConfig()
	if err != nil {
		return err
	}
	var entries []projectEntry
	for _, p := range file.Projects() {
		e := projectEntry{Name: p.Name, URL: p.URL, Default: p.Default}
		if o.verbose {
			e.User = "(invalid token)"
			if s, err := a.session(userconfig.Target{URL: p.URL, Token: p.Token, Project: p.Name}); err == nil {
				if user, err := s.MyUser(ctx); err == nil {
					e.User = user.Username
				}
			}
		}
		entries = append(entries, e)
	}
	if o.output.wantsJSON() {
		return a.printJSON(struct {
			Projects []projectEntry `json:"projects"`
		}{nonNil(entries)})
	}
	t := term.Table{Columns: []term.Column{{Title: "PROJECT"}, {Title: "URL"}}}
	if o.verbose {
		t.Columns = append(t.Columns, term.Column{Title: "USER"})
	}
	t.Columns = append(t.Columns, term.Column{Title: "DEFAULT"})
	for _, e := range entries {
		style, mark := term.Plain, ""
		if e.Default {
			style, mark = term.Bold, "   ✓"
		}
		texts := []string{e.Name, e.URL}
		if o.verbose {
			texts = append(texts, e.User)
		}
		var row term.Row
		for _, text := range append(texts, mark) {
			row.Cells = append(row.Cells, term.Cell{Text: text, Style: style})
		}
		t.Rows = append(t.Rows, row)
	}
	a.write(a.Render(t))
	return nil
}

type projectAddOptions struct {
	name, url, token string
	yes, no          bool
}

func (a *App) projectAddCommand() *cobra.Command {
	var o projectAddOptions
	cmd := &cobra.Command{
		Use: "add", Short: "Add or update a project", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := require(cmd, "name", "url", "token"); err != nil {
				return err
			}
			if err := checkExclusive(cmd); err != nil {
				return err
			}
			return a.projectAdd(cmd.Context(), o)
		},
	}
	set := cmd.Flags()
	set.StringVar(&o.name, "name", "", "The name of the project")
	set.StringVar(&o.url, "url", "", "The URL of the server")
	set.StringVar(&o.token, "token", "", "Your token")
	set.BoolVarP(&o.yes, "yes", "y", false, "Make it the default project without asking")
	set.BoolVarP(&o.no, "no", "n", false, "Don't make it the default project")
	exclusive(set, "yes", "no")
	return cmd
}

// projectAdd checks a project with its server, then keeps it.
func (a *App) projectAdd(ctx context.Context, o projectAddOptions) error {
	file, err := a.userConfig()
	if err != nil {
		return err
	}
	s, err := a.session(userconfig.Target{URL: o.url, Token: o.token, Project: o.name})
	if err != nil {
		return err
	}
	if _, err := s.GetProject(ctx); err != nil {
		return err
	}
	entry := config.ClientProject{Name: o.name, URL: o.url, Token: o.token, Default: o.yes}
	current, hasDefault := file.Project("")
	if hasDefault && current.Name == o.name {
		entry.Default = true
	}
	if old, there := file.Project(o.name); there && entry.Default == old.Default && old == entry {
		a.Print("Nothing to change.")
		return nil
	}
	if !entry.Default && !o.no && hasDefault {
		if entry.Default, err = a.confirm(ctx, "Set '"+o.name+"' as your default project?"); err != nil {
			return err
		}
	}
	file.Put(entry)
	return a.saveProjects(file)
}

func (a *App) saveProjects(file *userconfig.File) error {
	if err := file.Save(); err != nil {
		return err
	}
	a.Printf("Configuration updated at %s", userconfig.Path(a.env.Home))
	return nil
}

func (a *App) projectDeleteCommand() *cobra.Command {
	var (
		name string
		yes  bool
	)
	cmd := &cobra.Command{
		Use: "delete", Short: "Forget a project; nothing changes on its server", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := require(cmd, "name"); err != nil {
				return err
			}
			if !yes {
				if ok, err := a.confirm(cmd.Context(), "Are you sure you want to delete project '"+name+"'?"); err != nil || !ok {
					return err
				}
			}
			return a.changeProjects(func(file *userconfig.File) error {
				file.Delete(name)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "The name of the project")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Don't ask for confirmation")
	if err := cmd.RegisterFlagCompletionFunc("name", a.completeProjects); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func (a *App) projectSetDefaultCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set-default [name]", Short: "Choose the default project", Args: names(0, 1, "name"),
		Long:              "Choose the default project: the named one or, on a terminal, one from a menu.",
		ValidArgsFunction: a.completeProjects,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && a.Interactive() {
				return a.projectMenu(cmd.Context())
			}
			if len(args) == 0 {
				return usageError{cmd: cmd, msg: "the following arguments are required: name"}
			}
			return a.changeProjects(func(file *userconfig.File) error {
				if !file.SetDefault(args[0]) {
					return missing("Project '%s' not found", args[0])
				}
				return nil
			})
		},
	}
}

// projectMenu lets the user choose the default project. Ctrl-C changes
// nothing.
func (a *App) projectMenu(ctx context.Context) error {
	file, err := a.userConfig()
	if err != nil {
		return err
	}
	projects := file.Projects()
	if len(projects) == 0 {
		return a.projectList(ctx, projectListOptions{})
	}
	items := make([]string, len(projects))
	for i, p := range projects {
		items[i] = fmt.Sprintf("%s (%s)", p.Name, p.URL)
	}
	current := slices.IndexFunc(projects, func(p config.ClientProject) bool { return p.Default })
	chosen, err := a.Select(ctx, "Select the default project:", items, current)
	if errors.Is(err, term.ErrInterrupted) || errors.Is(err, term.ErrNoInput) {
		a.Print("Cancelled by user")
		return nil
	}
	if err != nil {
		return err
	}
	return a.changeProjects(func(file *userconfig.File) error {
		file.SetDefault(projects[chosen].Name)
		return nil
	})
}

// changeProjects loads the file, changes it and saves it.
func (a *App) changeProjects(change func(*userconfig.File) error) error {
	file, err := a.userConfig()
	if err != nil {
		return err
	}
	if err := change(file); err != nil {
		return err
	}
	if err := file.Save(); err != nil {
		return err
	}
	a.Print("OK")
	return nil
}

// userConfig reads ~/.dstack/config.yml.
func (a *App) userConfig() (*userconfig.File, error) {
	file, err := userconfig.Load(userconfig.Path(a.env.Home))
	if err != nil {
		if _, bad := errors.AsType[config.Errors](err); bad {
			return nil, userError(err.Error() + "\nCorrect the file, or move it away and add your projects again with: dstack project add")
		}
		return nil, err
	}
	return file, nil
}

// profile finds the profile that the options and the environment select.
func (a *App) profile(name string, none bool) (config.Profile, error) {
	return a.loadProfile(config.ProfileChoice{
		Name: name, None: none, EnvName: a.env.Getenv("DSTACK_PROFILE"), EnvNone: a.env.Getenv("DSTACK_NO_PROFILE"),
	})
}

func (a *App) loadProfile(choice config.ProfileChoice) (config.Profile, error) {
	here, err := os.Getwd()
	if err != nil {
		return config.Profile{}, fmt.Errorf("find the working folder: %w", err)
	}
	profile, err := userconfig.LoadProfile(choice, here, a.env.Home)
	if err != nil {
		return profile, userError(capitalize(err.Error()))
	}
	return profile, nil
}

// completeProjects offers the projects of this machine.
func (a *App) completeProjects(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	file, err := a.userConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var all []string
	for _, p := range file.Projects() {
		all = append(all, p.Name)
	}
	return matching(all, word, args), cobra.ShellCompDirectiveNoFileComp
}
