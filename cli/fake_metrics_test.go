package cli

import (
	"slices"
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

// usage are the values of the running jobs, as fakeMetrics has them.
func (f *fakeServer) usage(req api.UsageRequest) (any, error) {
	out := api.ProjectUsage{Jobs: []api.JobUsage{}}
	for _, name := range req.RunNames {
		if _, err := f.getRun(&name, nil); err != nil {
			return nil, failure("resource_not_exists", "Run "+name+" not found")
		}
	}
	for _, run := range f.runs {
		name := *run.RunSpec.RunName
		if run.Status.Finished() || len(req.RunNames) > 0 && !slices.Contains(req.RunNames, name) {
			continue
		}
		out.Jobs = append(out.Jobs, api.JobUsage{
			RunName: name, JobName: name + "-0-0", User: "admin", MeasuredAt: new(api.At(fakeStart.Add(time.Hour))), CPUPercent: new(172.0),
			CPUs: 4, MemoryBytes: 300 << 20, MemoryTotalBytes: 16 << 30, GPUs: []api.JobGPUUsage{},
		})
	}
	return out, nil
}
