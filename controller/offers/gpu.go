package offers

// computeCapability is that of an NVIDIA model (spec: configuration.md 4);
// nil for an unknown one.
func computeCapability(model string) []int {
	switch {
	case oneOf([]string{"P100"}, model):
		return []int{6, 0}
	case oneOf([]string{"V100"}, model):
		return []int{7, 0}
	case oneOf([]string{"T4", "RTX6000", "RTX2060", "RTX2060SUPER", "RTX2070", "RTX2070SUPER", "RTX2080", "RTX2080SUPER", "RTX2080Ti"}, model):
		return []int{7, 5}
	case oneOf([]string{"A100"}, model):
		return []int{8, 0}
	case oneOf([]string{"A10", "A10G", "A16", "A40", "A4000", "A4500", "A5000", "A6000", "RTX3050", "RTX3060", "RTX3060Ti", "RTX3070", "RTX3070Ti", "RTX3080", "RTX3080Ti", "RTX3090", "RTX3090Ti"}, model):
		return []int{8, 6}
	case oneOf([]string{"L4", "L40", "L40S", "RTX4060", "RTX4060Ti", "RTX4070", "RTX4070SUPER", "RTX4070Ti", "RTX4070TiSUPER", "RTX4080", "RTX4080SUPER", "RTX4090", "RTX2000Ada", "RTX4000Ada", "RTX6000Ada"}, model):
		return []int{8, 9}
	case oneOf([]string{"H100", "H100NVL", "H200", "H200NVL", "GH200"}, model):
		return []int{9, 0}
	case oneOf([]string{"B200", "GB200", "B300", "GB300"}, model):
		return []int{10, 0}
	case oneOf([]string{"RTX5060", "RTX5060Ti", "RTX5070", "RTX5070Ti", "RTX5080", "RTX5090", "RTXPRO4500", "RTXPRO6000"}, model):
		return []int{12, 0}
	}
	return nil
}
