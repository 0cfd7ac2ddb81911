package offers

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dstack/protocol/accelerator"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/reason"
)

const mibPerGB = 1024

// ErrCannotSplit means that a host's resources cannot be divided as asked.
var ErrCannotSplit = errors.New("Cannot split into blocks") //nolint:staticcheck // the text that 0.22.5 shows

// SplitBlocks says into how many blocks a host is divided.
func SplitBlocks(want config.Blocks, res api.Resources) (int, error) {
	n := want.Count
	gpus := len(res.GPUs)
	if want.Auto {
		n = res.CPUs
		if gpus > 0 {
			n = min(res.CPUs, gpus)
		}
	}
	n = max(n, 1)
	if res.CPUs%n != 0 || gpus%n != 0 {
		return 0, fmt.Errorf("%w: %d CPUs and %d GPUs do not divide by %d", ErrCannotSplit, res.CPUs, gpus, n)
	}
	return n, nil
}

// Share is what b of total blocks have: CPUs, memory and GPUs are divided,
// the disk is not.
func Share(res api.Resources, total, b int) api.Resources {
	if total <= 1 || b >= total {
		return res
	}
	share := res
	share.CPUs = res.CPUs / total * b
	share.MemoryMiB = res.MemoryMiB / total * b
	share.GPUs = slices.Clone(res.GPUs[:len(res.GPUs)/total*b])
	return share
}

// resourcesReason says what is missing.
func resourcesReason(req api.Requirements, have api.Resources) refusal {
	want := req.Resources
	if want.CPU.Arch != nil && (have.CPUArch == nil || *have.CPUArch != *want.CPU.Arch) {
		return because(reason.CPUArch, "needs an %s CPU", *want.CPU.Arch)
	}
	if !within(want.CPU.Count, have.CPUs) {
		return because(reason.CPUCount, "needs %s, has %d", countText(want.CPU.Count, "CPU"), have.CPUs)
	}
	if mem := gb(have.MemoryMiB); !within(want.Memory, mem) {
		return because(reason.Memory, "needs %s of memory, has %s", rangeText(want.Memory, "GB"), gbText(mem))
	}
	if size := gb(have.Disk.SizeMiB); want.Disk != nil && have.Disk.SizeMiB != 0 && !within(want.Disk.Size, size) {
		return because(reason.Disk, "needs %s of disk, has %s", rangeText(want.Disk.Size, "GB"), gbText(size))
	}
	if req.Spot != nil && *req.Spot != have.Spot {
		if *req.Spot {
			return because(reason.Spot, "is not a spot instance")
		}
		return because(reason.Spot, "is a spot instance")
	}
	return gpuReason(want.GPU, have.GPUs)
}

func gpuReason(want *config.GPU, have []api.GPU) refusal {
	if want == nil {
		return refusal{}
	}
	if len(have) == 0 {
		if want.Count.Min == nil || *want.Count.Min == 0 {
			return refusal{}
		}
		return because(reason.GPUNone, "needs a GPU, has none")
	}
	first := have[0]
	if want.Vendor != nil && (first.Vendor == nil || *first.Vendor != *want.Vendor) {
		return because(reason.GPUVendor, "needs a GPU of %s", *want.Vendor)
	}
	if !within(want.Count, len(have)) {
		return because(reason.GPUCount, "needs %s, has %d", countText(want.Count, "GPU"), len(have))
	}
	if len(want.Name) > 0 && !oneOf(want.Name, first.Name) {
		return because(reason.GPUName, "needs GPU %s, has %s", strings.Join(want.Name, " or "), first.Name)
	}
	mem := gb(first.MemoryMiB)
	if want.Memory != nil && !within(*want.Memory, mem) {
		return because(reason.GPUMemory, "needs %s of memory in each GPU, has %s", rangeText(*want.Memory, "GB"), gbText(mem))
	}
	if all := mem * float64(len(have)); want.TotalMemory != nil && !within(*want.TotalMemory, all) {
		return because(reason.GPUTotalMemory, "needs %s of GPU memory in total, has %s", rangeText(*want.TotalMemory, "GB"), gbText(all))
	}
	if len(want.ComputeCapability) > 0 {
		if model, _ := accelerator.Find(first.Name); model.Capability == nil || slices.Compare(model.Capability, want.ComputeCapability) < 0 {
			return because(reason.GPUCapability, "needs a GPU of compute capability %s or more", dotted(want.ComputeCapability))
		}
	}
	return refusal{}
}

func dotted(version []int) string {
	parts := make([]string, len(version))
	for i, n := range version {
		parts[i] = fmt.Sprint(n)
	}
	return strings.Join(parts, ".")
}

func gb(mib int) float64 { return float64(mib) / mibPerGB }

func gbText(v float64) string { return fmt.Sprintf("%.4gGB", v) }

func within[T int | float64](r config.Range[T], v T) bool {
	return (r.Min == nil || v >= *r.Min) && (r.Max == nil || v <= *r.Max)
}

// countText is rangeText with what is counted: "exactly 1 CPU", "2 to 4 CPUs".
func countText(r config.Range[int], what string) string {
	if r.Max == nil || *r.Max != 1 {
		what += "s"
	}
	return rangeText(r, "") + " " + what
}

// rangeText writes a range for a person: "exactly 4GB", "4GB or more", "2GB to 4GB".
func rangeText[T int | float64](r config.Range[T], unit string) string {
	switch {
	case r.Min != nil && r.Max != nil && *r.Min == *r.Max:
		return fmt.Sprintf("exactly %v%s", *r.Min, unit)
	case r.Min != nil && r.Max != nil:
		return fmt.Sprintf("%v%s to %v%s", *r.Min, unit, *r.Max, unit)
	case r.Min != nil:
		return fmt.Sprintf("%v%s or more", *r.Min, unit)
	case r.Max != nil:
		return fmt.Sprintf("at most %v%s", *r.Max, unit)
	}
	return "any"
}
