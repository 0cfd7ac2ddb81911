package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/cli/term"
	"dstack/client"
	"dstack/protocol/api"
)

func (a *App) whyCommand() *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use: "why run_name", Short: "Say why a run waits, or how it ended", Args: names(1, 1, "run_name"),
		Long:              "Say why a run is in its state and what to do: for each job, and for each fleet and host why the run can or can't use it now.",
		ValidArgsFunction: a.completeRuns(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.why(cmd.Context(), o, args[0])
		},
	}
	a.projectFlag(cmd, &o.project)
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "Go on showing it as it changes")
	o.output.define(cmd.Flags())
	return quietly(cmd)
}

func (a *App) why(ctx context.Context, o listOptions, name string) error {
	if o.output.wantsJSON() && o.watch {
		return sentence("JSON output is not supported together with --watch")
	}
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	explain := func(ctx context.Context) (api.RunWhy, error) {
		why, err := s.ExplainRun(ctx, name)
		switch {
		case client.IsNotExist(err):
			return why, missing("Run %s not found", name)
		case client.IsUnsupported(err):
			return why, sentence("This server can't say why: it is older than this command line.")
		}
		return why, err
	}
	if o.watch {
		return watch(ctx, a, explain, a.explanation)
	}
	why, err := explain(ctx)
	if err != nil {
		return err
	}
	if o.output.wantsJSON() {
		return a.printIndented(why)
	}
	a.write(a.explanation(why))
	return nil
}

// explanation writes why a run is in its state.
func (a *App) explanation(why api.RunWhy) string {
	var b strings.Builder
	say := func(indent, state, next string) {
		b.WriteString(indent + state + "\n")
		if next != "" {
			b.WriteString(indent + a.Paint(term.Secondary, next) + "\n")
		}
	}
	say("", a.Paint(term.Bold, why.State), why.Next)
	for _, job := range why.Jobs {
		if job.State != why.State {
			say("  ", job.State, job.Next)
		}
		if message := strings.TrimSpace(deref(job.Message)); message != "" && !strings.Contains(job.State, message) {
			b.WriteString("  " + message + "\n")
		}
	}
	if len(why.Candidates) > 0 {
		b.WriteString("\n" + a.Render(render.CandidatesTable(why.Candidates)))
	}
	return b.String()
}
