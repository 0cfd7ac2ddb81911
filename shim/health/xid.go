package health

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"dstack/protocol/hostapi"
)

// xidLine is how NVIDIA's driver reports an error: PCI address, number, text.
var xidLine = regexp.MustCompile(`NVRM: Xid \(PCI:([0-9A-Fa-f:.]{1,20})\): (\d{1,4}), ([^\n]{0,400})`)

// severity is what a number says of the GPU itself (NVIDIA's "XID errors");
// the other numbers are faults of the program that used it.
func severity(xid int) string {
	switch xid {
	case 48, // double bit error of the memory
		62,  // micro-controller halted
		64,  // page or row could not be retired
		79,  // fallen off the bus
		95,  // uncontained error of the memory
		110, // security fault
		119, // GSP does not answer
		120, // GSP failed
		136, // link training failed
		140: // uncorrectable error
		return hostapi.HealthFailure
	case 63, // page or row is to be retired
		74,  // NVLink
		92,  // many single bit errors
		94,  // contained error of the memory
		121: // C2C link
		return hostapi.HealthWarning
	}
	return hostapi.Healthy
}

// xids are the errors of GPUs in the kernel's log, each once; they stand until
// the host boots or its log is cleared.
func xids(log string) []hostapi.Incident {
	type key struct {
		pci string
		xid int
	}
	var incidents []hostapi.Incident
	seen := map[key]bool{}
	for _, m := range xidLine.FindAllStringSubmatch(log, -1) {
		n, err := strconv.Atoi(m[2])
		status := severity(n)
		k := key{m[1], n}
		if err != nil || status == hostapi.Healthy || seen[k] {
			continue
		}
		seen[k] = true
		incidents = append(incidents, hostapi.Incident{
			Status: status,
			Message: fmt.Sprintf("GPU at PCI %s: XID %d in the kernel's log: %s (reset the GPU and run `dmesg --clear`, or reboot the host)",
				m[1], n, strings.TrimSpace(m[3])),
		})
	}
	return incidents
}
