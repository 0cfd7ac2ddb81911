package health

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"dstack/protocol/hostapi"
)

// ailment is a field of nvidia-smi with what a value other than the good one
// means.
type ailment struct {
	field string
	// bad says whether a value is one.
	bad     func(value string) bool
	status  string
	message string
}

func yes(value string) bool { return value == "Yes" }

// counted says whether a counter was ever moved; "[N/A]" has none.
func counted(value string) bool {
	return value != "" && strings.Trim(value, "0123456789") == "" && strings.Trim(value, "0") != ""
}

func ailments() []ailment {
	return []ailment{
		{"remapped_rows.failure", yes, hostapi.HealthFailure, "a row of its memory could not be replaced: the GPU has to be exchanged"},
		{"remapped_rows.pending", yes, hostapi.HealthWarning, "rows of its memory are to be replaced: reset the GPU or reboot the host"},
		{"retired_pages.pending", yes, hostapi.HealthWarning, "pages of its memory are to be retired: reset the GPU or reboot the host"},
		{"ecc.errors.uncorrected.volatile.total", counted, hostapi.HealthFailure, "its memory had errors that could not be corrected: reset the GPU or reboot the host"},
	}
}

// smi asks nvidia-smi for what the driver counts.
func (c Checker) smi(ctx context.Context, tool string) []hostapi.Incident {
	ask := ailments()
	out, err := c.Run(ctx, tool, query(ask)...)
	if err != nil && strings.Contains(string(out)+failure(err), "not a valid field") {
		ask = nil // an old driver, which still says whether its GPUs answer
		out, err = c.Run(ctx, tool, query(ask)...)
	}
	if err == nil {
		var incidents []hostapi.Incident
		if incidents, err = parseSMI(out, ask); err == nil {
			return incidents
		}
	}
	status := hostapi.HealthFailure
	if errors.Is(err, exec.ErrNotFound) {
		status = hostapi.HealthWarning
	}
	// The tool writes to stdout what is wrong with a GPU.
	return []hostapi.Incident{{Status: status, Message: fmt.Sprintf("nvidia-smi fails: %s %s", failure(err), out)}}
}

func query(ask []ailment) []string {
	fields := []string{"index", "uuid"}
	for _, a := range ask {
		fields = append(fields, a.field)
	}
	return []string{"--query-gpu=" + strings.Join(fields, ","), "--format=csv,noheader,nounits"}
}

func parseSMI(out []byte, ask []ailment) ([]hostapi.Incident, error) {
	r := csv.NewReader(strings.NewReader(string(out)))
	r.TrimLeadingSpace, r.FieldsPerRecord = true, 2+len(ask)
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read state of GPUs: %w", err)
	}
	var incidents []hostapi.Incident
	for _, row := range rows {
		for i, a := range ask {
			if a.bad(strings.TrimSpace(row[2+i])) {
				incidents = append(incidents, hostapi.Incident{Status: a.status, Message: fmt.Sprintf("GPU %s (%s): %s", row[0], row[1], a.message)})
			}
		}
	}
	return incidents, nil
}
