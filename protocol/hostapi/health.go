package hostapi

import "time"

// Health statuses, as the REST API has them.
const (
	Healthy       = "healthy"
	HealthWarning = "warning"
	HealthFailure = "failure"
)

// Health is how the accelerators of a host are (spec: job-execution.md 8.2).
type Health struct {
	// Status is the worst of all incidents. A host with a failure gets no new
	// jobs; those that it has go on.
	Status string `json:"status"`
	// Incidents are at most [MaxIncidents].
	Incidents []Incident `json:"incidents,omitempty"`
}

// Incident is one thing that is wrong, for a person.
type Incident struct {
	Status string `json:"status"`
	// Message is at most [MaxIncidentText] bytes.
	Message string `json:"message"`
}

// HealthEvery is how often a host looks at its accelerators; MaxIncidents and
// MaxIncidentText bound what it tells.
const (
	HealthEvery     = time.Minute
	MaxIncidents    = 32
	MaxIncidentText = 512
)
