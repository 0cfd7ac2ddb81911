// Package accelerator knows the accelerators of 0.22.5: vendors, names,
// memory, compute capability (spec: configuration.md 4).
package accelerator

import (
	"regexp"
	"slices"
	"strings"
)

// Vendors.
const (
	Nvidia      = "nvidia"
	AMD         = "amd"
	Google      = "google"
	Intel       = "intel"
	Tenstorrent = "tenstorrent"
)

// Model is an accelerator as it is sold.
type Model struct {
	Vendor string
	// Name is the one in configurations and offers.
	Name string
	// MemoryGB are the sizes of its variants; none for TPUs, whose memory is
	// not known.
	MemoryGB []int
	// Capability is the compute capability, major and minor; NVIDIA only.
	Capability []int
}

// tpuName is VERSION-CORES.
var tpuName = regexp.MustCompile(`^(v2|v3|v4|v5p|v5litepod|v6e)-\d+$`)

// Find gives the model of a name, whose case does not matter.
func Find(name string) (Model, bool) {
	if tpuName.MatchString(strings.ToLower(name)) {
		return Model{Vendor: Google, Name: name}, true
	}
	i := slices.IndexFunc(models, func(m Model) bool { return strings.EqualFold(m.Name, name) })
	if i < 0 {
		return Model{}, false
	}
	return models[i], true
}

// VendorOf is the vendor of an accelerator by its name; empty if unknown.
func VendorOf(name string) string {
	m, _ := Find(name)
	return m.Vendor
}

// CommonVendor is the vendor of all names; empty if they differ or one is
// unknown.
func CommonVendor(names []string) string {
	vendor := ""
	for i, name := range names {
		v := VendorOf(name)
		if v == "" || i > 0 && v != vendor {
			return ""
		}
		vendor = v
	}
	return vendor
}
