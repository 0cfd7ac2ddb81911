// Package gpu finds the accelerators of a host and keeps account of who holds
// them. Nothing is started in a container for it: names and sizes come from
// the vendor's tool on the host or from sysfs.
package gpu

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"dstack/protocol/accelerator"
	"dstack/protocol/hostapi"
)

// Vendors, as in configurations.
const (
	NVIDIA      = "nvidia"
	AMD         = "amd"
	Intel       = "intel"
	Tenstorrent = "tenstorrent"
)

// Found are the accelerators of a host, in a stable order; all of one vendor.
type Found struct {
	Vendor string
	Driver string
	GPUs   []hostapi.GPU
}

// Command runs a program of the host and returns its output.
type Command func(ctx context.Context, name string, args ...string) ([]byte, error)

// Detect looks for accelerators below root, the host's file system. The first
// vendor with a device wins. A host without any is no error; a device whose
// tool is missing or fails is.
func Detect(ctx context.Context, root fs.FS, run Command) (Found, error) {
	smi := NvidiaTool(root)
	switch {
	case smi != "":
		return nvidia(ctx, run, smi)
	case exists(root, "dev/tenstorrent"):
		return tenstorrent(root)
	case exists(root, "dev/kfd"):
		return amd(root)
	case exists(root, "dev/accel") && habana(root):
		return intel(ctx, run)
	}
	return Found{}, nil
}

// wslTool is nvidia-smi where Windows lends its GPU; not every Windows has
// one of NVIDIA's.
const wslTool = "usr/lib/wsl/lib/nvidia-smi"

// folderTool is nvidia-smi where the driver has a folder of its own, which is
// on nobody's PATH but that of NVIDIA's images; some hosts have usualTool, too,
// a script that calls it as it wants to be called.
const (
	folderTool = "usr/local/nvidia/bin/nvidia-smi"
	usualTool  = "usr/bin/nvidia-smi"
)

// NvidiaTool is the program that lists NVIDIA's accelerators on the host;
// empty if it has none.
func NvidiaTool(root fs.FS) string {
	switch {
	case exists(root, "dev/nvidiactl") && exists(root, folderTool) && !exists(root, usualTool):
		return "/" + folderTool
	case exists(root, "dev/nvidiactl"):
		return "nvidia-smi"
	case exists(root, "dev/dxg") && exists(root, wslTool):
		return "/" + wslTool
	}
	return ""
}

// habanaVendor is the PCI vendor of Gaudi.
const habanaVendor = "0x1da3"

// habana says whether the devices below /dev/accel may be Gaudi: the units for
// neural networks of other processors appear there, too. Where the kernel does
// not tell, they may be.
func habana(root fs.FS) bool {
	vendors, err := fs.Glob(root, "sys/class/accel/accel*/device/vendor")
	if err != nil || len(vendors) == 0 {
		return true
	}
	return slices.ContainsFunc(vendors, func(name string) bool { return text(root, name) == habanaVendor })
}

func exists(root fs.FS, name string) bool {
	_, err := fs.Stat(root, name)
	return err == nil
}

func table(out []byte, columns int) ([][]string, error) {
	r := csv.NewReader(strings.NewReader(string(out)))
	r.TrimLeadingSpace, r.FieldsPerRecord = true, columns
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read list of accelerators: %w", err)
	}
	for _, row := range rows {
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
	}
	return rows, nil
}

func nvidia(ctx context.Context, run Command, smi string) (Found, error) {
	out, err := run(ctx, smi, "--query-gpu=name,memory.total,uuid,driver_version", "--format=csv,noheader,nounits")
	if err != nil {
		return Found{}, fmt.Errorf("run nvidia-smi: %w", err)
	}
	rows, err := table(out, 4)
	if err != nil {
		return Found{}, err
	}
	f := Found{Vendor: NVIDIA}
	for _, row := range rows {
		name := nvidiaName(row[0])
		// A superchip that shares memory with its CPU reports "[N/A]": unknown is 0.
		mib, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			mib = 0
		}
		f.Driver = row[3]
		f.GPUs = append(f.GPUs, hostapi.GPU{ID: row[2], Name: name, MemoryBytes: memoryOf(name, mib)})
	}
	return f, nil
}

func intel(ctx context.Context, run Command) (Found, error) {
	out, err := run(ctx, "hl-smi", "--query-aip=name,memory.total,index,driver_version", "--format=csv,noheader,nounits")
	if err != nil {
		return Found{}, fmt.Errorf("run hl-smi: %w", err)
	}
	rows, err := table(out, 4)
	if err != nil {
		return Found{}, err
	}
	f := Found{Vendor: Intel}
	for _, row := range rows {
		name := row[0]
		for model, known := range intelModels {
			if strings.HasPrefix(name, model) {
				name = known
				break
			}
		}
		mib, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			return Found{}, fmt.Errorf("read memory of accelerator %s: %w", row[2], err)
		}
		f.Driver = row[3]
		f.GPUs = append(f.GPUs, hostapi.GPU{ID: row[2], Name: name, MemoryBytes: memoryOf(name, mib)})
	}
	return f, nil
}

const kfdNodes = "sys/class/kfd/kfd/topology/nodes"

func amd(root fs.FS) (Found, error) {
	nodes, err := fs.ReadDir(root, kfdNodes)
	if err != nil {
		return Found{}, fmt.Errorf("read KFD topology: %w", err)
	}
	f := Found{Vendor: AMD, Driver: text(root, "sys/module/amdgpu/version")}
	slices.SortFunc(nodes, func(a, b fs.DirEntry) int { return number(a.Name()) - number(b.Name()) })
	for _, node := range nodes {
		props := properties(root, path.Join(kfdNodes, node.Name(), "properties"))
		minor := props["drm_render_minor"]
		if props["simd_count"] == 0 || minor == 0 { // a CPU
			continue
		}
		name, known := amdDevices[props["device_id"]]
		if !known {
			name = fmt.Sprintf("AMD-%04X", props["device_id"])
		}
		vram := number(text(root, fmt.Sprintf("sys/class/drm/renderD%d/device/mem_info_vram_total", minor)))
		f.GPUs = append(f.GPUs, hostapi.GPU{
			ID: fmt.Sprintf("/dev/dri/renderD%d", minor), Name: name, MemoryBytes: memoryOf(name, float64(vram>>20)),
		})
	}
	return f, nil
}

func tenstorrent(root fs.FS) (Found, error) {
	devices, err := fs.ReadDir(root, "dev/tenstorrent")
	if err != nil {
		return Found{}, fmt.Errorf("list Tenstorrent devices: %w", err)
	}
	f := Found{Vendor: Tenstorrent, Driver: text(root, "sys/module/tenstorrent/version")}
	slices.SortFunc(devices, func(a, b fs.DirEntry) int { return number(a.Name()) - number(b.Name()) })
	for _, d := range devices {
		if _, err := strconv.Atoi(d.Name()); err != nil { // by-id links and the like
			continue
		}
		card := text(root, "sys/class/tenstorrent/tenstorrent!"+d.Name()+"/tt_card_type")
		model, known := accelerator.Find(card)
		if !known {
			model, known = accelerator.Find(strings.TrimRight(card, "abcds")) // p150a, n150d
		}
		name, memory := card, int64(0)
		if known {
			name, memory = model.Name, int64(model.MemoryGB[0])<<30
		}
		f.GPUs = append(f.GPUs, hostapi.GPU{ID: d.Name(), Name: name, MemoryBytes: memory})
	}
	return f, nil
}

func text(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

func properties(root fs.FS, name string) map[string]int {
	props := map[string]int{}
	for line := range strings.Lines(text(root, name)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			props[key] = number(value)
		}
	}
	return props
}

// ErrNotEnough says that fewer accelerators are free than asked for.
var ErrNotEnough = errors.New("no capacity")
