package render

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/cli/term"
	"dstack/protocol/api"
)

func usageOf(name string, job int, cpu float64, memory int64, gpus ...api.JobGPUUsage) api.JobUsage {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	return api.JobUsage{
		RunName: name, JobNum: job, JobName: name + "-0-" + string(rune('0'+job)), User: "admin", Backend: "remote", Region: "remote",
		RunningSince: new(api.At(now.Add(-90 * time.Minute))), MeasuredAt: new(api.At(now)),
		CPUPercent: &cpu, CPUs: 4, MemoryBytes: memory << 20, MemoryTotalBytes: 16 << 30, GPUs: gpus,
	}
}

func TestUsageTable(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	gpu := func(util int) api.JobGPUUsage {
		return api.JobGPUUsage{Name: "H100", UtilPercent: &util, MemoryBytes: 40 << 30, MemoryTotalBytes: 80 << 30}
	}
	silent := usageOf("silent", 0, 10, 100)
	silent.MeasuredAt = new(api.At(now.Add(-5 * time.Minute)))
	first := usageOf("first", 0, 0, 100)
	first.CPUPercent = nil
	jobs := []api.JobUsage{
		usageOf("nodes", 0, 400, 512), usageOf("nodes", 1, 100, 2048, gpu(50), gpu(100)), silent, first,
		{RunName: "new", User: "bob", Backend: "aws", Region: "eu-west-1", RunningSince: new(api.At(now.Add(-26 * time.Hour)))},
		usageOf("blind", 0, 0, 0, api.JobGPUUsage{Name: "L4"}),
	}
	console := &term.Console{}
	for name, tt := range map[string]struct {
		verbose bool
		want    string
	}{
		"short": {false, ` NAME       CPU        MEMORY      GPU       GPU MEMORY  UPTIME
 nodes-0-0  100% of 4  512MB/16GB  -         -           1h30m
 nodes-0-1  25% of 4   2GB/16GB    75% of 2  80GB/160GB  1h30m
 silent     2% of 4    100MB/16GB  -         -           1h30m
    no news from its host for 5m
 first      no data    100MB/16GB  -         -           1h30m
 new        no data                                      1d02h
 blind      0% of 4    0MB/16GB    no data   0MB         1h30m
`},
		"verbose": {true, ` NAME           CPU        MEMORY      GPU       GPU MEMORY  UPTIME  USER   BACKEND
 nodes-0-0      100% of 4  512MB/16GB  -         -           1h30m   admin  ssh
 nodes-0-1      25% of 4   2GB/16GB    75% of 2  80GB/160GB  1h30m   admin  ssh
    gpu=0 H100                         50%       40GB/80GB
    gpu=1 H100                         100%      40GB/80GB
 silent         2% of 4    100MB/16GB  -         -           1h30m   admin  ssh
    no news from its host for 5m
 first          no data    100MB/16GB  -         -           1h30m   admin  ssh
 new            no data                                      1d02h   bob    aws (eu-west-1)
 blind          0% of 4    0MB/16GB    no data   0MB         1h30m   admin  ssh
    gpu=0 L4                           no data   0MB
`},
	} {
		if diff := cmp.Diff(tt.want, console.Render(UsageTable(jobs, now, tt.verbose))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestSortUsage has the busiest first; jobs with no load are sorted by name.
func TestSortUsage(t *testing.T) {
	t.Parallel()
	util := 9
	for order, want := range map[string]string{"name": "abc", "cpu": "cba", "memory": "bac", "gpu": "abc"} {
		jobs := []api.JobUsage{usageOf("c", 0, 30, 1), usageOf("a", 0, 10, 2, api.JobGPUUsage{UtilPercent: &util}), usageOf("b", 0, 20, 3, api.JobGPUUsage{})}
		SortUsage(jobs, order)
		got := ""
		for _, j := range jobs {
			got += j.RunName
		}
		if got != want {
			t.Errorf("by %s: %s, want %s", order, got, want)
		}
	}
}

func TestReadUsage(t *testing.T) {
	t.Parallel()
	at := api.At(time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC))
	one := func(name string, v float64) api.Metric {
		return api.Metric{Name: name, Timestamps: []api.Time{at}, Values: []float64{v}}
	}
	got := api.JobUsage{RunName: "r", GPUs: []api.JobGPUUsage{{Name: "L4", MemoryTotalBytes: 9}}}
	ReadUsage(&got, []api.Metric{
		one("cpu_usage_percent", 172), one("cpus_detected_num", 4), one("memory_working_set_bytes", 5), one("memory_total_bytes", 6),
		one("gpu_util_percent_gpu0", 77), one("gpu_memory_usage_bytes_gpu0", 8),
	})
	want := api.JobUsage{
		RunName: "r", MeasuredAt: &at, CPUPercent: new(172.0), CPUs: 4, MemoryBytes: 5, MemoryTotalBytes: 6,
		GPUs: []api.JobGPUUsage{{Name: "L4", UtilPercent: new(77), MemoryBytes: 8, MemoryTotalBytes: 9}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	unmeasured := api.JobUsage{RunName: "r"}
	if ReadUsage(&unmeasured, nil); unmeasured.MeasuredAt != nil {
		t.Error("nothing was measured")
	}
}
