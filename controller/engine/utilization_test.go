package engine

import (
	"testing"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// used are points from some time ago until now, one each 10 s; each column
// is an accelerator of which one value stands for one point, the oldest first,
// and the last one for all that follow.
func used(since time.Duration, gpus ...[]int) []store.MetricsPoint {
	var out []store.MetricsPoint
	for n, at := 0, now().Add(-since); !at.After(now()); n, at = n+1, at.Add(10*time.Second) {
		p := store.MetricsPoint{JobID: "j1", At: at}
		for _, values := range gpus {
			p.GPUs = append(p.GPUs, jobapi.GPUUsage{UtilPercent: values[min(n, len(values)-1)]})
		}
		out = append([]store.MetricsPoint{p}, out...)
	}
	return out
}

// TestUtilization is appendix 79.
func TestUtilization(t *testing.T) {
	t.Parallel()
	const whole = 600 * time.Second
	idle := []int{79}
	stale := used(whole, idle)
	for i := range stale {
		stale[i].At = stale[i].At.Add(-2 * time.Minute)
	}
	changed := used(whole, idle)
	changed[3].GPUs = nil
	for name, tt := range map[string]struct {
		points []store.MetricsPoint
		idle   bool
		next   time.Duration
	}{
		"idle for the whole window":         {used(whole, idle), true, 0},
		"nearly the whole window":           {used(whole-time.Minute, idle), true, 0},
		"not long enough":                   {used(whole-70*time.Second, idle), false, 10 * time.Second},
		"just started":                      {used(0, idle), false, 540 * time.Second},
		"one of two":                        {used(whole, []int{100}, idle), true, 0},
		"both at work":                      {used(whole, []int{80}, []int{100}), false, 600*time.Second + time.Microsecond},
		"at work at first":                  {used(whole, []int{80, 0}), false, 10 * time.Second},
		"at work a while ago":               {used(whole, []int{0, 0, 0, 0, 0, 0, 80, 0}), false, 60*time.Second + time.Microsecond},
		"unknown":                           {used(whole, []int{-1}), false, 600*time.Second + time.Microsecond},
		"no accelerators":                   {used(whole), false, time.Minute},
		"nothing measured":                  {nil, false, time.Minute},
		"nothing measured lately":           {stale, false, time.Minute},
		"an accelerator that was not there": {changed, false, 570*time.Second + time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inst := testInstance(api.InstanceBusy)
			job := testJob(api.JobRunning, on(&hostapi.Task{ID: "j1", State: hostapi.TaskRunning}), func(j *store.Job) {
				j.Spec.UtilizationPolicy = &config.UtilizationPolicy{MinGPUUtilization: 80, TimeWindow: 600}
			})
			v := jobViewOf(testRun(api.RunRunning), job, &inst)
			v.usage = tt.points
			d := decideJob(v)
			if !tt.idle {
				expect(t, "status", v.job.Status, api.JobRunning)
				expect(t, "looks again", d.next.Sub(now()), tt.next)
				return
			}
			expect(t, "status", v.job.Status, api.JobTerminating)
			expect(t, "reason", *v.job.Reason, api.ReasonUtilization)
			expect(t, "message", *v.job.ReasonMessage, "The job GPU utilization below 80% for 600 seconds")
			expect(t, "stops gently", doing(d), []string{"stop 300"})
		})
	}
}
