package accelerator

import (
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, vendor, as string
		memory           int
		capability       bool
	}{
		{"h100", Nvidia, "H100", 80, true},
		{"RTX4070TISUPER", Nvidia, "RTX4070TiSUPER", 16, true},
		{"MI300X", AMD, "MI300X", 192, false},
		{"gaudi3", Intel, "Gaudi3", 128, false},
		{"TT-Galaxy-WH", Tenstorrent, "tt-galaxy-wh", 12, false},
		{"v5litepod-8", Google, "v5litepod-8", 0, false},
		{"V5P-16", Google, "V5P-16", 0, false},
		{"v5e-8", "", "", 0, false},
		{"4090", "", "", 0, false},
		{"", "", "", 0, false},
	}
	for _, tt := range tests {
		m, ok := Find(tt.name)
		if ok != (tt.vendor != "") || m.Vendor != tt.vendor || m.Name != tt.as || (m.Capability != nil) != tt.capability ||
			tt.memory != 0 && m.MemoryGB[0] != tt.memory {
			t.Errorf("%q is %+v, %v", tt.name, m, ok)
		}
	}
}

func TestCommonVendor(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"A100": Nvidia, "A100 H100": Nvidia, "A100 MI300X": "", "A100 X": "", "X": "", "": "",
	}
	for names, want := range tests {
		if got := CommonVendor(strings.Fields(names)); got != want {
			t.Errorf("vendor of %q is %q, want %q", names, got, want)
		}
	}
}

func TestModelsAreWhole(t *testing.T) {
	t.Parallel()
	const all = 81 // spec: configuration.md 4
	if len(models) != all {
		t.Errorf("%d models, want %d", len(models), all)
	}
	seen := map[string]bool{}
	for _, m := range models {
		if seen[strings.ToLower(m.Name)] || len(m.MemoryGB) == 0 || (m.Capability != nil) != (m.Vendor == Nvidia) {
			t.Errorf("bad or repeated: %+v", m)
		}
		seen[strings.ToLower(m.Name)] = true
	}
}
