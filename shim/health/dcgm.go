package health

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"dstack/protocol/hostapi"
)

// dcgm asks DCGM's host engine. ok is false where there is none: neither its
// tool, nor an engine that answers.
func (c Checker) dcgm(ctx context.Context) (incidents []hostapi.Incident, ok bool) {
	// Group 0 is all GPUs. The tool prints why it failed to stdout.
	out, err := c.Run(ctx, "dcgmi", "health", "--check", "--json")
	if bytes.Contains(out, []byte("watches not enabled")) {
		if _, err := c.Run(ctx, "dcgmi", "health", "--set", "a"); err != nil {
			return nil, false
		}
		out, err = c.Run(ctx, "dcgmi", "health", "--check", "--json")
	}
	if err != nil {
		return nil, false
	}
	incidents, err = parseDCGM(out)
	return incidents, err == nil
}

// node is an element of dcgmi's JSON: a value with what belongs to it.
type node struct {
	Value    string          `json:"value"`
	Overflow []string        `json:"overflow"`
	Children map[string]node `json:"children"`
}

// overall is where dcgmi says how all is; beside it are the kinds of entities:
// GPUs, switches.
const overall = "Overall Health"

// parseDCGM reads the report of `dcgmi health --check --json`.
func parseDCGM(out []byte) ([]hostapi.Incident, error) {
	var report struct {
		Body map[string]node `json:"body"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return nil, fmt.Errorf("read report of dcgmi: %w", err)
	}
	all, found := report.Body[overall]
	if !found {
		return nil, fmt.Errorf("read report of dcgmi: it has no %q", overall)
	}
	var incidents []hostapi.Incident
	for _, kind := range slices.Sorted(maps.Keys(report.Body)) {
		entities := report.Body[kind].Children
		for _, id := range slices.Sorted(maps.Keys(entities)) {
			systems := entities[id].Children["Errors"].Children
			for _, system := range slices.Sorted(maps.Keys(systems)) {
				message := fmt.Sprintf("%s %s, %s:", kind, id, system)
				for _, line := range systems[system].Overflow {
					message += " " + line
				}
				if s := dcgmStatus(systems[system].Value); s != hostapi.Healthy {
					incidents = append(incidents, hostapi.Incident{Status: s, Message: message})
				}
			}
		}
	}
	if s := dcgmStatus(all.Value); worse(s, judge(incidents).Status) {
		incidents = append(incidents, hostapi.Incident{Status: s, Message: "DCGM reports: " + all.Value})
	}
	return incidents, nil
}

// dcgmStatus reads DCGM's word for a result: its codes 0, 10 and 20.
func dcgmStatus(word string) string {
	switch word {
	case "Healthy":
		return hostapi.Healthy
	case "Failure":
		return hostapi.HealthFailure
	}
	return hostapi.HealthWarning
}
