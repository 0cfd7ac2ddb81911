package store

import (
	"errors"
	"testing"

	"dstack/protocol/jobapi"
)

func testMetrics(t *testing.T, s *Store) {
	t.Helper()
	point := func(job string, sec int, gpus ...jobapi.GPUUsage) MetricsPoint {
		return MetricsPoint{JobID: job, At: at(sec), CPUMicro: int64(sec), MemoryBytes: 5, WorkingSetBytes: 4, GPUs: gpus}
	}
	other := testJob()
	other.ID, other.SubmissionNum = "j2", 1
	a, b, c, d := point("j1", 1), point("j1", 2, jobapi.GPUUsage{MemoryBytes: 7, UtilPercent: -1}), point("j1", 3), point("j2", 1)
	write(t, s, func(tx *Tx) error {
		return errors.Join(seed(tx), tx.InsertJob(&other), tx.Wake(at(1), Key{KindJob, "j1"}),
			tx.InsertMetrics(a, b, point("gone", 1)), tx.InsertMetrics(b, c, d))
	})
	from, before := at(2), at(3)
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "all", []MetricsPoint{c, b, a})(tx.Metrics(MetricsFilter{JobID: "j1", Limit: 9})),
			same(t, "limit", []MetricsPoint{c, b})(tx.Metrics(MetricsFilter{JobID: "j1", Limit: 2})),
			same(t, "window", []MetricsPoint{b})(tx.Metrics(MetricsFilter{JobID: "j1", From: &from, Before: &before, Limit: 9})),
			same(t, "no such job", []MetricsPoint{})(tx.Metrics(MetricsFilter{JobID: "gone", Limit: 9})),
			same(t, "latest", map[string]MetricsPoint{"j1": c, "j2": d})(tx.LatestMetrics([]string{"j1", "j2", "gone"})),
			same(t, "latest of none", map[string]MetricsPoint{})(tx.LatestMetrics(nil)),
		)
	})
	write(t, s, func(tx *Tx) error { return tx.DeleteMetrics(at(2), at(1)) })
	read(t, s, func(tx *Tx) error {
		return errors.Join(
			same(t, "of a live job", []MetricsPoint{c, b})(tx.Metrics(MetricsFilter{JobID: "j1", Limit: 9})),
			same(t, "of a finished one", []MetricsPoint{d})(tx.Metrics(MetricsFilter{JobID: "j2", Limit: 9})),
		)
	})
	write(t, s, func(tx *Tx) error { return tx.DeleteMetrics(at(2), at(2)) })
	read(t, s, func(tx *Tx) error {
		return same(t, "finished long ago", []MetricsPoint{})(tx.Metrics(MetricsFilter{JobID: "j2", Limit: 9}))
	})
	write(t, s, func(tx *Tx) error { return tx.DeleteJob("j1") })
	read(t, s, func(tx *Tx) error {
		return same(t, "of a deleted job", []MetricsPoint{})(tx.Metrics(MetricsFilter{JobID: "j1", Limit: 9}))
	})
}
