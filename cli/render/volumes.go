package render

import (
	"slices"
	"strings"
	"time"

	"dstack/cli/term"
	"dstack/protocol/api"
)

// VolumesTable is the table of `volume` and of a volume that is being applied.
func VolumesTable(volumes []api.Volume, verbose bool, when func(time.Time) string) term.Table {
	t := term.Table{Columns: []term.Column{{Title: "NAME"}, {Title: "BACKEND", Wrap: true}, {Title: "STATUS"}, {Title: "CREATED"}}}
	if verbose {
		t.Columns = []term.Column{
			{Title: "NAME"}, {Title: "BACKEND"}, {Title: "REGION"}, {Title: "STATUS"}, {Title: "ATTACHED", Wrap: true},
			{Title: "CREATED"}, {Title: "ERROR", Wrap: true},
		}
	}
	costs := verbose && slices.ContainsFunc(volumes, hasPrice)
	if costs { // our own: 0.22.5 shows what a volume costs in its web UI only
		t.Columns = slices.Insert(t.Columns, len(t.Columns)-1, term.Column{Title: "COST"})
	}
	for _, v := range volumes {
		conf := v.Configuration
		texts := []string{v.Name, Place(conf.Backend, conf.Region), string(v.Status), when(v.CreatedAt.Time)}
		if verbose {
			texts = []string{v.Name, conf.Backend, conf.Region, string(v.Status), attached(v), when(v.CreatedAt.Time), deref(v.StatusMessage)}
		}
		if costs {
			texts = slices.Insert(texts, len(texts)-1, cost(v))
		}
		t.Rows = append(t.Rows, term.Row{Cells: styled(term.Plain, texts...)})
	}
	return t
}

func hasPrice(v api.Volume) bool { return v.ProvisioningData != nil && v.ProvisioningData.Price != nil }

// cost is what a volume has cost so far, and what it costs a month.
func cost(v api.Volume) string {
	if !hasPrice(v) {
		return "-"
	}
	return Price(v.Cost, 2) + " (" + Price(*v.ProvisioningData.Price, 2) + "/month)"
}

// attached lists the fleets that a volume is attached to.
func attached(v api.Volume) string {
	var fleets []string
	for _, a := range v.Attachments {
		name := a.Instance.Name
		if a.Instance.FleetName != nil {
			name = *a.Instance.FleetName
		}
		if !slices.Contains(fleets, name) {
			fleets = append(fleets, name)
		}
	}
	if fleets == nil {
		return "-"
	}
	return strings.Join(fleets, ", ")
}
