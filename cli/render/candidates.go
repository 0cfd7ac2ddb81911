package render

import (
	"dstack/cli/term"
	"dstack/protocol/api"
)

// CandidatesTable shows each fleet and host with what keeps a run from it.
func CandidatesTable(candidates []api.Candidate) term.Table {
	severalJobs := false
	for _, c := range candidates {
		severalJobs = severalJobs || c.JobName != candidates[0].JobName
	}
	t := term.Table{}
	if severalJobs {
		t.Columns = append(t.Columns, term.Column{Title: "JOB"})
	}
	t.Columns = append(t.Columns, term.Column{Title: "FLEET"}, term.Column{Title: "INSTANCE"}, term.Column{Title: "BACKEND"},
		term.Column{Title: "VERDICT"}, term.Column{Title: "REASON", Wrap: true})
	for _, c := range candidates {
		style := map[string]term.Style{api.CandidateFits: term.Success, api.CandidateBusy: term.Warning}[c.Verdict]
		instance := "-"
		if c.Instance != nil {
			instance = *c.Instance
		}
		cells := []term.Cell{term.T(c.Fleet), term.T(instance), term.T(Place(deref(c.Backend), "")), {Text: c.Verdict, Style: style}, term.T(c.Reason)}
		if severalJobs {
			cells = append([]term.Cell{term.T(c.JobName)}, cells...)
		}
		t.Rows = append(t.Rows, term.Row{Cells: cells, Note: c.Next, NoteStyle: term.Secondary})
	}
	return t
}
