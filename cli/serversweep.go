package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"dstack/cli/render"
	"dstack/client"
	"dstack/protocol/api"
)

// sweepOptions say what of the list is to end.
type sweepOptions struct {
	listOptions

	confirm, volumes, yes bool
}

func (a *App) sweepCommand() *cobra.Command {
	var o sweepOptions
	cmd := &cobra.Command{
		Use: "sweep", Short: "Show machines, volumes and addresses of clouds that are nobody's", Args: noArgs,
		Long: "Show machines of clouds that carry this server's tag and are in no fleet, its volumes that are in no project, and addresses that " +
			"outlived their machine. The server ends such machines and addresses by itself if it is sure that nobody needs them; others it leaves " +
			"alone, for example after its database was restored. With --confirm those are ended, too. Volumes stay until they are deleted with " +
			"--confirm --volumes.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.sweep(cmd.Context(), o) },
	}
	a.projectFlag(cmd, &o.project)
	cmd.Flags().BoolVar(&o.confirm, "confirm", false, "End all that are shown but volumes")
	cmd.Flags().BoolVar(&o.volumes, "volumes", false, "With --confirm: delete the volumes that are shown, too, with their data")
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "Don't ask for confirmation")
	o.output.define(cmd.Flags())
	return quietly(cmd)
}

func (a *App) sweep(ctx context.Context, o sweepOptions) error {
	if o.confirm && o.output.wantsJSON() && !o.yes {
		return sentence("JSON output together with --confirm needs -y")
	}
	if o.volumes && !o.confirm {
		return sentence("--volumes needs --confirm")
	}
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	report, err := s.Sweep(ctx, nil, nil)
	if client.IsUnsupported(err) {
		return sentence("This server can't look for such machines: it is older than this command line.")
	}
	if err != nil {
		return err
	}
	held, volumes := heldStrays(report)
	if !o.output.wantsJSON() {
		a.showStrays(report)
		a.adviseSweep(o, len(held), len(volumes))
	}
	if !o.volumes {
		volumes = nil
	}
	if o.confirm && len(held)+len(volumes) > 0 {
		if err := a.askUnless(ctx, o.yes, sweepQuestion(len(held), len(volumes))); err != nil {
			return err
		}
		if report, err = s.Sweep(ctx, held, volumes); err != nil {
			return err
		}
		if !o.output.wantsJSON() {
			a.showStrays(report)
		}
	}
	if o.output.wantsJSON() {
		return a.printIndented(report)
	}
	return nil
}

// heldStrays are the ids of what is left alone: volumes, and the others.
func heldStrays(report api.SweepReport) (held, volumes []string) {
	for _, m := range report.Machines {
		switch {
		case m.Held == nil:
		case m.Kind == "volume":
			volumes = append(volumes, m.ID)
		default:
			held = append(held, m.ID)
		}
	}
	return held, volumes
}

func sweepQuestion(held, volumes int) string {
	switch {
	case volumes == 0:
		return fmt.Sprintf("End %d machines?", held)
	case held == 0:
		return fmt.Sprintf("Delete %d volumes with their data?", volumes)
	}
	return fmt.Sprintf("End %d machines, and delete %d volumes with their data?", held, volumes)
}

// adviseSweep says how to end what is left alone.
func (a *App) adviseSweep(o sweepOptions, held, volumes int) {
	if held > 0 && !o.confirm {
		a.Print("If nobody needs them, end them: dstack server sweep --confirm")
	}
	if volumes > 0 && !o.volumes {
		a.Print("If nobody needs the data of the volumes, delete them: dstack server sweep --confirm --volumes")
	}
}

// showStrays shows what was found, and what it costs.
func (a *App) showStrays(report api.SweepReport) {
	a.warnings(report.Missing)
	switch {
	case len(report.Machines) > 0:
	case len(report.Missing) > 0:
		a.Print("Every machine of this server that was shown is in a fleet.")
		return
	default:
		a.Print("Every machine of this server is in a fleet.")
		return
	}
	a.write(a.Render(render.StraysTable(report.Machines, a.age)) + "\n")
	total := 0.0
	for _, m := range report.Machines {
		total += deref(m.Price)
	}
	a.Print(fmt.Sprintf("Together they cost $%.4g an hour.", total))
}
