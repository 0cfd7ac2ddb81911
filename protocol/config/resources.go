package config

// Range is an interval with optional ends; a nil end is open.
type Range[T int | float64] struct {
	Min *T `json:"min"`
	Max *T `json:"max"`
}

// CPU is what a run asks of the processor (spec: configuration.md 2.3).
type CPU struct {
	// Arch is "x86", "arm" or nil for any.
	Arch  *string    `json:"arch"`
	Count Range[int] `json:"count"`
}

// GPU is what a run asks of accelerators (spec: configuration.md 2.4).
// Memory sizes are gigabytes (1 GB = 1024 MB in this notation).
type GPU struct {
	Vendor            *string         `json:"vendor"`
	Name              []string        `json:"name"`
	Count             Range[int]      `json:"count"`
	Memory            *Range[float64] `json:"memory"`
	TotalMemory       *Range[float64] `json:"total_memory"`
	ComputeCapability []int           `json:"compute_capability"`
}

// Disk is the wanted size of the root disk in gigabytes.
type Disk struct {
	Size Range[float64] `json:"size"`
}

// Resources is what one job needs of its host (spec: configuration.md 3).
type Resources struct {
	CPU     CPU            `json:"cpu"`
	Memory  Range[float64] `json:"memory"`
	ShmSize *float64       `json:"shm_size"`
	GPU     *GPU           `json:"gpu"`
	Disk    *Disk          `json:"disk"`
}
