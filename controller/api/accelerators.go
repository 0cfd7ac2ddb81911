package api

import (
	"regexp"
	"slices"
	"strings"

	"dstack/protocol/config"
)

// tpuName is VERSION-CORES of a TPU.
var tpuName = regexp.MustCompile(`^(v2|v3|v4|v5p|v5litepod|v6e)-\d+$`)

// knownNames are the accelerators that 0.22.5 knows by vendor, in lower case
// (spec: configuration.md 4).
func knownNames() map[string]string {
	return map[string]string{
		config.VendorNvidia: "p100 v100 t4 rtx6000 rtx2060 rtx2060super rtx2070 rtx2070super rtx2080 rtx2080super rtx2080ti a100 " +
			"a10 a10g a16 a40 a4000 a4500 a5000 a6000 rtx3050 rtx3060 rtx3060ti rtx3070 rtx3070ti rtx3080 rtx3080ti rtx3090 " +
			"rtx3090ti l4 l40 l40s rtx4060 rtx4060ti rtx4070 rtx4070super rtx4070ti rtx4070tisuper rtx4080 rtx4080super " +
			"rtx4090 rtx2000ada rtx4000ada rtx6000ada h100 h100nvl h200 h200nvl gh200 b200 gb200 b300 gb300 rtx5060 " +
			"rtx5060ti rtx5070 rtx5070ti rtx5080 rtx5090 rtxpro4500 rtxpro6000",
		config.VendorAMD:         "mi100 mi210 mi250 mi250x mi300a mi300x mi308x mi325x mi350x mi355x",
		config.VendorIntel:       "gaudi gaudi2 gaudi3",
		config.VendorTenstorrent: "n150 n300 tt-galaxy-wh p100a p150 p300 tt-galaxy-bh",
	}
}

// vendorOf is the vendor of an accelerator by its name; empty if unknown.
func vendorOf(name string) string {
	name = strings.ToLower(name)
	if tpuName.MatchString(name) {
		return config.VendorGoogle
	}
	for vendor, names := range knownNames() {
		if slices.Contains(strings.Fields(names), name) {
			return vendor
		}
	}
	return ""
}

// commonVendor is the vendor of all names; empty if they differ or one is
// unknown.
func commonVendor(names []string) string {
	vendor := ""
	for i, name := range names {
		v := vendorOf(name)
		if v == "" || i > 0 && v != vendor {
			return ""
		}
		vendor = v
	}
	return vendor
}
