package gpu

import (
	"math"
	"regexp"
	"strings"
)

// knownMemory are the sizes in GB in which an accelerator is sold
// (spec: configuration.md 4). Host tools report a little less.
var knownMemory = map[string][]int64{
	"P100": {16}, "V100": {16, 32}, "T4": {16}, "RTX6000": {24}, "RTX2060": {6, 12}, "RTX2060SUPER": {8},
	"RTX2070": {8}, "RTX2070SUPER": {8}, "RTX2080": {8}, "RTX2080SUPER": {8}, "RTX2080Ti": {11},
	"A100": {40, 80}, "A10": {24}, "A10G": {24}, "A16": {16}, "A40": {48}, "A4000": {16}, "A4500": {20},
	"A5000": {24}, "A6000": {48}, "RTX3050": {6, 8}, "RTX3060": {8, 12}, "RTX3060Ti": {8}, "RTX3070": {8},
	"RTX3070Ti": {8}, "RTX3080": {10}, "RTX3080Ti": {12}, "RTX3090": {24}, "RTX3090Ti": {24},
	"L4": {24}, "L40": {48}, "L40S": {48}, "RTX4060": {8}, "RTX4060Ti": {8, 16}, "RTX4070": {12},
	"RTX4070SUPER": {12}, "RTX4070Ti": {12}, "RTX4070TiSUPER": {16}, "RTX4080": {16}, "RTX4080SUPER": {16},
	"RTX4090": {24}, "RTX2000Ada": {16}, "RTX4000Ada": {20}, "RTX6000Ada": {48},
	"H100": {80}, "H100NVL": {94}, "H200": {141}, "H200NVL": {141}, "GH200": {96},
	"B200": {180}, "GB200": {186}, "B300": {270}, "GB300": {270},
	"RTX5060": {8}, "RTX5060Ti": {8, 16}, "RTX5070": {12}, "RTX5070Ti": {16}, "RTX5080": {16}, "RTX5090": {32},
	"RTXPRO4500": {32}, "RTXPRO6000": {96},
	"MI100": {32}, "MI210": {64}, "MI250": {128}, "MI250X": {128}, "MI300A": {128}, "MI300X": {192},
	"MI308X": {128}, "MI325X": {288}, "MI350X": {288}, "MI355X": {288},
	"Gaudi": {32}, "Gaudi2": {96}, "Gaudi3": {128},
	"n150": {12}, "n300": {24}, "tt-galaxy-wh": {12}, "p100a": {28}, "p150": {32}, "p300": {32, 64}, "tt-galaxy-bh": {32},
}

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
	for _, known := range knownMemory[name] {
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
