package cli

import (
	"context"
	"errors"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"dstack/cli/logurl"
	"dstack/cli/tunnel"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// parsePorts reads the mappings of -p.
func parsePorts(cmd *cobra.Command, texts []string) ([]config.PortMapping, error) {
	var ports []config.PortMapping
	for _, text := range texts {
		task, err := parseField(map[string]any{"ports": []any{scalar(text)}})
		if err != nil {
			return nil, argumentError(cmd, "port", "invalid port_mapping value: '%s': %s", text, faultOf(err))
		}
		ports = append(ports, task.Ports[0])
	}
	return ports, nil
}

// wantedPorts are the ports of a job to forward: those that it declares, a
// service's own, with the local ports that the user chose (spec: cli.md 12.3).
func wantedPorts(job api.JobSpec, chosen []config.PortMapping) ([]tunnel.Want, error) {
	var wants []tunnel.Want
	for _, app := range job.AppSpecs {
		wants = append(wants, tunnel.Want{Remote: app.Port, Local: deref(app.MapToPort)})
	}
	if port := job.ServicePort; port != nil && find(wants, *port) == nil {
		wants = append(wants, tunnel.Want{Remote: *port})
	}
	for _, p := range chosen {
		want := find(wants, p.ContainerPort)
		if want == nil {
			return nil, sentence("Cannot override port %d not exposed by the run", p.ContainerPort)
		}
		want.Local = deref(p.LocalPort)
	}
	return wants, nil
}

func find(wants []tunnel.Want, remote int) *tunnel.Want {
	for i := range wants {
		if wants[i].Remote == remote {
			return &wants[i]
		}
	}
	return nil
}

// takePorts takes local ports. One that another dstack of this user forwards
// to the same job is shared with it.
func (a *App) takePorts(ctx context.Context, host string, wants []tunnel.Want, job jobOnServer) (*tunnel.Listeners, error) {
	for {
		ports, err := tunnel.Listen(ctx, host, wants)
		taken, ok := errors.AsType[*tunnel.PortError](err)
		if !ok {
			return ports, err
		}
		shared := false
		for i, want := range wants {
			if want.Local == taken.Port && !want.Shared && a.forwarded(job, host, want) {
				wants[i].Shared, shared = true, true
			}
		}
		if !shared {
			return nil, err
		}
	}
}

// portFault turns a local port that is taken into advice.
func portFault(err error, verb, command string, wants []tunnel.Want) error {
	taken, ok := errors.AsType[*tunnel.PortError](err)
	if !ok {
		return err
	}
	remote := taken.Port
	for _, want := range wants {
		if want.Local == taken.Port {
			remote = want.Remote
		}
	}
	return sentence("Failed to %s: port %d is already in use. Use -p in dstack %s to override the local port mapping, e.g. -p %d:%d.",
		verb, taken.Port, command, taken.Port+1, remote)
}

// jobURLs rewrites the URLs in a job's output to its forwarded ports.
func jobURLs(spec api.JobSpec, at *api.JobProvisioningData, host string, forwards []tunnel.Forward) *logurl.Rewriter {
	query := map[int]map[string]string{}
	for _, app := range spec.AppSpecs {
		query[app.Port] = app.URLQueryParams
	}
	if host == "" || host == "localhost" || host == "*" || host == "0.0.0.0" {
		host = "127.0.0.1"
	}
	targets := map[int]logurl.Target{}
	for _, f := range forwards {
		targets[f.Want.Remote] = logurl.Target{Base: "http://" + net.JoinHostPort(host, strconv.Itoa(f.Local)), Query: query[f.Want.Remote]}
	}
	var addresses []string
	if at != nil {
		addresses = []string{deref(at.Hostname), deref(at.InternalIP)}
	}
	return logurl.New(targets, addresses...)
}
