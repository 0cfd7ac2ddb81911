package api

import "dstack/protocol/config"

// UsageRequest is the body of metrics/usage, which 0.22.5 does not have.
type UsageRequest struct {
	// RunNames are the runs to tell about; none means all active ones.
	RunNames []string `json:"run_names,omitempty"`
}

// ProjectUsage is what the running jobs of a project use now.
type ProjectUsage struct {
	Jobs config.List[JobUsage] `json:"jobs"`
}

// JobUsage is what one running job uses. Sizes are bytes.
type JobUsage struct {
	RunName    string `json:"run_name"`
	ReplicaNum int    `json:"replica_num"`
	JobNum     int    `json:"job_num"`
	JobName    string `json:"job_name"`
	User       string `json:"user"`
	// Backend and Region say where the job is.
	Backend string `json:"backend"`
	Region  string `json:"region"`
	// RunningSince is when its commands began.
	RunningSince *Time `json:"running_since"`
	// MeasuredAt is when the newest values were taken; null means never.
	MeasuredAt *Time `json:"measured_at"`
	// CPUPercent is of one CPU, of which the job has CPUs; null until there
	// are two measurements.
	CPUPercent  *float64 `json:"cpu_percent"`
	CPUs        int      `json:"cpus"`
	MemoryBytes int64    `json:"memory_bytes"`
	// MemoryTotalBytes is what the job may use.
	MemoryTotalBytes int64                    `json:"memory_total_bytes"`
	GPUs             config.List[JobGPUUsage] `json:"gpus"`
}

// JobGPUUsage is what a job uses of one of its GPUs.
type JobGPUUsage struct {
	Name string `json:"name"`
	// UtilPercent is 0 to 100; null if the host can't tell.
	UtilPercent      *int  `json:"util_percent"`
	MemoryBytes      int64 `json:"memory_bytes"`
	MemoryTotalBytes int64 `json:"memory_total_bytes"`
}
