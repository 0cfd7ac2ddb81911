package api

import "dstack/protocol/config"

// HealthStatus is how an instance is.
type HealthStatus string

// Health statuses.
const (
	Healthy       HealthStatus = "healthy"
	HealthWarning HealthStatus = "warning"
	HealthFailure HealthStatus = "failure"
)

// HealthCheck is what a look at an instance found.
type HealthCheck struct {
	CollectedAt Time                     `json:"collected_at"`
	Status      HealthStatus             `json:"status"`
	Events      config.List[HealthEvent] `json:"events"`
}

// HealthEvent is one thing that is wrong.
type HealthEvent struct {
	Timestamp Time         `json:"timestamp"`
	Status    HealthStatus `json:"status"`
	Message   string       `json:"message"`
}

// GetHealthChecksRequest is the body of instances/get_instance_health_checks.
type GetHealthChecksRequest struct {
	FleetName   string `json:"fleet_name"`
	InstanceNum int    `json:"instance_num"`
	After       *Time  `json:"after,omitempty"`
	Before      *Time  `json:"before,omitempty"`
	// Limit is all if absent.
	Limit *int `json:"limit,omitempty"`
}

// HealthChecks is the answer, newest first.
type HealthChecks struct {
	HealthChecks config.List[HealthCheck] `json:"health_checks"`
}
