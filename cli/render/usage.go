package render

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"dstack/cli/term"
	"dstack/protocol/api"
)

// UsageOrders are the orders of [SortUsage].
var UsageOrders = []string{"name", "cpu", "memory", "gpu"} //nolint:gochecknoglobals // a table

// staleAfter is when values are so old that the host must be silent.
const staleAfter = time.Minute

// SortUsage puts jobs in an order: by name, or the busiest first.
func SortUsage(jobs []api.JobUsage, order string) {
	slices.SortStableFunc(jobs, func(x, y api.JobUsage) int {
		busier := 0
		switch order {
		case "cpu":
			busier = cmp.Compare(deref(y.CPUPercent), deref(x.CPUPercent))
		case "memory":
			busier = cmp.Compare(y.MemoryBytes, x.MemoryBytes)
		case "gpu":
			busier = cmp.Compare(gpuLoad(y.GPUs), gpuLoad(x.GPUs))
		}
		return cmp.Or(busier, cmp.Compare(x.RunName, y.RunName), cmp.Compare(x.ReplicaNum, y.ReplicaNum), cmp.Compare(x.JobNum, y.JobNum))
	})
}

// UsageTable shows what each running job uses now. Verbose adds the user, the
// place, and a line for each of several GPUs.
func UsageTable(jobs []api.JobUsage, now time.Time, verbose bool) term.Table {
	several := map[string]int{}
	for _, j := range jobs {
		several[j.RunName]++
	}
	t := term.Table{Columns: []term.Column{{Title: "NAME"}, {Title: "CPU"}, {Title: "MEMORY"}, {Title: "GPU"}, {Title: "GPU MEMORY"}, {Title: "UPTIME"}}}
	if verbose {
		t.Columns = append(t.Columns, term.Column{Title: "USER"}, term.Column{Title: "BACKEND"})
	}
	for _, j := range jobs {
		name := j.RunName
		if several[j.RunName] > 1 || j.ReplicaNum > 0 || j.JobNum > 0 {
			name = j.JobName
		}
		row := usageRow(j, name, now)
		if verbose {
			row.Cells = append(row.Cells, term.T(j.User), term.T(place(j)))
		}
		t.Rows = append(t.Rows, row)
		if !verbose {
			continue
		}
		for n, gpu := range j.GPUs {
			one := []api.JobGPUUsage{gpu}
			label := fmt.Sprintf("   gpu=%d %s", n, gpu.Name)
			t.Rows = append(t.Rows, term.Row{Cells: []term.Cell{{Text: label, Style: term.Secondary}, {}, {}, gpuCell(one), gpuMemoryCell(one)}})
		}
	}
	return t
}

func place(j api.JobUsage) string {
	name := j.Backend
	if name == "remote" {
		name = "ssh"
	}
	if j.Region == "" || j.Region == "remote" {
		return name
	}
	return name + " (" + j.Region + ")"
}

func usageRow(j api.JobUsage, name string, now time.Time) term.Row {
	uptime := term.T("-")
	if j.RunningSince != nil {
		uptime = term.T(shortAge(now.Sub(j.RunningSince.Time)))
	}
	if j.MeasuredAt == nil {
		return term.Row{Cells: []term.Cell{term.T(name), {Text: noData, Style: term.Secondary}, {}, {}, {}, uptime}}
	}
	row := term.Row{Cells: []term.Cell{term.T(name), cpuCell(j), memoryCell(j.MemoryBytes, j.MemoryTotalBytes), gpuCell(j.GPUs), gpuMemoryCell(j.GPUs), uptime}}
	if old := now.Sub(j.MeasuredAt.Time); old >= staleAfter {
		for i := range row.Cells {
			row.Cells[i].Style = term.Secondary
		}
		row.Note, row.NoteStyle = "no news from its host for "+shortAge(old), term.Warning
	}
	return row
}

func cpuCell(j api.JobUsage) term.Cell {
	if j.CPUPercent == nil {
		return term.Cell{Text: noData, Style: term.Secondary}
	}
	cores := max(j.CPUs, 1)
	share := *j.CPUPercent / float64(cores)
	return term.Cell{Text: percent(share) + " of " + strconv.Itoa(cores), Style: loadStyle(share / 100)}
}

func memoryCell(used, total int64) term.Cell {
	if total <= 0 {
		return term.T(megabytes(float64(used)))
	}
	return term.Cell{Text: megabytes(float64(used)) + "/" + megabytes(float64(total)), Style: loadStyle(float64(used) / float64(total))}
}

func gpuCell(gpus []api.JobGPUUsage) term.Cell {
	if len(gpus) == 0 {
		return term.T("-")
	}
	load := gpuLoad(gpus)
	text := noData
	if load >= 0 {
		text = percent(load)
	}
	if len(gpus) > 1 {
		text += " of " + strconv.Itoa(len(gpus))
	}
	return term.Cell{Text: text, Style: loadStyle(load / 100)}
}

func gpuMemoryCell(gpus []api.JobGPUUsage) term.Cell {
	if len(gpus) == 0 {
		return term.T("-")
	}
	var used, total int64
	for _, gpu := range gpus {
		used += gpu.MemoryBytes
		total += gpu.MemoryTotalBytes
	}
	return memoryCell(used, total)
}

// gpuLoad is the mean load of the GPUs that tell theirs in percent, -1 if none
// does.
func gpuLoad(gpus []api.JobGPUUsage) float64 {
	sum, known := 0, 0
	for _, gpu := range gpus {
		if gpu.UtilPercent != nil {
			sum += *gpu.UtilPercent
			known++
		}
	}
	if known == 0 {
		return -1
	}
	return float64(sum) / float64(known)
}

// shortAge writes a duration with its largest one or two units.
func shortAge(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// ReadUsage reads the newest values of a job's series (spec: rest-api.md 7.5)
// into j, which has its GPUs already.
func ReadUsage(j *api.JobUsage, metrics []api.Metric) {
	series := map[string]api.Metric{}
	for _, m := range metrics {
		series[m.Name] = m
	}
	value := func(name string) float64 {
		v, _ := newestOf(series[name])
		return v
	}
	load := series["cpu_usage_percent"]
	if len(load.Values) == 0 || len(load.Timestamps) == 0 {
		return
	}
	j.MeasuredAt, j.CPUPercent, j.CPUs = &load.Timestamps[0], &load.Values[0], int(value("cpus_detected_num"))
	j.MemoryBytes, j.MemoryTotalBytes = int64(value("memory_working_set_bytes")), int64(value("memory_total_bytes"))
	for n := range j.GPUs {
		if util, ok := newestOf(series["gpu_util_percent_gpu"+strconv.Itoa(n)]); ok {
			j.GPUs[n].UtilPercent = new(int(util))
		}
		j.GPUs[n].MemoryBytes = int64(value("gpu_memory_usage_bytes_gpu" + strconv.Itoa(n)))
	}
}
