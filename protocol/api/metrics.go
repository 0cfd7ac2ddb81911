package api

import "dstack/protocol/config"

// JobMetricsRequest is the query of GET metrics/job/{run_name}.
type JobMetricsRequest struct {
	RunID      *string `json:"run_id" as:"uuid"`
	ReplicaNum int     `json:"replica_num,omitempty"`
	JobNum     int     `json:"job_num,omitempty"`
	// Limit is 1 if absent.
	Limit *int `json:"limit"`
	// After is the first time that counts, Before the first that does not.
	After  *Time `json:"after"`
	Before *Time `json:"before"`
}

// JobMetrics is what a job used, one series for each name of spec
// rest-api.md 7.5.
type JobMetrics struct {
	Metrics config.List[Metric] `json:"metrics"`
}

// Metric is one series, the newest value first.
type Metric struct {
	Name       string               `json:"name"`
	Timestamps config.List[Time]    `json:"timestamps"`
	Values     config.List[float64] `json:"values"`
}
