package render

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/api"
)

// minutes is how long the series of a test are.
const minutes = 50

// used is a series of one value a minute, the newest first, that ends at end.
func used(name string, end time.Time, values ...float64) api.Metric {
	m := api.Metric{Name: name, Values: values}
	for n := range values {
		m.Timestamps = append(m.Timestamps, api.At(end.Add(-time.Duration(n)*time.Minute)))
	}
	return m
}

func flat(value float64) []float64 {
	out := make([]float64, minutes)
	for i := range out {
		out[i] = value
	}
	return out
}

// slope rises by 2 a minute looked at backwards, so it falls in time.
func slope() []float64 {
	out := make([]float64, minutes)
	for i := range out {
		out[i] = float64(2 * i)
	}
	return out
}

// TestMetricsTable has the form of the transcripts of 0.22.5
// (cli-transcripts.md 17).
func TestMetricsTable(t *testing.T) {
	t.Parallel()
	end := time.Date(2026, 11, 23, 16, 46, 0, 0, time.UTC)
	metrics := []api.Metric{
		used("cpu_usage_percent", end, flat(180)...), used("cpus_detected_num", end, flat(4)...),
		used("memory_working_set_bytes", end, flat(200<<30)...), used("memory_total_bytes", end, flat(1<<40)...),
		used("gpus_detected_num", end, flat(2)...), used("gpu_memory_total_bytes", end, flat(80<<30)...),
	}
	for n := range 2 {
		metrics = append(metrics,
			used("gpu_util_percent_gpu"+strconv.Itoa(n), end, slope()...),
			used("gpu_memory_usage_bytes_gpu"+strconv.Itoa(n), end, flat(40<<30)...))
	}
	table := MetricsTable([]JobUsage{{Metrics: metrics}}, end.Add(10*time.Second), 92)
	// The axis is in local time, wherever this runs.
	first := end.Add(-time.Hour).Local().Format("2 Jan 15:04")
	want := lines(
		"               UTILIZATION                       MEMORY",
		" job=0  cpu         ▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃ 45%       ▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂ 200GB/1024GB",
		"        gpu=0       ▆▆▆▆▅▅▅▅▄▄▄▄▃▃▃▃▂▂▂▁▁▁▁ 0%        ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄ 40GB/80GB",
		"        gpu=1       ▆▆▆▆▅▅▅▅▄▄▄▄▃▃▃▃▂▂▂▁▁▁▁ 0%        ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄ 40GB/80GB",
		"",
		"               "+first+" ┄┄┄┄┄┄┄┄┄┄┄ now      "+first+" ┄┄┄┄┄┄┄┄┄┄┄ now",
	)
	if diff := cmp.Diff(want, plain(table)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for columns, width := range map[int]int{0: 22, 10: 10, 60: 12, 1000: 80} {
		cell := MetricsTable([]JobUsage{{Metrics: metrics}}, end, columns).Rows[0].Cells[2].Text
		if got := len([]rune(cell)) - len(" 45%"); got != width {
			t.Errorf("in %d columns a line has %d characters, want %d", columns, got, width)
		}
	}
}

// TestMetricsOfSeveralJobs has replicas, a job without data, unknown totals
// and values outside of the window.
func TestMetricsOfSeveralJobs(t *testing.T) {
	t.Parallel()
	end := now.Add(-time.Minute)
	old := []api.Metric{
		used("cpu_usage_percent", end.Add(-2*time.Hour), 250), used("memory_working_set_bytes", end.Add(-2*time.Hour), 700<<20),
		used("gpus_detected_num", end.Add(-2*time.Hour), 1),
	}
	fresh := []api.Metric{used("cpu_usage_percent", end, 5, 5), used("cpus_detected_num", end, 1, 1)}
	got := plain(MetricsTable([]JobUsage{{Metrics: fresh}, {Replica: 1, Metrics: old}, {Replica: 1, Job: 1}}, now, 70))
	ends := end.Add(-time.Hour).Local().Format("2 Jan 15:04") + " ┄ " + end.Local().Format("2 Jan 15:04")
	want := lines(
		"                         UTILIZATION                  MEMORY",
		" replica=0 job=0  cpu                ▁ 5%             no data",
		" replica=1 job=0  cpu                  250%           700MB",
		"                  gpu=0  no data                      no data",
		" replica=1 job=1  cpu    no data                      no data",
		"",
		"                         "+ends+"  "+ends,
	)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
