package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"dstack/cli/term"
)

// listOptions are the options of commands that list one kind of thing.
type listOptions struct {
	project        string
	watch, verbose bool
	output         outputOptions
}

// listing is a command that lists one kind of thing: by itself and as its
// sub-command "list".
type listing[T any] struct {
	name, subs, short string
	// key names the list in JSON.
	key string
	// verbose is the help of -v; a listing without it has no such option.
	verbose string
	// unwatched listings have no -w: nothing changes by itself.
	unwatched bool
	list      func(context.Context, *session) ([]T, error)
	table     func(items []T, project string, verbose bool) term.Table
}

// listCommand makes the command of a listing. Its sub-commands share the
// option --project of o.
func listCommand[T any](a *App, o *listOptions, l listing[T]) *cobra.Command {
	run := func(cmd *cobra.Command, _ []string) error { return showList(cmd.Context(), a, *o, l) }
	cmd := &cobra.Command{
		Use: l.name + " {" + l.subs + "} ...", Short: l.short, Args: subCommand, RunE: run,
		Long: l.short + ". Without a sub-command they are listed.",
	}
	list := &cobra.Command{Use: "list", Short: "List " + l.key, Args: noArgs, RunE: run}
	for _, c := range []*cobra.Command{cmd, list} {
		a.projectFlag(c, &o.project)
		if !l.unwatched {
			c.Flags().BoolVarP(&o.watch, "watch", "w", false, "Watch the "+l.key+" and redraw on change")
		}
		if l.verbose != "" {
			c.Flags().BoolVarP(&o.verbose, "verbose", "v", false, l.verbose)
		}
		o.output.define(c.Flags())
	}
	cmd.AddCommand(quietly(list))
	return quietly(cmd)
}

func showList[T any](ctx context.Context, a *App, o listOptions, l listing[T]) error {
	if o.output.wantsJSON() && o.watch {
		return sentence("JSON output is not supported together with --watch")
	}
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	list := func(ctx context.Context) ([]T, error) { return l.list(ctx, s) }
	draw := func(items []T) string { return a.Render(l.table(items, s.project, o.verbose)) + "\n" }
	if o.watch {
		return watch(ctx, a, list, draw)
	}
	items, err := list(ctx)
	if err != nil {
		return err
	}
	if o.output.wantsJSON() {
		return a.printJSON(listJSON{s.project, l.key, nonNil(items)})
	}
	a.write(draw(items))
	return nil
}

// listJSON is a list as JSON shows it: {"project": ..., KEY: [...]}.
type listJSON struct {
	project, key string
	items        any
}

// MarshalJSON writes the two fields.
func (l listJSON) MarshalJSON() ([]byte, error) {
	project, err := json.Marshal(l.project)
	if err != nil {
		return nil, fmt.Errorf("write project: %w", err)
	}
	items, err := json.Marshal(l.items)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", l.key, err)
	}
	return fmt.Appendf(nil, `{"project":%s,"%s":%s}`, project, l.key, items), nil
}

// getCommand makes the sub-command that shows one thing as JSON.
func getCommand[T any](a *App, o *listOptions, what string, complete completer, get func(context.Context, *session, string) (T, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "get NAME", Short: "Show one " + what + " as JSON", Args: names(1, 1, "NAME"),
		ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect(o.project)
			if err != nil {
				return err
			}
			found, err := get(cmd.Context(), s, args[0])
			if err != nil {
				return err
			}
			return a.printIndented(found)
		},
	}
	a.projectFlag(cmd, &o.project)
	cmd.Flags().BoolVar(&asJSON, "json", true, "Print JSON (the only format)")
	return cmd
}

// deleteSub makes the sub-command that deletes one thing by its name.
func (a *App) deleteSub(o *listOptions, short string, complete completer, remove func(ctx context.Context, s *session, name string, yes bool) error) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete name", Short: short, Args: names(1, 1, "name"),
		ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect(o.project)
			if err != nil {
				return err
			}
			return remove(cmd.Context(), s, args[0], yes)
		},
	}
	a.projectFlag(cmd, &o.project)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Don't ask for confirmation")
	return cmd
}

// askUnless asks unless yes was given; no ends the command.
func (a *App) askUnless(ctx context.Context, yes bool, question string) error {
	if yes {
		return nil
	}
	return a.confirmOrExit(ctx, question)
}
