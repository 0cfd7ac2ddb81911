package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/client"
	"dstack/protocol/api"
)

func (a *App) sweepCommand() *cobra.Command {
	var (
		o            listOptions
		confirm, yes bool
	)
	cmd := &cobra.Command{
		Use: "sweep", Short: "Show machines of clouds that are in no fleet", Args: noArgs,
		Long: "Show machines of clouds that carry this server's tag and are in no fleet. The server ends such machines by itself if it is sure " +
			"that nobody needs them; others it leaves alone, for example after its database was restored. With --confirm those are ended, too.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.sweep(cmd.Context(), o, confirm, yes) },
	}
	a.projectFlag(cmd, &o.project)
	cmd.Flags().BoolVar(&confirm, "confirm", false, "End all that are shown")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Don't ask for confirmation")
	o.output.define(cmd.Flags())
	return quietly(cmd)
}

func (a *App) sweep(ctx context.Context, o listOptions, confirm, yes bool) error {
	if confirm && o.output.wantsJSON() && !yes {
		return sentence("JSON output together with --confirm needs -y")
	}
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	report, err := s.Sweep(ctx, nil)
	if client.IsUnsupported(err) {
		return sentence("This server can't look for such machines: it is older than this command line.")
	}
	if err != nil {
		return err
	}
	var held []string
	for _, m := range report.Machines {
		if m.Held != nil {
			held = append(held, m.ID)
		}
	}
	if !o.output.wantsJSON() {
		a.showStrays(report, len(held) > 0 && !confirm)
	}
	if confirm && len(held) > 0 {
		if err := a.askUnless(ctx, yes, fmt.Sprintf("End %d machines?", len(held))); err != nil {
			return err
		}
		if report, err = s.Sweep(ctx, held); err != nil {
			return err
		}
		if !o.output.wantsJSON() {
			a.showStrays(report, false)
		}
	}
	if o.output.wantsJSON() {
		return a.printIndented(report)
	}
	return nil
}

// showStrays shows what was found, what it costs, and how to end it.
func (a *App) showStrays(report api.SweepReport, advise bool) {
	a.warnings(report.Missing)
	if len(report.Machines) == 0 {
		a.Print("Every machine of this server is in a fleet.")
		return
	}
	a.write(a.Render(render.StraysTable(report.Machines, a.age)) + "\n")
	total := 0.0
	for _, m := range report.Machines {
		total += deref(m.Price)
	}
	text := fmt.Sprintf("Together they cost $%.4g an hour.", total)
	if advise {
		text += " If nobody needs them, end them: dstack server sweep --confirm"
	}
	a.Print(text)
}
