package render

import (
	"fmt"
	"time"

	"dstack/cli/term"
	"dstack/protocol/api"
)

// StraysTable is the table of `server sweep`.
func StraysTable(machines []api.StrayMachine, when func(time.Time) string) term.Table {
	t := term.Table{Columns: []term.Column{
		{Title: "PROJECT"}, {Title: "BACKEND"}, {Title: "MACHINE"}, {Title: "INSTANCE TYPE"}, {Title: "PRICE"}, {Title: "CREATED"}, {Title: "STATUS", Wrap: true},
	}}
	for _, m := range machines {
		created, price, kind := "-", "-", m.InstanceType
		if m.CreatedAt != nil {
			created = when(m.CreatedAt.Time)
		}
		if m.Price != nil {
			price = fmt.Sprintf("$%.4g", *m.Price)
		}
		if m.Spot {
			kind += " (spot)"
		}
		state := "being ended"
		if m.Held != nil {
			state = "left alone: " + *m.Held
		}
		if m.Trouble != nil {
			state += ": " + *m.Trouble
		}
		t.Rows = append(t.Rows, term.Row{Cells: styled(term.Plain, m.ProjectName, m.Backend+" ("+m.Region+")", m.InstanceID, kind, price, created, state)})
	}
	return t
}
