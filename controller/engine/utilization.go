package engine

import (
	"fmt"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

const (
	// usageSlack is how much later than the window the oldest measurement may
	// be, and how old the newest (spec: job-execution.md 11).
	usageSlack = time.Minute
	// usageAgain is how soon at the earliest a window is looked at again.
	usageAgain = 10 * time.Second
	// maxWindow bounds the measurements of a window: one a second for an hour.
	maxWindow = 3600
)

func (v *jobView) loadUsage(tx *store.Tx) error {
	policy := v.job.Spec.UtilizationPolicy
	if policy == nil {
		return nil
	}
	from := v.now.Add(-window(policy))
	var err error
	v.usage, err = tx.Metrics(store.MetricsFilter{JobID: v.job.ID, From: &from, Limit: maxWindow})
	return err
}

func window(p *config.UtilizationPolicy) time.Duration {
	return time.Duration(p.TimeWindow) * time.Second
}

// checkUtilization ends a job of which an accelerator was idle for the whole
// window of its policy.
func (v *jobView) checkUtilization(d *decision) {
	policy := v.job.Spec.UtilizationPolicy
	if policy == nil {
		return
	}
	idle, next := idleGPU(v.usage, policy, v.now)
	if !idle {
		d.at(next)
		return
	}
	v.endGently(d, api.ReasonUtilization, fmt.Sprintf("The job GPU utilization below %d%% for %d seconds", policy.MinGPUUtilization, policy.TimeWindow))
}

// idleGPU says whether some accelerator was below the minimum in all
// measurements of the window, and if not, when that may be so at the earliest.
// points are those of the window, the newest first.
func idleGPU(points []store.MetricsPoint, p *config.UtilizationPolicy, now time.Time) (idle bool, next time.Time) {
	soonest := now.Add(usageAgain)
	if len(points) == 0 || len(points[0].GPUs) == 0 || now.Sub(points[0].At) > usageSlack {
		return false, now.Add(usageSlack)
	}
	oldest := points[len(points)-1].At
	covered := oldest.Add(window(p) - usageSlack)
	for gpu := range points[0].GPUs {
		may := covered
		if busy := lastBusy(points, gpu, p.MinGPUUtilization); busy != nil {
			may = busy.Add(window(p) + time.Microsecond)
		}
		if !now.Before(may) {
			return true, time.Time{}
		}
		if next.IsZero() || may.Before(next) {
			next = may
		}
	}
	if next.Before(soonest) {
		next = soonest
	}
	return false, next
}

// lastBusy is when an accelerator last reached the minimum, or was not seen.
func lastBusy(points []store.MetricsPoint, gpu, minimum int) *time.Time {
	for _, p := range points {
		if gpu >= len(p.GPUs) || p.GPUs[gpu].UtilPercent < 0 || p.GPUs[gpu].UtilPercent >= minimum {
			return &p.At
		}
	}
	return nil
}
