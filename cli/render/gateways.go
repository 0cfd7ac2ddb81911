package render

import (
	"fmt"
	"time"

	"dstack/cli/term"
	"dstack/protocol/api"
)

// GatewayColumns are the columns of a table of gateways that not all show.
type GatewayColumns struct{ Created, Error bool }

// GatewaysTable is the table of `gateway` and of a gateway that is being
// applied. One replica shares the row of its gateway, unless the gateway has
// a hostname of its own and errors are shown, too.
func GatewaysTable(gateways []api.Gateway, project string, with GatewayColumns, when func(time.Time) string) term.Table {
	t := term.Table{Columns: []term.Column{
		{Title: "NAME"}, {Title: "BACKEND", Wrap: true}, {Title: "HOSTNAME"}, {Title: "DOMAIN"}, {Title: "DEFAULT"}, {Title: "STATUS"},
	}}
	if with.Created {
		t.Columns = append(t.Columns, term.Column{Title: "CREATED"})
	}
	if with.Error {
		t.Columns = append(t.Columns, term.Column{Title: "ERROR", Wrap: true})
	}
	row := func(style term.Style, cells []string, created time.Time, message *string) {
		if with.Created {
			cells = append(cells, when(created))
		}
		if with.Error {
			cells = append(cells, deref(message))
		}
		r := term.Row{Cells: styled(style, cells...)}
		if style == term.Plain {
			r.Cells[0].Style = term.Bold
		}
		t.Rows = append(t.Rows, r)
	}
	for _, g := range gateways {
		name, mark := g.Name, ""
		if g.ProjectName != "" && g.ProjectName != project {
			name = g.ProjectName + "/" + name
		}
		if g.Default {
			mark = "✓"
		}
		place, hostname := Place(deref(g.Backend), deref(g.Region)), deref(g.Hostname)
		merged := len(g.Replicas) == 0 || len(g.Replicas) == 1 && (hostname == "" || !with.Error)
		switch {
		case merged && len(g.Replicas) == 1:
			place = replicaPlace(g.Replicas[0], place)
			if hostname == "" {
				hostname = deref(g.Replicas[0].Hostname)
			}
		case !merged:
			place = ""
		}
		row(term.Plain, []string{name, place, hostname, deref(g.WildcardDomain), mark, string(g.Status)}, g.CreatedAt.Time, gatewayMessage(g, merged))
		if merged {
			continue
		}
		for _, r := range g.Replicas {
			row(term.Secondary, []string{fmt.Sprintf("   replica=%d", r.ReplicaNum), replicaPlace(r, ""), deref(r.Hostname), "", "", string(r.Status)}, r.CreatedAt.Time, r.StatusMessage)
		}
	}
	return t
}

func replicaPlace(r api.GatewayReplica, otherwise string) string {
	if place := Place(deref(r.Backend), deref(r.Region)); place != "" {
		return place
	}
	return otherwise
}

// gatewayMessage is what is wrong with a gateway or with its only replica.
func gatewayMessage(g api.Gateway, merged bool) *string {
	if g.StatusMessage == nil && merged && len(g.Replicas) == 1 {
		return g.Replicas[0].StatusMessage
	}
	return g.StatusMessage
}
