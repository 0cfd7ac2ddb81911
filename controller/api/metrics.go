package api

import (
	"fmt"
	"math"
	"strconv"

	"github.com/gin-gonic/gin"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// maxMetrics bounds how many values of a series are returned.
const maxMetrics = 10_000

const noJobFound = "Found no job with given parameters"

// jobMetrics tells what the latest submission of a job used (spec: rest-api.md 7.5).
func (a *API) jobMetrics(g *gin.Context, c call, runName string, in api.JobMetricsRequest) (api.JobMetrics, error) {
	out := api.JobMetrics{Metrics: []api.Metric{}}
	err := a.deps.Store.Read(g.Request.Context(), func(tx *store.Tx) error {
		job, err := jobOf(tx, c, runName, in)
		limit := min(deref(in.Limit, 1), maxMetrics)
		if err != nil || limit <= 0 {
			return err
		}
		// The load is a difference: one more point than values.
		f := store.MetricsFilter{JobID: job.ID, Limit: limit + 1}
		if in.After != nil {
			f.From = &in.After.Time
		}
		if in.Before != nil {
			f.Before = &in.Before.Time
		}
		points, err := tx.Metrics(f)
		if err != nil {
			return fmt.Errorf("read metrics: %w", err)
		}
		if len(points) > 1 {
			out.Metrics = series(points, resourcesOf(job))
		}
		return nil
	})
	return out, err
}

// jobOf finds the latest submission of the job that the query names.
func jobOf(tx *store.Tx, c call, runName string, in api.JobMetricsRequest) (*store.Job, error) {
	var run store.Run
	var err error
	if in.RunID != nil {
		run, err = tx.Run(*in.RunID)
	} else {
		run, err = tx.RunByName(c.Project.ID, runName)
	}
	if isNotFound(err) || err == nil && (run.ProjectID != c.Project.ID || run.Name != runName) {
		return nil, notExists(noJobFound)
	}
	if err != nil {
		return nil, fmt.Errorf("find run: %w", err)
	}
	jobs, err := tx.LatestJobsByRun(run.ID)
	if err != nil {
		return nil, fmt.Errorf("find job: %w", err)
	}
	for i := range jobs {
		if jobs[i].ReplicaNum == in.ReplicaNum && jobs[i].JobNum == in.JobNum {
			return &jobs[i], nil
		}
	}
	return nil, notExists(noJobFound)
}

// resourcesOf is what a job has: its share of the instance, or all of it; nil
// if it has no place yet.
func resourcesOf(j *store.Job) *api.Resources {
	switch {
	case j.Runtime != nil && j.Runtime.Offer != nil:
		return &j.Runtime.Offer.Instance.Resources
	case j.Provisioning != nil:
		return &j.Provisioning.InstanceType.Resources
	}
	return nil
}

// series makes the series of points, newest first, of which the last only
// serves to tell the load.
func series(points []store.MetricsPoint, r *api.Resources) []api.Metric {
	shown := points[:len(points)-1]
	times := make([]api.Time, len(shown))
	for i, p := range shown {
		times[i] = api.At(p.At)
	}
	var out []api.Metric
	add := func(name string, value func(i int) float64) {
		m := api.Metric{Name: name, Timestamps: times, Values: make([]float64, len(shown))}
		for i := range shown {
			m.Values[i] = value(i)
		}
		out = append(out, m)
	}
	same := func(v float64) func(int) float64 { return func(int) float64 { return v } }
	add("cpu_usage_percent", func(i int) float64 { return load(points[i], points[i+1]) })
	add("memory_usage_bytes", func(i int) float64 { return float64(shown[i].MemoryBytes) })
	add("memory_working_set_bytes", func(i int) float64 { return float64(shown[i].WorkingSetBytes) })
	if r != nil {
		add("cpus_detected_num", same(float64(r.CPUs)))
		add("memory_total_bytes", same(float64(int64(r.MemoryMiB)<<20)))
	}
	gpus := len(points[0].GPUs)
	for _, p := range points {
		if len(p.GPUs) != gpus {
			return out // they came or went: nobody knows which is which
		}
	}
	add("gpus_detected_num", same(float64(gpus)))
	if r != nil && len(r.GPUs) > 0 {
		add("gpu_memory_total_bytes", same(float64(int64(r.GPUs[0].MemoryMiB)<<20)))
	}
	for n := range gpus {
		add("gpu_memory_usage_bytes_gpu"+strconv.Itoa(n), func(i int) float64 { return float64(shown[i].GPUs[n].MemoryBytes) })
	}
	for n := range gpus {
		add("gpu_util_percent_gpu"+strconv.Itoa(n), func(i int) float64 { return float64(max(shown[i].GPUs[n].UtilPercent, 0)) })
	}
	return out
}

// load is the CPU load between two points in percent of one CPU.
func load(later, earlier store.MetricsPoint) float64 {
	took := later.At.Sub(earlier.At).Microseconds()
	used := later.CPUMicro - earlier.CPUMicro
	if took <= 0 || used <= 0 { // a job that was started again counts from 0
		return 0
	}
	return math.RoundToEven(float64(used) / float64(took) * 100)
}
