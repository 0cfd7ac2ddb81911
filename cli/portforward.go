package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dstack/cli/tunnel"
)

type forwardOptions struct {
	jobFlags

	host string
	json bool
}

func (a *App) portForwardCommand() *cobra.Command {
	var o forwardOptions
	cmd := &cobra.Command{
		Use: "port-forward run_name [local:]remote ...", Short: "Forward local ports to ports of a running job", Args: names(2, -1, "run_name, [local:]remote"),
		Long: "Forward local ports to ports of a running job, also to those that its configuration does not name, until Ctrl-C. " +
			"The connection is made again by itself when it breaks.\n\n" +
			"8080:80 forwards the local port 8080 to port 80 of the job, 80 the same port here, :80 any that is free. " +
			"8080:/path.sock forwards to a unix socket of the job.",
		Example:           "  dstack port-forward my-run 6006\n  dstack port-forward my-run :8888 5432:/run/postgresql/.s.PGSQL.5432",
		ValidArgsFunction: a.completeFirst(a.completeRuns(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var wants []tunnel.Want
			for _, arg := range args[1:] {
				want, err := parseForward(arg)
				if err != nil {
					return usageError{cmd: cmd, msg: fmt.Sprintf("argument [local:]remote: invalid value: '%s' (%v)", arg, err)}
				}
				wants = append(wants, want)
			}
			return a.portForward(cmd.Context(), o, args[0], wants)
		},
	}
	set := cmd.Flags()
	set.StringVar(&o.host, "host", "localhost", "The local address to listen on")
	metavar(set, "host", "ADDR")
	set.BoolVar(&o.json, "json", false, "Print the forwarded ports as JSON")
	o.define(a, cmd, false)
	return quietly(cmd)
}

// anySocketPort is where the search for a free local port of a socket begins.
const anySocketPort = 8000

// parseForward reads [local:]remote.
func parseForward(arg string) (tunnel.Want, error) {
	local, remote, two := strings.Cut(arg, ":")
	if !two {
		local, remote = arg, arg
	}
	var want tunnel.Want
	var err error
	if path.IsAbs(remote) {
		if !two {
			return want, errors.New("name a local port, or :/path for any")
		}
		want.Socket, want.Remote = path.Clean(remote), anySocketPort
	} else if want.Remote, err = parsePort(remote); err != nil {
		return want, err
	}
	if local != "" && local != "*" {
		want.Local, err = parsePort(local)
	}
	return want, err
}

func parsePort(text string) (int, error) {
	port, err := strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return 0, errors.New("ports are 1 to 65535")
	}
	return port, nil
}

func (a *App) portForward(ctx context.Context, o forwardOptions, name string, wants []tunnel.Want) error {
	ports, err := tunnel.Listen(ctx, o.host, wants)
	if taken, ok := errors.AsType[*tunnel.PortError](err); ok {
		return sentence("%v. Take any free one with :%d", taken, remoteOf(wants, taken.Port))
	}
	if err != nil {
		return err
	}
	defer ports.Close() //nolint:errcheck // the command is over
	lost := func() { a.warn("The connection to run " + name + " was lost. Connecting again...") }
	link, err := a.linkJob(ctx, name, o.jobFlags, lost, func() { a.Warn("Connected again.") })
	if err != nil {
		return err
	}
	defer link.close()
	ports.Serve(link.Tunnel) //nolint:contextcheck // until they are closed
	if err := a.printForwards(o, name, ports.Forwards()); err != nil {
		return err
	}
	<-link.ctx.Done()
	return context.Cause(link.ctx) //nolint:contextcheck // made of ctx
}

// remoteOf is the remote port for which a local one was wanted.
func remoteOf(wants []tunnel.Want, local int) int {
	for _, w := range wants {
		if w.Local == local {
			return w.Remote
		}
	}
	return local
}

// forwardedPort is a forwarded port as JSON shows it.
type forwardedPort struct {
	URL    string `json:"url"`
	Local  int    `json:"local"`
	Remote int    `json:"remote,omitempty"`
	Socket string `json:"socket,omitempty"`
}

func (a *App) printForwards(o forwardOptions, name string, forwards []tunnel.Forward) error {
	host := o.host
	if host == "*" || host == "0.0.0.0" || host == "" {
		host = "localhost"
	}
	list := make([]forwardedPort, len(forwards))
	for i, f := range forwards {
		list[i] = forwardedPort{URL: "http://" + net.JoinHostPort(host, strconv.Itoa(f.Local)), Local: f.Local, Remote: f.Want.Remote}
		if f.Want.Socket != "" {
			list[i].Remote, list[i].Socket = 0, f.Want.Socket
		}
	}
	if o.json {
		return a.printJSON(struct {
			RunName string          `json:"run_name"`
			Ports   []forwardedPort `json:"ports"`
		}{name, list})
	}
	a.Print("Forwarded ports (local -> remote):")
	for _, f := range list {
		to := f.Socket
		if to == "" {
			to = strconv.Itoa(f.Remote)
		}
		a.Printf("  - %s -> %s", f.URL, to)
	}
	a.Print("Press Ctrl+C to stop...")
	return nil
}
