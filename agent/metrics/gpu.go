package metrics

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"dstack/protocol/jobapi"
)

// gpuLimit bounds a vendor's tool.
const gpuLimit = 5 * time.Second

const (
	mib = 1 << 20
	// maxValue is more than any tool can mean, in MiB or percent.
	maxValue = 1 << 40
)

// gpus measures the job's accelerators with the tool that its vendor brings
// into containers; for AMD, which brings none, the kernel tells.
func (c Config) gpus(ctx context.Context) ([]jobapi.GPUUsage, error) {
	ctx, cancel := context.WithTimeout(ctx, gpuLimit)
	defer cancel()
	switch {
	case c.exists("dev/nvidiactl"), c.exists("dev/dxg"):
		args := []string{"--query-gpu=memory.used,utilization.gpu", "--format=csv,noheader,nounits"}
		if c.Visible != "" {
			args = append(args, "--id="+c.Visible)
		}
		out, err := c.Run(ctx, c.nvidiaTool(), args...)
		if err != nil {
			return nil, fmt.Errorf("run nvidia-smi: %w", err)
		}
		return columns(out, 0, 1)
	case c.exists("dev/kfd"):
		return c.amd(ctx)
	case c.exists("dev/accel"):
		out, err := c.Run(ctx, "hl-smi", "--query-aip=index,memory.used,utilization.aip", "--format=csv,noheader,nounits")
		if err != nil {
			return nil, fmt.Errorf("run hl-smi: %w", err)
		}
		return columns(c.only(out), 1, 2)
	}
	return nil, nil // Tenstorrent's tell nothing
}

// nvidiaTool is nvidia-smi. Containers have it where the host has: also in a
// folder of the driver's own, or of Windows', that is on no PATH.
func (c Config) nvidiaTool() string {
	for _, name := range []string{"usr/bin/nvidia-smi", "usr/local/nvidia/bin/nvidia-smi", "usr/lib/wsl/lib/nvidia-smi"} {
		if c.exists(name) {
			return "/" + name
		}
	}
	return "nvidia-smi"
}

// columns reads MiB used and percent from lines of comma-separated values.
func columns(out []byte, memory, util int) ([]jobapi.GPUUsage, error) {
	r := csv.NewReader(strings.NewReader(string(out)))
	r.TrimLeadingSpace, r.FieldsPerRecord = true, max(memory, util)+1
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read use of accelerators: %w", err)
	}
	var list []jobapi.GPUUsage
	for _, row := range rows {
		list = append(list, usageOf(row[memory], row[util]))
	}
	return list, nil
}

// usageOf reads "123" or "123 MB", and "5" or "5 %". A part of a GPU has no
// use of its own: the tools then say "[N/A]".
func usageOf(memory, util string) jobapi.GPUUsage {
	u := jobapi.GPUUsage{UtilPercent: -1}
	if n, ok := leading(memory); ok {
		u.MemoryBytes = int64(n * mib)
	}
	if n, ok := leading(util); ok && n <= 100 {
		u.UtilPercent = int(n)
	}
	return u
}

func leading(text string) (float64, bool) {
	first, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	n, err := strconv.ParseFloat(strings.TrimSuffix(first, "%"), 64)
	return n, err == nil && n >= 0 && n <= maxValue
}

// only keeps the lines of the accelerators that are the job's: on a host
// without containers it sees others, too. The first column is the index.
func (c Config) only(out []byte) []byte {
	if c.Visible == "" {
		return out
	}
	ids := strings.Split(c.Visible, ",")
	var kept strings.Builder
	for line := range strings.Lines(string(out)) {
		if id, _, _ := strings.Cut(line, ","); slices.Contains(ids, strings.TrimSpace(id)) {
			kept.WriteString(line)
		}
	}
	return []byte(kept.String())
}

// amd reads what the kernel says of each render node that the job can see, or
// asks amd-smi where the kernel does not tell.
func (c Config) amd(ctx context.Context) ([]jobapi.GPUUsage, error) {
	nodes, err := fs.Glob(c.Root, "dev/dri/renderD*")
	if err != nil {
		return nil, fmt.Errorf("list accelerators: %w", err)
	}
	slices.SortFunc(nodes, func(a, b string) int { return nodeNumber(a) - nodeNumber(b) })
	var list []jobapi.GPUUsage
	for _, node := range nodes {
		if c.Visible != "" && !slices.Contains(strings.Split(c.Visible, ","), "/"+node) {
			continue
		}
		device := "sys/class/drm/" + strings.TrimPrefix(node, "dev/dri/") + "/device/"
		busy, busyErr := c.number(device + "gpu_busy_percent")
		used, usedErr := c.number(device + "mem_info_vram_used")
		if busyErr != nil || usedErr != nil || busy < 0 || busy > 100 {
			return c.amdTool(ctx)
		}
		list = append(list, jobapi.GPUUsage{MemoryBytes: used, UtilPercent: int(busy)})
	}
	return list, nil
}

func nodeNumber(path string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(path, "dev/dri/renderD"))
	if err != nil {
		return 0
	}
	return n
}

// amdTool reads the table of `amd-smi monitor`, whose columns differ between
// its versions.
func (c Config) amdTool(ctx context.Context) ([]jobapi.GPUUsage, error) {
	out, err := c.Run(ctx, "amd-smi", "monitor", "-vu", "--csv")
	if err != nil {
		return nil, fmt.Errorf("run amd-smi: %w", err)
	}
	r := csv.NewReader(strings.NewReader(string(out)))
	r.TrimLeadingSpace, r.FieldsPerRecord = true, -1
	rows, err := r.ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, errors.Join(errors.New("read use of accelerators: amd-smi printed no table"), err)
	}
	column := func(names ...string) int {
		return slices.IndexFunc(rows[0], func(title string) bool { return slices.Contains(names, strings.ToLower(strings.TrimSpace(title))) })
	}
	memory, util := column("vram_used"), column("gfx", "gfx_util", "gfx%")
	if memory < 0 || util < 0 {
		return nil, fmt.Errorf("read use of accelerators: amd-smi printed the columns %s", strings.Join(rows[0], ", "))
	}
	var list []jobapi.GPUUsage
	for _, row := range rows[1:] {
		if len(row) > max(memory, util) {
			list = append(list, usageOf(row[memory], row[util]))
		}
	}
	return list, nil
}
