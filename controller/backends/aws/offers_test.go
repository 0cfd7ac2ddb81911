package aws

import (
	"testing"
)

func TestShapes(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range shapes() {
		if seen[s.name] || s.cpus == 0 || s.memoryGiB == 0 || s.price <= 0 || (s.gpus > 0) != (s.gpu != "") || (s.gpus > 0) != (s.gpuGiB > 0) {
			t.Errorf("%+v", s)
		}
		if gpuType(s.name) != (s.gpus > 0) {
			t.Errorf("%s: GPUs by name %t, by table %d", s.name, gpuType(s.name), s.gpus)
		}
		seen[s.name] = true
	}
	for _, name := range []string{"m7i.large", "m7i.xlarge", "c7i.48xlarge", "c5.9xlarge", "r7i.2xlarge", "m5.24xlarge"} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestFamilies(t *testing.T) {
	for _, c := range []struct {
		machineType string
		spot        bool
		code        string
	}{
		{"m5.large", false, "L-1216C47A"},
		{"m5.large", true, "L-34B43A08"},
		{"g5.xlarge", false, "L-DB2E81BA"},
		{"gr6.4xlarge", true, "L-3819A6DF"},
		{"p5.48xlarge", false, "L-417A185B"},
		{"p5.48xlarge", true, "L-C4BD4855"},
		{"p4d.24xlarge", true, "L-7212CCBC"},
		{"p6-b200.48xlarge", true, ""},
	} {
		if got := familyOf(c.machineType, c.spot); got.code != c.code || got.name == "" {
			t.Errorf("%s, spot %t: %+v", c.machineType, c.spot, got)
		}
	}
}
