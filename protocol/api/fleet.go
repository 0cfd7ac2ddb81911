package api

import "dstack/protocol/config"

// InstanceStatus is the state of an instance (spec: rest-api.md 10).
type InstanceStatus string

// Instance statuses.
const (
	InstancePending      InstanceStatus = "pending"
	InstanceProvisioning InstanceStatus = "provisioning"
	InstanceIdle         InstanceStatus = "idle"
	InstanceBusy         InstanceStatus = "busy"
	InstanceTerminating  InstanceStatus = "terminating"
	InstanceTerminated   InstanceStatus = "terminated"
)

// InstanceReason is why an instance ended.
type InstanceReason string

// Reasons for which an instance ends.
const (
	ReasonInstanceTerminatedByUser    InstanceReason = "terminated_by_user"
	ReasonInstanceIdleTimeout         InstanceReason = "idle_timeout"
	ReasonInstanceProvisioningTimeout InstanceReason = "provisioning_timeout"
	ReasonInstanceError               InstanceReason = "error"
	ReasonInstanceNoOffers            InstanceReason = "no_offers"
	ReasonInstanceJobFinished         InstanceReason = "job_finished"
	ReasonInstanceMaxInstances        InstanceReason = "max_instances_limit"
	ReasonInstanceSpecMismatch        InstanceReason = "fleet_spec_mismatch"
	ReasonInstanceUnreachableTooLong  InstanceReason = "unreachable"
)

// FleetStatus is the state of a fleet.
type FleetStatus string

// Fleet statuses that occur.
const (
	FleetActive      FleetStatus = "active"
	FleetTerminating FleetStatus = "terminating"
	FleetTerminated  FleetStatus = "terminated"
)

// FleetSpec is what a user submits for a fleet.
type FleetSpec struct {
	Configuration     config.Fleet   `json:"configuration"`
	ConfigurationPath *string        `json:"configuration_path"`
	Profile           config.Profile `json:"profile"`
	Autocreated       bool           `json:"autocreated"`
}

// Fleet is a fleet as clients see it.
type Fleet struct {
	ID            string                `json:"id"`
	Name          string                `json:"name"`
	ProjectName   string                `json:"project_name"`
	Spec          FleetSpec             `json:"spec"`
	CreatedAt     Time                  `json:"created_at"`
	Status        FleetStatus           `json:"status"`
	StatusMessage *string               `json:"status_message"`
	Instances     config.List[Instance] `json:"instances"`
}

// FleetPlan is what would happen if a fleet were applied.
type FleetPlan struct {
	ProjectName     string             `json:"project_name"`
	User            string             `json:"user"`
	Spec            FleetSpec          `json:"spec"`
	EffectiveSpec   *FleetSpec         `json:"effective_spec"`
	CurrentResource *Fleet             `json:"current_resource"`
	Offers          config.List[Offer] `json:"offers"`
	TotalOffers     int                `json:"total_offers"`
	MaxOfferPrice   *float64           `json:"max_offer_price"`
	Action          string             `json:"action"`
	// Warnings are sentences for the user. Ours: 0.22.5 clients ignore it.
	Warnings []string `json:"warnings,omitempty"`
}

// Instance is one host as clients see it.
type Instance struct {
	ID                       string         `json:"id"`
	ProjectName              string         `json:"project_name"`
	Backend                  *string        `json:"backend"`
	InstanceType             *InstanceType  `json:"instance_type"`
	Name                     string         `json:"name"`
	FleetID                  *string        `json:"fleet_id"`
	FleetName                *string        `json:"fleet_name"`
	InstanceNum              int            `json:"instance_num"`
	JobName                  *string        `json:"job_name"`
	Hostname                 *string        `json:"hostname"`
	Status                   InstanceStatus `json:"status"`
	Unreachable              bool           `json:"unreachable"`
	HealthStatus             string         `json:"health_status"`
	TerminationReason        *string        `json:"termination_reason"`
	TerminationReasonMessage *string        `json:"termination_reason_message"`
	Created                  Time           `json:"created"`
	FinishedAt               *Time          `json:"finished_at"`
	Region                   *string        `json:"region"`
	AvailabilityZone         *string        `json:"availability_zone"`
	Price                    *float64       `json:"price"`
	TotalBlocks              *int           `json:"total_blocks"`
	BusyBlocks               int            `json:"busy_blocks"`
	GPUDriver                *GPUDriverInfo `json:"gpu_driver"`
	// Warning, which 0.22.5 does not know, is what may harm jobs one day.
	Warning *string `json:"warning,omitempty"`
}

// InstanceType is the shape of a machine.
type InstanceType struct {
	Name      string    `json:"name"`
	Resources Resources `json:"resources"`
}

// Resources is what a machine has. Sizes are MiB.
type Resources struct {
	CPUs        int              `json:"cpus"`
	MemoryMiB   int              `json:"memory_mib"`
	GPUs        config.List[GPU] `json:"gpus"`
	Spot        bool             `json:"spot"`
	Disk        Disk             `json:"disk"`
	CPUArch     *string          `json:"cpu_arch"`
	Description string           `json:"description"`
}

// GPU is one accelerator of a machine.
type GPU struct {
	Name      string  `json:"name"`
	MemoryMiB int     `json:"memory_mib"`
	Vendor    *string `json:"vendor"`
}

// Disk is the root disk of a machine.
type Disk struct {
	SizeMiB int `json:"size_mib"`
}

// Offer is a machine, or a share of one, that a job could use.
// Price is USD per hour. Availability is one of unknown, available,
// not_available, no_quota, no_balance, idle, busy.
type Offer struct {
	Backend           string          `json:"backend"`
	Instance          InstanceType    `json:"instance"`
	Region            string          `json:"region"`
	Price             float64         `json:"price"`
	BackendData       config.Map[any] `json:"backend_data"`
	Availability      string          `json:"availability"`
	AvailabilityZones []string        `json:"availability_zones"`
	InstanceRuntime   string          `json:"instance_runtime"`
	Blocks            int             `json:"blocks"`
	TotalBlocks       int             `json:"total_blocks"`
}
