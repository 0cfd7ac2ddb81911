package gpu

import (
	"math"
	"regexp"
	"strings"

	"dstack/protocol/accelerator"
)

// amdDevices maps PCI device ids to names.
var amdDevices = map[int]string{
	0x738c: "MI100", 0x740f: "MI210", 0x740c: "MI250", 0x7408: "MI250X", 0x74a0: "MI300A",
	0x74a1: "MI300X", 0x74a9: "MI300X", 0x74b5: "MI300X", 0x74bd: "MI300X", 0x74a2: "MI308X", 0x74b6: "MI308X",
	0x74a5: "MI325X", 0x75a0: "MI350X", 0x75a3: "MI355X",
}

// intelModels maps hl-smi's models to names.
var intelModels = map[string]string{"HL-205": "Gaudi", "HL-225": "Gaudi2", "HL-325": "Gaudi3", "HL-338": "Gaudi3"}

// memoryOf corrects a reported size: the closest known size of that name if
// it is within 7 %, else whole GB. The result is in bytes.
func memoryOf(name string, mib float64) int64 {
	gb := mib / 1024
	best, off := int64(math.Round(gb)), 0.07
	model, _ := accelerator.Find(name)
	for _, size := range model.MemoryGB {
		known := int64(size)
		if d := math.Abs(gb-float64(known)) / float64(known); d <= off {
			best, off = known, d
		}
	}
	return best << 30
}

var (
	nvidiaNoise = regexp.MustCompile(`\b(?:NVIDIA|Tesla|Quadro|GeForce)\b\s*`)
	rtxA        = regexp.MustCompile(`RTX (A\d+)`)
	shortNvidia = regexp.MustCompile(`^(?:.*\s)?([AHLPTV]\d+\w*)`)
)

// nvidiaName shortens a name of nvidia-smi to the one in configurations.
func nvidiaName(full string) string {
	if strings.Contains(full, "GH200") {
		return "GH200"
	}
	s := strings.TrimSpace(nvidiaNoise.ReplaceAllString(full, ""))
	s = rtxA.ReplaceAllString(s, "$1")
	s = strings.NewReplacer(" Ti", "Ti", " SUPER", "SUPER", " NVL", "NVL", " Ada Generation", "Ada", "RTX ", "RTX").Replace(s)
	if m := shortNvidia.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return strings.ReplaceAll(s, " ", "")
}
