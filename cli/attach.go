package cli

import (
	"context"

	"github.com/spf13/cobra"

	"dstack/cli/tunnel"
	"dstack/protocol/api"
)

const attachLong = `Attach to a run: forward the ports of one of its jobs to this machine, and make ` + "`ssh run_name`" + ` and IDE links work, until the run ends or you detach. A run that is on its way is waited for.

A connection that breaks is made again by itself. Ctrl-C offers to detach, stop or abort; pressed twice, it detaches, and so it does at once away from a terminal. The exit code is 0 after detaching and for a run that is done, else the exit status of the job, else 1.`

type attachFlags struct {
	project, host, since string
	ports                []string
	logs                 bool
	reachFlags
}

func (a *App) attachCommand() *cobra.Command {
	var o attachFlags
	cmd := &cobra.Command{
		Use: "attach run_name", Short: "Forward ports of a run and open SSH access to it", Long: attachLong,
		Args: names(1, 1, "run_name"), ValidArgsFunction: a.completeRuns(true),
		RunE: func(cmd *cobra.Command, args []string) error { return a.attach(cmd.Context(), cmd, o, args[0]) },
	}
	a.projectFlag(cmd, &o.project)
	set := cmd.Flags()
	o.define(set)
	set.BoolVar(&o.logs, "logs", false, "Show the log of the job, too")
	set.StringVar(&o.host, "host", "", "The local address to forward ports to, default localhost")
	set.StringArrayVarP(&o.ports, "port", "p", nil, "Forward a port of the run to another local port; can be given several times")
	metavar(set, "port", "MAPPING")
	set.StringVar(&o.since, "since", "", "With --logs: show what was written since this time: 10m, 2h, 1d, or RFC 3339")
	return quietly(cmd)
}

func (a *App) attach(ctx context.Context, cmd *cobra.Command, o attachFlags, name string) error {
	chosen, err := parsePorts(cmd, o.ports)
	if err != nil {
		return err
	}
	since, err := a.since(o.since)
	if err != nil {
		return err
	}
	s, err := a.connect(o.project)
	if err != nil {
		return err
	}
	run, err := s.findRun(ctx, name)
	if err != nil {
		return err
	}
	job, err := tunnel.Choose(run, o.replicaOrAny(), o.job)
	if err != nil {
		return sentence("%v", err)
	}
	if _, err := wantedPorts(job.JobSpec, chosen); err != nil {
		return err
	}
	if run.Status.Finished() && (run.Status != api.RunDone || !o.logs) {
		return sentence("Run %s is %s", name, run.Status)
	}
	return a.follow(ctx, s, run, !a.Interactive(), attachOptions{
		reachFlags: o.reachFlags, wanted: true, asked: true, host: o.host, chosen: chosen, logs: o.logs, since: since,
	})
}
