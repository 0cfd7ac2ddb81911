package render

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"dstack/cli/term"
	"dstack/protocol/api"
)

// JobUsage is what one job of a run used.
type JobUsage struct {
	Replica, Job int
	Metrics      []api.Metric
}

const (
	// usageWindow is how much time a sparkline shows.
	usageWindow = time.Hour
	// nowFor is how long the newest value is called "now".
	nowFor = 30 * time.Second
	// A sparkline is as wide as the terminal allows, within these limits.
	minSpark, maxSpark = 10, 80
	noData             = "no data"
)

// bars are the heights of a sparkline, for equal parts of 0 to 100 %.
var bars = []rune("▁▂▃▄▅▆▇")

// device is one line of the table: a CPU or GPU with its load and memory, as
// fractions, and the newest values as text.
type device struct {
	label, name  string
	load, memory points
	loadText     string
	memoryText   string
}

// point is a fraction of 1 at a time.
type point struct {
	at    time.Time
	value float64
}

type points []point

// MetricsTable shows each device of each job with a sparkline of its load and
// one of its memory, over one hour that all lines share. columns is the width
// of the terminal, 0 if there is none.
func MetricsTable(jobs []JobUsage, now time.Time, columns int) term.Table {
	replicas := map[int]bool{}
	for _, j := range jobs {
		replicas[j.Replica] = true
	}
	var devices []device
	var newest time.Time
	for _, j := range jobs {
		label := fmt.Sprintf("job=%d", j.Job)
		if len(replicas) > 1 {
			label = fmt.Sprintf("replica=%d %s", j.Replica, label)
		}
		for i, d := range devicesOf(j) {
			if i == 0 {
				d.label = label
			}
			if len(d.load) > 0 && d.load[0].at.After(newest) {
				newest = d.load[0].at
			}
			devices = append(devices, d)
		}
	}
	t := term.Table{Columns: []term.Column{{}, {}, {Title: "UTILIZATION"}, {Title: "MEMORY"}}}
	width := sparkWidth(devices, columns)
	for _, d := range devices {
		t.Rows = append(t.Rows, term.Row{Cells: []term.Cell{
			term.T(d.label), term.T(d.name), d.load.cell(newest, width, d.loadText), d.memory.cell(newest, width, d.memoryText),
		}})
	}
	if !newest.IsZero() {
		axis := term.Cell{Text: axisOf(newest, now, width), Style: term.Secondary}
		t.Rows = append(t.Rows, term.Row{}, term.Row{Cells: []term.Cell{{}, {}, axis, axis}})
	}
	return t
}

// devicesOf reads the series of a job.
func devicesOf(j JobUsage) []device {
	series := map[string]api.Metric{}
	for _, m := range j.Metrics {
		series[m.Name] = m
	}
	cpu := device{name: "cpu", loadText: noData, memoryText: noData}
	if load, ok := newestOf(series["cpu_usage_percent"]); ok {
		cores, known := newestOf(series["cpus_detected_num"])
		if !known || cores < 1 {
			cores = 1
		}
		cpu.load, cpu.loadText = fractions(series["cpu_usage_percent"], 100*cores), percent(load/cores)
	}
	cpu.memory, cpu.memoryText = memoryOf(series["memory_working_set_bytes"], series["memory_total_bytes"])
	out := []device{cpu}
	gpus, _ := newestOf(series["gpus_detected_num"])
	for n := range int(gpus) {
		d := device{name: "gpu=" + strconv.Itoa(n), loadText: noData}
		loads := series["gpu_util_percent_gpu"+strconv.Itoa(n)]
		if load, ok := newestOf(loads); ok {
			d.load, d.loadText = fractions(loads, 100), percent(load)
		}
		d.memory, d.memoryText = memoryOf(series["gpu_memory_usage_bytes_gpu"+strconv.Itoa(n)], series["gpu_memory_total_bytes"])
		out = append(out, d)
	}
	return out
}

func newestOf(m api.Metric) (float64, bool) {
	if len(m.Values) == 0 {
		return 0, false
	}
	return m.Values[0], true
}

func fractions(m api.Metric, whole float64) points {
	out := make(points, 0, len(m.Values))
	for i, v := range m.Values {
		if i < len(m.Timestamps) {
			out = append(out, point{m.Timestamps[i].Time, v / whole})
		}
	}
	return out
}

func memoryOf(used, total api.Metric) (points, string) {
	now, ok := newestOf(used)
	if !ok {
		return nil, noData
	}
	whole, known := newestOf(total)
	if !known || whole <= 0 {
		return nil, megabytes(now)
	}
	return fractions(used, whole), megabytes(now) + "/" + megabytes(whole)
}

// megabytes writes a size in MB below 1024 MB, else in GB.
func megabytes(bytes float64) string {
	mb := bytes / (1 << 20)
	if mb < 1024 {
		return strconv.Itoa(int(math.RoundToEven(mb))) + "MB"
	}
	return strconv.Itoa(int(math.RoundToEven(mb/1024))) + "GB"
}

func percent(v float64) string { return strconv.Itoa(int(math.RoundToEven(v))) + "%" }

// sparkWidth is how wide each of the two sparklines may be.
func sparkWidth(devices []device, columns int) int {
	if columns == 0 {
		columns = 80
	}
	var label, name, load, memory int
	for _, d := range devices {
		label = max(label, utf8.RuneCountInString(d.label))
		name = max(name, utf8.RuneCountInString(d.name))
		load = max(load, utf8.RuneCountInString(d.loadText))
		memory = max(memory, utf8.RuneCountInString(d.memoryText))
	}
	// A blank at both ends, two between columns, one before each text.
	left := columns - (label + name + load + memory + 3*2 + 2 + 2)
	return min(max(left/2, minSpark), maxSpark)
}

// cell is the sparkline with the newest value behind it.
func (p points) cell(newest time.Time, width int, text string) term.Cell {
	if len(p) == 0 || newest.IsZero() {
		return term.T(text)
	}
	line, mean := p.spark(newest, width)
	return term.Cell{Text: line + " " + text, Style: loadStyle(mean)}
}

// spark draws the peaks of equal parts of the window; mean is that of all
// values in it.
func (p points) spark(newest time.Time, width int) (line string, mean float64) {
	peaks := make([]float64, width)
	for i := range peaks {
		peaks[i] = -1
	}
	n := 0
	for _, v := range p {
		age := newest.Sub(v.at)
		if age < 0 || age >= usageWindow {
			continue
		}
		i := width - 1 - int(age*time.Duration(width)/usageWindow)
		peaks[i] = max(peaks[i], v.value)
		mean += v.value
		n++
	}
	var b strings.Builder
	for _, peak := range peaks {
		if peak < 0 {
			b.WriteByte(' ')
			continue
		}
		b.WriteRune(bars[min(int(peak*float64(len(bars)-1)), len(bars)-1)])
	}
	return b.String(), mean / float64(max(n, 1))
}

// loadStyle colours by how much is used on average.
func loadStyle(mean float64) term.Style {
	switch {
	case mean >= 0.9:
		return term.Gold
	case mean >= 0.1:
		return term.Green
	}
	return term.Secondary
}

// axisOf names the ends of the window.
func axisOf(newest, now time.Time, width int) string {
	const layout = "2 Jan 15:04"
	first, last := newest.Add(-usageWindow).Local().Format(layout), "now"
	if now.Sub(newest) >= nowFor {
		last = newest.Local().Format(layout)
	}
	dots := max(width-utf8.RuneCountInString(first)-utf8.RuneCountInString(last)-2, 1)
	return first + " " + strings.Repeat("┄", dots) + " " + last
}
