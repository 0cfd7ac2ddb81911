package config

import "encoding/json"

// ProfileParams are the settings that a profile and a run configuration
// share (spec: configuration.md 5). It is embedded, so it must not define
// MarshalJSON or UnmarshalJSON: they would be promoted.
// Durations are seconds.
type ProfileParams struct {
	Backends          []string           `json:"backends"`
	Regions           []string           `json:"regions"`
	AvailabilityZones []string           `json:"availability_zones"`
	InstanceTypes     []string           `json:"instance_types"`
	Reservation       *string            `json:"reservation"`
	SpotPolicy        *string            `json:"spot_policy"`
	Retry             *RetryPolicy       `json:"retry"`
	MaxDuration       *OffableDuration   `json:"max_duration"`
	StopDuration      *OffableDuration   `json:"stop_duration"`
	MaxPrice          *float64           `json:"max_price"`
	CreationPolicy    *string            `json:"creation_policy"`
	IdleDuration      *int               `json:"idle_duration"`
	UtilizationPolicy *UtilizationPolicy `json:"utilization_policy"`
	StartupOrder      *string            `json:"startup_order"`
	StopCriteria      *string            `json:"stop_criteria"`
	Schedule          *Schedule          `json:"schedule"`
	Fleets            []EntityReference  `json:"fleets"`
	Instances         []InstanceSelector `json:"instances"`
	Tags              map[string]string  `json:"tags"`
	BackendOptions    []json.RawMessage  `json:"backend_options"`
}

// Profile is a named set of defaults.
type Profile struct {
	ProfileParams
	Name    string `json:"name"`
	Default bool   `json:"default"`
}

// RetryPolicy is `retry`: true, false, or which events for how long.
// On the wire it is a boolean or an object.
type RetryPolicy struct {
	// Bool is set for the boolean form; the other fields are then unused.
	Bool *bool
	// OnEvents holds "no-capacity", "interruption", "error"; nil means all.
	OnEvents []string
	// Duration is seconds; nil means one hour.
	Duration *int
}

// OffableDuration is a number of seconds or "off".
type OffableDuration struct {
	Off     bool
	Seconds int
}

// UtilizationPolicy stops a run whose GPUs stay unused.
type UtilizationPolicy struct {
	MinGPUUtilization int `json:"min_gpu_utilization"`
	TimeWindow        int `json:"time_window"`
}

// Schedule starts a run at the times of its cron expressions, in UTC.
type Schedule struct {
	Cron []string `json:"cron"`
}

// EntityReference names a fleet or gateway, maybe of another project.
type EntityReference struct {
	Project *string `json:"project"`
	Name    string  `json:"name"`
}

// InstanceSelector picks existing instances: by name, by hostname, or by
// fleet and number. Exactly one of the three forms is set.
type InstanceSelector struct {
	Name     *string
	Hostname *string
	Fleet    *EntityReference
	Instance *int
}
