package render

import (
	"strings"

	"dstack/cli/term"
	"dstack/protocol/api"
)

// Painter puts text into a style, or not where colours are off.
type Painter interface {
	Paint(s term.Style, text string) string
}

// Event writes one line: time, who, about what, message. Things of another
// project than project carry its name.
func Event(e api.Event, project string, p Painter) string {
	var b strings.Builder
	b.WriteString(p.Paint(term.Secondary, "["+e.RecordedAt.Local().Format("2006-01-02 15:04:05")+"]"))
	if e.ActorUser != nil {
		b.WriteString(" " + p.Paint(term.Secondary, "[👤"+*e.ActorUser+"]"))
	}
	targets := make([]string, len(e.Targets))
	for i, t := range e.Targets {
		name := t.Name
		if t.ProjectName != nil && *t.ProjectName != project && t.Type != "project" {
			name = *t.ProjectName + "/" + name
		}
		targets[i] = t.Type + " " + name
	}
	b.WriteString(" [" + p.Paint(term.Code, strings.Join(targets, ", ")) + "] ")
	b.WriteString(strings.Join(strings.Fields(e.Message), " "))
	return b.String()
}
