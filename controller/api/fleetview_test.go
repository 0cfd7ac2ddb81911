package api

import (
	"strings"
	"testing"

	"dstack/protocol/hostapi"
)

func TestWarningOfAHost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		info *hostapi.Info
		want string
	}{
		"unknown":         {nil, ""},
		"no live-restore": {&hostapi.Info{Runtime: hostapi.Docker}, "live-restore"},
		"live-restore":    {&hostapi.Info{Runtime: hostapi.Docker, LiveRestore: true}, ""},
		"health":          {&hostapi.Info{LiveRestore: true, Health: &hostapi.Health{Status: "warning", Incidents: []hostapi.Incident{{Message: "GPU 3 is hot"}}}}, "GPU 3 is hot"},
		"processes":       {&hostapi.Info{Runtime: hostapi.Process}, ""},
		"worse":           {&hostapi.Info{Runtime: hostapi.Docker, Problem: &hostapi.Problem{Code: "no_docker"}}, ""},
	} {
		got := warningOf(c.info)
		if got == nil && c.want != "" || got != nil && (c.want == "" || !strings.Contains(*got, c.want)) {
			t.Errorf("%s: warning = %v, want %q in it", name, got, c.want)
		}
	}
}
