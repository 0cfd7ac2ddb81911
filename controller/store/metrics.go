package store

import (
	"fmt"
	"time"

	"dstack/protocol/jobapi"
)

// MetricsPoint is what a job used at a moment. CPUMicro is the CPU time used
// so far; sizes are bytes.
type MetricsPoint struct {
	JobID           string
	At              time.Time
	CPUMicro        int64
	MemoryBytes     int64
	WorkingSetBytes int64
	GPUs            []jobapi.GPUUsage
}

var metrics = newTable("job_metrics", func(r *MetricsPoint, c *codec) []column {
	return []column{
		col("job_id", &r.JobID),
		col("at", instant{&r.At}),
		col("cpu_micro", &r.CPUMicro),
		col("memory", &r.MemoryBytes),
		col("working_set", &r.WorkingSetBytes),
		col("gpus", plain(&r.GPUs, c)),
	}
})

// InsertMetrics adds points. One of a job that is gone, or that is there
// already, is left out.
func (tx *Tx) InsertMetrics(points ...MetricsPoint) error {
	query := "INSERT INTO job_metrics (" + metrics.list + ") SELECT $1, $2, $3, $4, $5, $6 " +
		"WHERE EXISTS (SELECT 1 FROM jobs WHERE id = $1) ON CONFLICT DO NOTHING"
	for _, p := range points {
		if _, err := tx.exec(query, metrics.refs(&p, tx.c.codec, false)...); err != nil {
			return fmt.Errorf("insert metrics: %w", err)
		}
	}
	return nil
}

// MetricsFilter says which points of a job to read.
type MetricsFilter struct {
	JobID string
	// From is the first time that counts, Before the first that does not.
	From, Before *time.Time
	Limit        int
}

// Metrics reads points of a job, the newest first.
func (tx *Tx) Metrics(f MetricsFilter) ([]MetricsPoint, error) {
	var w where
	w.add("job_id = ?", f.JobID)
	if f.From != nil {
		w.add("at >= ?", f.From.UnixMicro())
	}
	if f.Before != nil {
		w.add("at < ?", f.Before.UnixMicro())
	}
	tail := w.bind(" ORDER BY at DESC LIMIT ?", f.Limit)
	return metrics.find(tx, w.String()+tail, w.args...)
}

// LatestMetrics reads the newest point of each of the jobs that has one.
func (tx *Tx) LatestMetrics(jobIDs []string) (map[string]MetricsPoint, error) {
	ids := nonNil(jobIDs)
	var w where
	// By job: to ask for each point whether it is the newest takes seconds.
	w.add("(job_id, at) IN (SELECT j.id, (SELECT max(m.at) FROM job_metrics m WHERE m.job_id = j.id) FROM jobs j WHERE "+
		inList("j.id")+")", jsonArg{&ids})
	points, err := metrics.find(tx, w.String(), w.args...)
	if err != nil {
		return nil, err
	}
	out := make(map[string]MetricsPoint, len(points))
	for _, p := range points {
		out[p.JobID] = p
	}
	return out, nil
}

// DeleteMetrics deletes what was measured of jobs that have not ended before
// live, and of all before finished.
func (tx *Tx) DeleteMetrics(live, finished time.Time) error {
	// Two statements, so that each has its index.
	_, err := tx.exec("DELETE FROM job_metrics WHERE job_id IN (SELECT id FROM work WHERE kind = $1) AND at < $2", KindJob, live.UnixMicro())
	if err == nil {
		_, err = tx.exec("DELETE FROM job_metrics WHERE at < $1", finished.UnixMicro())
	}
	if err != nil {
		return fmt.Errorf("delete metrics: %w", err)
	}
	return nil
}
