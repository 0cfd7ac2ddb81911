package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dstack/cli/term"
)

type presetOptions struct {
	verbose, watch, json, all bool
	last                      int
	base, repo                string
}

// presetCommand works on the presets that dstack 0.22.5 left in
// ~/.dstack/presets. Creating them is the work of an external coding agent,
// and their registry is a hosted product: both are left out.
func (a *App) presetCommand() *cobra.Command {
	var (
		o       presetOptions
		project string
	)
	run := func(cmd *cobra.Command, _ []string) error {
		for c := cmd; c != nil; c = c.Parent() {
			if err := checkExclusive(c); err != nil {
				return err
			}
		}
		return a.presetList(o)
	}
	cmd := &cobra.Command{
		Use: "preset {list,get,create,logs,stop,resume,export,push,pull,delete} ...", Short: "Manage presets",
		Long: "Manage the presets in ~/.dstack/presets. This dstack creates none: that is the work of an external coding agent, which is left out.",
		Args: subCommand, RunE: run,
	}
	list := &cobra.Command{Use: "list", Short: "List presets", Args: noArgs, RunE: run}
	for _, c := range []*cobra.Command{cmd, list} {
		set := c.Flags()
		a.projectFlag(c, &project)
		set.BoolVarP(&o.verbose, "verbose", "v", false, "Show resources, too")
		set.BoolVarP(&o.watch, "watch", "w", false, "Accepted for 0.22.5; nothing changes here by itself")
		set.BoolVar(&o.json, "json", false, "Print JSON")
		set.BoolVarP(&o.all, "all", "a", false, "Show all presets, not only the last one")
		set.IntVarP(&o.last, "last", "n", 0, "Show the last N presets")
		metavar(set, "last", "COUNT")
		set.StringVar(&o.base, "base", "", "Only presets for this base model")
		metavar(set, "base", "MODEL")
		set.StringVar(&o.repo, "repo", "", "Only presets for this model repo")
		exclusive(set, "base", "repo")
	}
	cmd.AddCommand(list, a.presetGetCommand(), a.presetExportCommand(), a.presetDeleteCommand(), a.presetLogsCommand(),
		a.presetCreateCommand(), a.leftOut("stop ID", "Stop creating a preset", 'y'), a.leftOut("resume ID", "Go on creating a preset", 0),
		a.registryCommand("push ID PROJECT/NAME", "Upload a preset to a registry", 2),
		a.registryCommand("pull PROJECT/NAME", "Download a preset from a registry", 1))
	return cmd
}

func (a *App) presetList(o presetOptions) error {
	all, err := loadPresets(a.env.Home, a.warn)
	if err != nil {
		return err
	}
	shown := []storedPreset{}
	for _, p := range all {
		if (o.base == "" || p.text("base") == o.base) && (o.repo == "" || p.text("repo") == o.repo) {
			shown = append(shown, p)
		}
	}
	switch filtered := o.base != "" || o.repo != ""; {
	case o.last > 0:
		shown = shown[:min(o.last, len(shown))]
	case !o.all && !filtered:
		shown = shown[:min(1, len(shown))]
	}
	if o.json {
		return a.printJSON(struct {
			Presets []storedPreset `json:"presets"`
		}{shown})
	}
	t := term.Table{Columns: []term.Column{{Title: "NAME"}, {Title: "ID"}, {Title: "BASE"}}}
	if o.verbose {
		t.Columns = append(t.Columns, term.Column{Title: "RESOURCES"})
	}
	t.Columns = append(t.Columns, term.Column{Title: "CONSTRAINTS"}, term.Column{Title: "BENCHMARK"}, term.Column{}, term.Column{Title: "STATUS"}, term.Column{Title: "SUBMITTED"})
	for _, p := range shown {
		cells := []term.Cell{term.T(p.text("name")), term.T(p.ID), term.T(p.text("base"))}
		if o.verbose {
			cells = append(cells, term.T("-"))
		}
		t.Rows = append(t.Rows, term.Row{Cells: append(cells, term.T(presetContext(p)), term.T(presetSpeed(p)), term.T(""), term.T("done"), term.T(a.age(p.made)))})
	}
	a.write(a.Render(t) + "\n")
	return nil
}

// presetContext is the length of context that a preset was made for.
func presetContext(p storedPreset) string {
	if n, ok := p.fields["context_length"].(int); ok {
		return fmt.Sprintf("context=%d", n)
	}
	return "-"
}

// presetSpeed is what was measured: output tokens a second.
func presetSpeed(p storedPreset) string {
	benchmark, _ := p.fields["benchmark"].(map[string]any)
	metrics, _ := benchmark["metrics"].(map[string]any)
	switch speed := metrics["output_tok_per_s"].(type) {
	case float64:
		return fmt.Sprintf("%.0f tok/s", speed)
	case int:
		return fmt.Sprintf("%d tok/s", speed)
	}
	return "-"
}

func (a *App) presetGetCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "get ID", Short: "Show one preset as JSON", Args: names(1, 1, "ID"), ValidArgsFunction: a.completePresets,
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := a.findPreset(args[0])
			if err != nil {
				return err
			}
			return a.printJSON(p)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", true, "Print JSON (the only format)")
	return cmd
}

func (a *App) presetExportCommand() *cobra.Command {
	var (
		file, name string
		force      bool
	)
	cmd := &cobra.Command{
		Use: "export ID", Short: "Write the service of a preset to a file", Args: names(1, 1, "ID"), ValidArgsFunction: a.completePresets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := require(cmd, "file"); err != nil {
				return err
			}
			p, err := a.findPreset(args[0])
			if err != nil {
				return err
			}
			data, err := p.service(name)
			if err != nil {
				return err
			}
			return a.writeNew(file, data, force)
		},
	}
	set := cmd.Flags()
	set.StringVarP(&file, "file", "f", "", "Where to write it")
	metavar(set, "file", "FILE")
	set.StringVarP(&name, "name", "n", "", "The name of the service")
	set.BoolVar(&force, "force", false, "Overwrite the file")
	return cmd
}

// writeNew writes a file that must not be there yet, unless force is set.
func (a *App) writeNew(file string, data []byte, force bool) error {
	path := expandHome(file, a.env.Home)
	if _, err := os.Lstat(path); err == nil && !force {
		return sentence("%s already exists. Use --force to overwrite", file)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("write the service: %w", err)
	}
	a.Print("OK")
	return nil
}

func (a *App) presetDeleteCommand() *cobra.Command {
	var (
		base, repo string
		yes        bool
	)
	cmd := &cobra.Command{
		Use: "delete [ID]", Short: "Delete presets of this machine", Args: names(0, 1, "ID"), ValidArgsFunction: a.completePresets,
		RunE: func(cmd *cobra.Command, args []string) error {
			doomed, question, err := a.doomedPresets(cmd, args, base, repo)
			if err != nil {
				return err
			}
			if err := a.askUnless(cmd.Context(), yes, question); err != nil {
				return err
			}
			for _, p := range doomed {
				if err := os.RemoveAll(p.folder); err != nil {
					return fmt.Errorf("delete preset %s: %w", p.ID, err)
				}
			}
			a.Print("OK")
			return nil
		},
	}
	cmd.Flags().StringVar(&base, "base", "", "Delete the presets for this base model")
	metavar(cmd.Flags(), "base", "MODEL")
	cmd.Flags().StringVar(&repo, "repo", "", "Delete the presets for this model repo")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Don't ask for confirmation")
	return cmd
}

func (a *App) doomedPresets(cmd *cobra.Command, args []string, base, repo string) ([]storedPreset, string, error) {
	given := len(args)
	for _, filter := range []string{base, repo} {
		if filter != "" {
			given++
		}
	}
	if given != 1 {
		return nil, "", usageError{cmd: cmd, msg: "exactly one of the arguments ID --base --repo is required"}
	}
	if len(args) == 1 {
		p, err := a.findPreset(args[0])
		return []storedPreset{p}, "Delete preset " + p.ID + " for " + p.text("base") + "?", err
	}
	all, err := loadPresets(a.env.Home, a.warn)
	if err != nil {
		return nil, "", err
	}
	var doomed []storedPreset
	for _, p := range all {
		if base != "" && p.text("base") == base || repo != "" && p.text("repo") == repo {
			doomed = append(doomed, p)
		}
	}
	if doomed == nil {
		return nil, "", missing("There are no presets for %s", base+repo)
	}
	return doomed, fmt.Sprintf("Delete %d presets for %s?", len(doomed), base+repo), nil
}

func (a *App) presetLogsCommand() *cobra.Command {
	var follow, keep bool
	cmd := &cobra.Command{
		Use: "logs ID", Short: "Show what the agent wrote while it created a preset", Args: names(1, 1, "ID"), ValidArgsFunction: a.completePresets,
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := os.Open(filepath.Join(presetFolder(a.env.Home), filepath.Base(args[0]), "agent.log"))
			if err != nil {
				return missing("Unknown preset: %s", args[0])
			}
			_, err = io.Copy(a.Out, file)
			return errors.Join(err, file.Close())
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "Accepted for 0.22.5; no preset is being created here")
	cmd.Flags().BoolVar(&keep, "keep-service", false, "Accepted for 0.22.5")
	return cmd
}

func (a *App) completePresets(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	all, err := loadPresets(a.env.Home, func(string) {})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ids := make([]string, len(all))
	for i, p := range all {
		ids[i] = p.ID
	}
	return matching(ids, word, args), cobra.ShellCompDirectiveNoFileComp
}
