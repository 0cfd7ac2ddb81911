package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dstack/cli/render"
	"dstack/protocol/api"
)

const (
	listLimit   = 100
	watchPeriod = 2 * time.Second
)

type psOptions struct {
	project             string
	all, verbose, watch bool
	last                int
	output              outputOptions
}

func (a *App) psCommand() *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use: "ps", Short: "List runs", Args: noArgs,
		Long: "List the active runs of the project, or the last one if none is active.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkExclusive(cmd); err != nil {
				return err
			}
			return a.ps(cmd.Context(), o, cmd.Flags().Changed("last"))
		},
	}
	set := cmd.Flags()
	a.projectFlag(cmd, &o.project)
	set.BoolVarP(&o.all, "all", "a", false, "Show finished runs, too")
	set.BoolVarP(&o.verbose, "verbose", "v", false, "Show resources, machines and errors")
	set.BoolVarP(&o.watch, "watch", "w", false, "Watch the runs and redraw on change")
	set.IntVarP(&o.last, "last", "n", 0, "Show the last N runs, finished or not (at most 100)")
	o.output.define(set)
	return quietly(cmd)
}

// outputOptions choose between a table and JSON.
type outputOptions struct {
	json   bool
	format string
}

func (o *outputOptions) define(set *pflag.FlagSet) {
	set.Var(newChoice(&o.format, "plain", "plain", "json"), "format", "How to print the result: plain (default) or json")
	metavar(set, "format", "{plain,json}")
	set.BoolVar(&o.json, "json", false, "Same as --format json")
}

func (o *outputOptions) wantsJSON() bool { return o.json || o.format == "json" }

func (a *App) ps(ctx context.Context, o psOptions, limited bool) error {
	if o.output.wantsJSON() && o.watch {
		return errors.New("JSON output is not supported together with --watch")
	}
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	list := func(ctx context.Context) ([]api.Run, error) { return listRuns(ctx, s, o, limited) }
	if o.watch {
		return watch(ctx, a, list, func(runs []api.Run) string {
			return a.Render(render.RunsTable(runs, o.verbose, a.age))
		})
	}
	runs, err := list(ctx)
	if err != nil {
		return err
	}
	if o.output.wantsJSON() {
		return a.printJSON(struct {
			Project string    `json:"project"`
			Runs    []api.Run `json:"runs"`
		}{s.project, nonNil(runs)})
	}
	a.write(a.Render(render.RunsTable(runs, o.verbose, a.age)))
	return nil
}

func listRuns(ctx context.Context, s *session, o psOptions, limited bool) ([]api.Run, error) {
	limit := listLimit
	if limited {
		limit = o.last
	}
	onlyActive := !o.all && !limited
	runs, err := s.ListRuns(ctx, onlyActive, limit)
	if err != nil || len(runs) > 0 || !onlyActive {
		return runs, err
	}
	if runs, err = s.ListRuns(ctx, false, 1); err != nil || len(runs) > 0 {
		return runs, err
	}
	_, err = s.GetProject(ctx) // a server lists nothing for a project that it does not have
	return nil, err
}

// watch lists again and again and redraws on change, until ctx ends. Away
// from a terminal each change is printed below the last one.
func watch[T any](ctx context.Context, a *App, list func(context.Context) (T, error), draw func(T) string) error {
	return watchEvery(ctx, a, watchPeriod, list, draw)
}

func watchEvery[T any](ctx context.Context, a *App, period time.Duration, list func(context.Context) (T, error), draw func(T) string) error {
	live := a.Live()
	fetch := time.NewTicker(period)
	defer fetch.Stop()
	redraw := time.NewTicker(time.Second)
	defer redraw.Stop()
	last := ""
	items, err := list(ctx)
	for {
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		switch picture := draw(items); {
		case a.TTY:
			live.Body(picture)
		case picture != last:
			a.write(picture)
			last = picture
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-fetch.C:
			items, err = list(ctx)
		case <-redraw.C:
		}
	}
}

// age formats a time as its distance to now.
func (a *App) age(t time.Time) string { return render.Age(t, a.env.Now()) }

// write prints text that has its own line feeds.
func (a *App) write(text string) { _, _ = fmt.Fprint(a.Out, text) }
