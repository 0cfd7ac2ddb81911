package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/hostapi"
)

func TestNvidiaName(t *testing.T) {
	for full, want := range map[string]string{
		"NVIDIA H100 80GB HBM3":            "H100",
		"NVIDIA H100 NVL":                  "H100NVL",
		"NVIDIA GH200 480GB":               "GH200",
		"NVIDIA GeForce RTX 4090":          "RTX4090",
		"NVIDIA GeForce RTX 4070 Ti SUPER": "RTX4070TiSUPER",
		"NVIDIA RTX A6000":                 "A6000",
		"NVIDIA RTX 6000 Ada Generation":   "RTX6000Ada",
		"NVIDIA A100-SXM4-80GB":            "A100",
		"Tesla V100-SXM2-16GB":             "V100",
		"Tesla T4":                         "T4",
		"Quadro RTX 6000":                  "RTX6000",
		"NVIDIA L40S":                      "L40S",
		"NVIDIA B200":                      "B200",
		"NVIDIA GB200":                     "GB200",
		"NVIDIA RTX PRO 6000":              "RTXPRO6000",
		"NVIDIA A10G":                      "A10G",
		"NVIDIA GeForce RTX 2080 Ti":       "RTX2080Ti",
		"NVIDIA H200":                      "H200",
		"NVIDIA GeForce RTX 5090":          "RTX5090",
		"NVIDIA GeForce GTX 1080 Ti":       "GTX1080Ti",
	} {
		if got := nvidiaName(full); got != want {
			t.Errorf("nvidiaName(%q) = %q, want %q", full, got, want)
		}
	}
}

func TestMemoryIsThatOfTheDataSheet(t *testing.T) {
	for _, tt := range []struct {
		name string
		mib  float64
		want int64
	}{
		{"H100", 81559, 80}, {"A100", 40960, 40}, {"A100", 81920, 80}, {"L4", 23034, 24},
		{"T4", 15360, 16}, {"Unheard", 10240, 10}, {"H200", 143771, 141},
	} {
		if got := memoryOf(tt.name, tt.mib); got != tt.want<<30 {
			t.Errorf("memoryOf(%s, %v) = %d GB, want %d", tt.name, tt.mib, got>>30, tt.want)
		}
	}
}

func output(text string) Command {
	return func(context.Context, string, ...string) ([]byte, error) { return []byte(text), nil }
}

func TestDetect(t *testing.T) {
	tests := []struct {
		name string
		root fstest.MapFS
		run  Command
		want Found
	}{
		{"none", fstest.MapFS{}, nil, Found{}},
		{"nvidia", fstest.MapFS{"dev/nvidiactl": {}},
			output("NVIDIA H100 80GB HBM3, 81559, GPU-a, 550.1\nNVIDIA H100 80GB HBM3, 81559, GPU-b, 550.1\n"),
			Found{NVIDIA, "550.1", []hostapi.GPU{{ID: "GPU-a", Name: "H100", MemoryBytes: 80 << 30}, {ID: "GPU-b", Name: "H100", MemoryBytes: 80 << 30}}}},
		{"amd", fstest.MapFS{
			"dev/kfd": {},
			"sys/class/kfd/kfd/topology/nodes/0/properties":       {Data: []byte("cpu_cores_count 96\nsimd_count 0\n")},
			"sys/class/kfd/kfd/topology/nodes/10/properties":      {Data: []byte("simd_count 1216\ndevice_id 29857\ndrm_render_minor 136\n")},
			"sys/class/kfd/kfd/topology/nodes/2/properties":       {Data: []byte("simd_count 1216\ndevice_id 29857\ndrm_render_minor 128\n")},
			"sys/class/drm/renderD128/device/mem_info_vram_total": {Data: []byte("206141652992\n")},
			"sys/class/drm/renderD136/device/mem_info_vram_total": {Data: []byte("206141652992\n")},
			"sys/module/amdgpu/version":                           {Data: []byte("6.8.5\n")},
		}, nil, Found{AMD, "6.8.5", []hostapi.GPU{{ID: "/dev/dri/renderD128", Name: "MI300X", MemoryBytes: 192 << 30}, {ID: "/dev/dri/renderD136", Name: "MI300X", MemoryBytes: 192 << 30}}}},
		{"no nvidia behind Windows", fstest.MapFS{"dev/dxg": {}}, nil, Found{}},
		{"nvidia behind Windows", fstest.MapFS{"dev/dxg": {}, "usr/lib/wsl/lib/nvidia-smi": {}}, func(_ context.Context, name string, _ ...string) ([]byte, error) {
			return []byte("NVIDIA GeForce RTX 4090, 24564, GPU-a, 552.44\n"), only(name, "/usr/lib/wsl/lib/nvidia-smi")
		}, Found{NVIDIA, "552.44", []hostapi.GPU{{ID: "GPU-a", Name: "RTX4090", MemoryBytes: 24 << 30}}}},
		{"driver in a folder", fstest.MapFS{"dev/nvidiactl": {}, "usr/local/nvidia/bin/nvidia-smi": {}}, func(_ context.Context, name string, _ ...string) ([]byte, error) {
			return []byte(fixture(t, "nvidia-smi-h100.csv")), only(name, "/usr/local/nvidia/bin/nvidia-smi")
		}, Found{NVIDIA, "580.159.04", []hostapi.GPU{{ID: "GPU-8d1f3c52-6a40-4b9e-9d27-5e0c7a31b4f6", Name: "H100", MemoryBytes: 80 << 30}}}},
		{"driver in a folder, and a script for it", fstest.MapFS{"dev/nvidiactl": {}, "usr/local/nvidia/bin/nvidia-smi": {}, "usr/bin/nvidia-smi": {}}, func(_ context.Context, name string, _ ...string) ([]byte, error) {
			return []byte("NVIDIA L4, 23034, GPU-a, 1\n"), only(name, "nvidia-smi")
		}, Found{NVIDIA, "1", []hostapi.GPU{{ID: "GPU-a", Name: "L4", MemoryBytes: 24 << 30}}}},
		{"superchip", fstest.MapFS{"dev/nvidiactl": {}}, output(fixture(t, "nvidia-smi-gh200.csv")),
			Found{NVIDIA, "560.35.03", []hostapi.GPU{{ID: "GPU-0b1c6c7e-73d5-3a9e-0b4c-5f5b9d3c1f11", Name: "GH200"}}}},
		{"a laptop's neural unit", fstest.MapFS{"dev/accel/accel0": {}, "sys/class/accel/accel0/device/vendor": {Data: []byte("0x8086\n")}}, nil, Found{}},
		{"intel, as the kernel says", fstest.MapFS{"dev/accel/accel0": {}, "sys/class/accel/accel0/device/vendor": {Data: []byte("0x1da3\n")}},
			output("HL-325L, 131072, 3, 1.19\n"), Found{Intel, "1.19", []hostapi.GPU{{ID: "3", Name: "Gaudi3", MemoryBytes: 128 << 30}}}},
		{"intel", fstest.MapFS{"dev/accel": {}}, output("HL-225C, 98304, 0, 1.18\n"),
			Found{Intel, "1.18", []hostapi.GPU{{ID: "0", Name: "Gaudi2", MemoryBytes: 96 << 30}}}},
		{"tenstorrent", fstest.MapFS{
			"dev/tenstorrent/0":                                {},
			"dev/tenstorrent/by-id/x":                          {},
			"sys/class/tenstorrent/tenstorrent!0/tt_card_type": {Data: []byte("p150b\n")},
			"sys/module/tenstorrent/version":                   {Data: []byte("2.0.0\n")},
		}, nil, Found{Tenstorrent, "2.0.0", []hostapi.GPU{{ID: "0", Name: "p150", MemoryBytes: 32 << 30}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Detect(t.Context(), tt.root, tt.run)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Detect (-want +got):\n%s", diff)
			}
		})
	}
}

// only fails for any other program than one.
func only(name, want string) error {
	if name != want {
		return fmt.Errorf("%s is asked: %w", name, errors.ErrUnsupported)
	}
	return nil
}

func fixture(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestEight are whole hosts, as their tools list them.
func TestEight(t *testing.T) {
	for name, tt := range map[string]struct {
		device, file, vendor, model string
		gb                          int64
		last                        string
	}{
		"H100":   {"dev/nvidiactl", "nvidia-smi-8xh100.csv", NVIDIA, "H100", 80, "GPU-5ecc2b7b-4f0a-4b0e-9c0e-3c6e3f0b6a07"},
		"Gaudi2": {"dev/accel", "hl-smi-8xgaudi2.csv", Intel, "Gaudi2", 96, "7"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Detect(t.Context(), fstest.MapFS{tt.device: {}}, output(fixture(t, tt.file)))
			if err != nil || got.Vendor != tt.vendor || len(got.GPUs) != 8 {
				t.Fatalf("found %+v, %v", got, err)
			}
			if diff := cmp.Diff(hostapi.GPU{ID: tt.last, Name: tt.model, MemoryBytes: tt.gb << 30}, got.GPUs[7]); diff != "" {
				t.Errorf("last (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLost: a device whose tool is missing or finds nothing is an error, never
// a host without accelerators.
func TestLost(t *testing.T) {
	missing := func(context.Context, string, ...string) ([]byte, error) { return nil, exec.ErrNotFound }
	for name, tt := range map[string]struct {
		root fstest.MapFS
		run  Command
	}{
		"no nvidia-smi":     {fstest.MapFS{"dev/nvidiactl": {}}, missing},
		"no devices":        {fstest.MapFS{"dev/nvidiactl": {}}, output(fixture(t, "nvidia-smi-none.csv"))},
		"no hl-smi":         {fstest.MapFS{"dev/accel": {}}, missing},
		"memory of nothing": {fstest.MapFS{"dev/accel": {}}, output("HL-225, ?, 0, 1\n")},
		"no KFD topology":   {fstest.MapFS{"dev/kfd": {}}, nil},
	} {
		if got, err := Detect(t.Context(), tt.root, tt.run); err == nil {
			t.Errorf("%s: found %+v", name, got)
		}
	}
}

func FuzzDetect(f *testing.F) {
	f.Add("dev/nvidiactl", fixture(f, "nvidia-smi-8xh100.csv"))
	f.Add("dev/accel", fixture(f, "hl-smi-8xgaudi2.csv"))
	f.Fuzz(func(t *testing.T, device, out string) {
		if device != "dev/nvidiactl" {
			device = "dev/accel"
		}
		found, err := Detect(t.Context(), fstest.MapFS{device: {}}, output(out))
		if err == nil && found.Vendor == "" {
			t.Errorf("%q is of nobody", out)
		}
	})
}

func TestTable(t *testing.T) {
	var table Table
	table.Set([]string{"a", "b", "c", "d"})
	table.Hold("old", []string{"b"})
	got, err := table.Take("t1", 2)
	if diff := cmp.Diff([]string{"a", "c"}, got); err != nil || diff != "" {
		t.Errorf("Take: %v (-want +got):\n%s", err, diff)
	}
	if _, err := table.Take("t2", 2); !errors.Is(err, ErrNotEnough) || err.Error() != "no capacity: 2 GPUs requested, 1 available" {
		t.Errorf("Take = %v", err)
	}
	again, err := table.Take("t1", 2) // a step that is repeated takes no more
	if diff := cmp.Diff(got, again); err != nil || diff != "" {
		t.Errorf("Take again: %v (-want +got):\n%s", err, diff)
	}
	table.Release("old")
	if got, err := table.Take("t2", 2); err != nil || !cmp.Equal(got, []string{"b", "d"}) {
		t.Errorf("Take after release = %v, %v", got, err)
	}
}
