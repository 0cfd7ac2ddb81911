package render

import (
	"cmp"

	"dstack/cli/term"
	"dstack/protocol/api"
)

// CandidatesTable shows each fleet, host and offer of a backend with what keeps
// a run from it.
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
		cells := []term.Cell{
			term.T(cmp.Or(c.Fleet, "-")), term.T(candidateName(c)), term.T(Place(deref(c.Backend), c.Region)),
			{Text: c.Verdict, Style: style}, term.T(candidateReason(c)),
		}
		if severalJobs {
			cells = append([]term.Cell{term.T(c.JobName)}, cells...)
		}
		t.Rows = append(t.Rows, term.Row{Cells: cells, Note: c.Next, NoteStyle: term.Secondary})
	}
	return t
}

// candidateName is the instance, or the type of the cheapest of new ones.
func candidateName(c api.Candidate) string {
	switch {
	case c.Offers > 1:
		return "new " + c.Type + ", …"
	case c.Offers == 1:
		return "new " + c.Type
	}
	return cmp.Or(deref(c.Instance), "-")
}

// candidateReason is why not, or what one that fits would cost.
func candidateReason(c api.Candidate) string {
	if c.Reason == "" && c.Offers > 0 {
		return Price(c.Price, 4)
	}
	return c.Reason
}
