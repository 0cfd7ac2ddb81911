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
	for _, v := range volumes {
		conf := v.Configuration
		texts := []string{v.Name, Place(conf.Backend, conf.Region), string(v.Status), when(v.CreatedAt.Time)}
		if verbose {
			texts = []string{v.Name, conf.Backend, conf.Region, string(v.Status), attached(v), when(v.CreatedAt.Time), deref(v.StatusMessage)}
		}
		t.Rows = append(t.Rows, term.Row{Cells: styled(term.Plain, texts...)})
	}
	return t
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
