package api

import (
	"dstack/protocol/config"
	"dstack/protocol/internal/decode"
)

// ListGPUsRequest asks which accelerators a run could get, in groups.
type ListGPUsRequest struct {
	RunSpec RunSpec `json:"run_spec"`
	// GroupBy holds "backend", "region" and "count"; "region" needs "backend".
	GroupBy              []string `json:"group_by,omitempty"`
	Reverse              bool     `json:"reverse,omitempty"`
	FullOffers           bool     `json:"full_offers,omitempty"`
	UnallocatedResources bool     `json:"unallocated_resources,omitempty"`
}

func (r ListGPUsRequest) check(v decode.Value) {
	list := v.At(v.Node().Lookup("group_by"), "group_by")
	for i, by := range r.GroupBy {
		if by != "backend" && by != "region" && by != "count" {
			list.At(list.Node().Items[i], i).Fail("literal_error", "must be 'backend', 'region' or 'count'", "")
		}
	}
}

// ListGPUsResponse is the answer of gpus/list. CPUs is nil unless the run
// wants no GPU. Unlike everywhere else, null fields are left out.
type ListGPUsResponse struct {
	GPUs config.List[GPUGroup]  `json:"gpus"`
	CPUs *config.List[CPUGroup] `json:"cpus,omitempty"`
}

// GPUGroup is one kind of accelerator. Price is USD per hour and GPU,
// OfferPrice that of whole offers. Depending on the grouping, Backends or
// Backend and Regions or Region are set. Spot holds "spot" and "on-demand".
type GPUGroup struct {
	Name         string                 `json:"name"`
	MemoryMiB    int                    `json:"memory_mib"`
	Vendor       string                 `json:"vendor"`
	Availability config.List[string]    `json:"availability"`
	Spot         config.List[string]    `json:"spot"`
	Count        config.Range[int]      `json:"count"`
	Price        config.Range[float64]  `json:"price"`
	OfferPrice   *config.Range[float64] `json:"offer_price,omitempty"`
	Backends     []string               `json:"backends,omitempty"`
	Backend      *string                `json:"backend,omitempty"`
	Regions      []string               `json:"regions,omitempty"`
	Region       *string                `json:"region,omitempty"`
}

// CPUGroup is one kind of machine without accelerators.
type CPUGroup struct {
	CPUArch      config.List[string]   `json:"cpu_arch"`
	Count        config.Range[int]     `json:"count"`
	MemoryMiB    config.Range[int]     `json:"memory_mib"`
	Price        config.Range[float64] `json:"price"`
	Availability config.List[string]   `json:"availability"`
	Spot         config.List[string]   `json:"spot"`
	Backends     []string              `json:"backends,omitempty"`
	Backend      *string               `json:"backend,omitempty"`
	Regions      []string              `json:"regions,omitempty"`
	Region       *string               `json:"region,omitempty"`
}
