package cli

import (
	"time"

	"dstack/protocol/api"
)

// fakeMetrics are those of a run: sleep has some, all others none.
func fakeMetrics(run string) api.JobMetrics {
	if run != "sleep" {
		return api.JobMetrics{Metrics: []api.Metric{}}
	}
	now := api.At(fakeStart.Add(time.Hour))
	series := func(name string, value float64) api.Metric {
		return api.Metric{Name: name, Timestamps: []api.Time{now, api.At(now.Add(-10 * time.Minute))}, Values: []float64{value, value}}
	}
	return api.JobMetrics{Metrics: []api.Metric{
		series("cpu_usage_percent", 172), series("memory_usage_bytes", 2<<30), series("memory_working_set_bytes", 300<<20),
		series("cpus_detected_num", 4), series("memory_total_bytes", 16<<30), series("gpus_detected_num", 0),
	}}
}
