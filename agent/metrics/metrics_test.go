package metrics

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"dstack/protocol/jobapi"
)

func files(texts map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range texts {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

const (
	v2Mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	v1Mount = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n" +
		"33 31 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro shared:1 - cgroup cgroup rw,cpu,cpuacct\n"
	v1Host = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n"
)

// stat is a line of the process table: 1 s of CPU of its own, 0.5 s of the
// children that it waited for, 10 pages.
func stat(pid, parent string) string {
	return pid + " (a b) c) S " + parent + " 1 1 0 -1 4194560 1 2 3 4 70 30 20 30 20 0 1 0 5 1000 10 18446744073709551615 1 1\n"
}

func TestUsage(t *testing.T) {
	t.Parallel()
	page := int64(os.Getpagesize())
	table := map[string]string{
		"proc/1/stat": stat("1", "0"), "proc/7/stat": stat("7", "1"), "proc/8/stat": stat("8", "7"), "proc/9/stat": stat("9", "8"),
		"proc/5/stat": stat("5", "1"), "proc/6/stat": "6 (broken", "proc/uptime": "1 1",
	}
	with := func(more map[string]string) map[string]string {
		all := map[string]string{}
		for _, m := range []map[string]string{table, more} {
			for k, v := range m {
				all[k] = v
			}
		}
		return all
	}
	v2 := func(dir string) map[string]string {
		return map[string]string{
			dir + "/cpu.stat": "usage_usec 1234567\nuser_usec 1\n", dir + "/memory.current": "5000\n",
			dir + "/memory.stat": "anon 1\ninactive_file 1500\n",
		}
	}
	merge := func(list ...map[string]string) map[string]string {
		all := map[string]string{}
		for _, m := range list {
			for k, v := range m {
				all[k] = v
			}
		}
		return with(all)
	}
	group := &jobapi.Usage{CPUMicro: 1234567, MemoryBytes: 5000, WorkingSetBytes: 3500}
	whole := &jobapi.Usage{CPUMicro: 5 * 1_500_000, MemoryBytes: 5 * 10 * page, WorkingSetBytes: 5 * 10 * page}
	tree := &jobapi.Usage{CPUMicro: 3 * 1_500_000, MemoryBytes: 3 * 10 * page, WorkingSetBytes: 3 * 10 * page}
	for name, tt := range map[string]struct {
		root     map[string]string
		isolated bool
		want     *jobapi.Usage
	}{
		"v2, namespace of its own": {merge(map[string]string{"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mount}, v2("sys/fs/cgroup")), true, group},
		"v2, the host's namespace": {merge(map[string]string{"proc/self/cgroup": "0::/system.slice/docker-abc.scope\n", "proc/self/mountinfo": v2Mount}, v2("sys/fs/cgroup/system.slice/docker-abc.scope")), true, group},
		"v2, outside of the mount": {merge(map[string]string{"proc/self/cgroup": "0::/../x\n", "proc/self/mountinfo": v2Mount}, v2("sys/fs/cgroup")), true, group},
		"v2, at the host's top":    {merge(map[string]string{"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mount, "sys/fs/cgroup/cpu.stat": "usage_usec 9\n"}), true, whole},
		"v1": {merge(map[string]string{
			"proc/self/cgroup": "4:memory:/docker/abc\n3:cpuacct,cpu:/docker/abc\n0::/\n", "proc/self/mountinfo": v1Mount,
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "5000", "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 1500\n",
			"sys/fs/cgroup/cpu,cpuacct/cpuacct.usage": "1234567890\n",
		}), true, group},
		"v1, at the host's top": {merge(map[string]string{
			"proc/self/cgroup": "4:memory:/\n3:cpuacct:/\n", "proc/self/mountinfo": v1Host, "sys/fs/cgroup/memory/release_agent": "", "sys/fs/cgroup/cpuacct/release_agent": "",
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "1", "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0", "sys/fs/cgroup/cpuacct/cpuacct.usage": "1",
		}), true, whole},
		"process with a group":    {merge(map[string]string{"proc/self/cgroup": "0::/dstack/job-1\n", "proc/self/mountinfo": v2Mount}, v2("sys/fs/cgroup/dstack/job-1")), false, group},
		"process of the shim's":   {merge(map[string]string{"proc/self/cgroup": "0::/system.slice/dstack-shim.service\n", "proc/self/mountinfo": v2Mount}, v2("sys/fs/cgroup/system.slice/dstack-shim.service")), false, tree},
		"no control groups":       {with(nil), true, whole},
		"damaged control group":   {merge(map[string]string{"proc/self/cgroup": "0::/\nnonsense\n", "proc/self/mountinfo": "x\n" + v2Mount}, map[string]string{"sys/fs/cgroup/cpu.stat": "usage_usec x\n"}), true, whole},
		"nothing to be seen":      {map[string]string{"proc/uptime": ""}, true, nil},
		"the agent is not listed": {map[string]string{"proc/5/stat": stat("5", "1")}, false, nil},
	} {
		c := Config{Root: files(tt.root), PID: 7, JobID: "job-1", Isolated: tt.isolated}
		got, err := c.usage()
		if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != (tt.want == nil) {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func TestGPUs(t *testing.T) {
	t.Parallel()
	amd := map[string]string{"dev/kfd": "", "dev/dri/renderD128": "", "dev/dri/renderD1000": ""}
	sysfs := map[string]string{
		"sys/class/drm/renderD128/device/gpu_busy_percent": "5\n", "sys/class/drm/renderD128/device/mem_info_vram_used": "300\n",
		"sys/class/drm/renderD1000/device/gpu_busy_percent": "6\n", "sys/class/drm/renderD1000/device/mem_info_vram_used": "400\n",
	}
	both := map[string]string{}
	for _, m := range []map[string]string{amd, sysfs} {
		for k, v := range m {
			both[k] = v
		}
	}
	for name, tt := range map[string]struct {
		root    map[string]string
		visible string
		out     string
		fail    error
		call    string
		want    []jobapi.GPUUsage
		wrong   string
	}{
		"nvidia": {
			map[string]string{"dev/nvidiactl": ""}, "", "1024, 50\n2, 0\n", nil, "nvidia-smi --query-gpu=memory.used,utilization.gpu --format=csv,noheader,nounits",
			[]jobapi.GPUUsage{{MemoryBytes: 1 << 30, UtilPercent: 50}, {MemoryBytes: 2 << 20}}, "",
		},
		"nvidia without containers": {
			map[string]string{"dev/dxg": ""}, "GPU-a,GPU-b", "1, 2\n", nil, "nvidia-smi --query-gpu=memory.used,utilization.gpu --format=csv,noheader,nounits --id=GPU-a,GPU-b",
			[]jobapi.GPUUsage{{MemoryBytes: 1 << 20, UtilPercent: 2}}, "",
		},
		"idle H100": {
			map[string]string{"dev/nvidiactl": ""}, "", fixture(t, "nvidia-smi-h100-idle.csv"), nil, "*", []jobapi.GPUUsage{{}}, "",
		},
		"busy H100, driver in a folder": {
			map[string]string{"dev/nvidiactl": "", "usr/local/nvidia/bin/nvidia-smi": ""}, "", fixture(t, "nvidia-smi-h100-busy.csv"), nil,
			"/usr/local/nvidia/bin/nvidia-smi --query-gpu=memory.used,utilization.gpu --format=csv,noheader,nounits",
			[]jobapi.GPUUsage{{MemoryBytes: 9055 << 20, UtilPercent: 99}}, "",
		},
		"two nvidia-smi": {
			map[string]string{"dev/nvidiactl": "", "usr/bin/nvidia-smi": "", "usr/local/nvidia/bin/nvidia-smi": ""}, "", "1, 2\n", nil,
			"/usr/bin/nvidia-smi --query-gpu=memory.used,utilization.gpu --format=csv,noheader,nounits",
			[]jobapi.GPUUsage{{MemoryBytes: 1 << 20, UtilPercent: 2}}, "",
		},
		"nvidia of Windows": {
			map[string]string{"dev/dxg": "", "usr/lib/wsl/lib/nvidia-smi": ""}, "", "1, 2\n", nil,
			"/usr/lib/wsl/lib/nvidia-smi --query-gpu=memory.used,utilization.gpu --format=csv,noheader,nounits",
			[]jobapi.GPUUsage{{MemoryBytes: 1 << 20, UtilPercent: 2}}, "",
		},
		"part of a GPU": {map[string]string{"dev/nvidiactl": ""}, "", "[N/A], [N/A]\n", nil, "*", []jobapi.GPUUsage{{UtilPercent: -1}}, ""},
		"no tool":       {map[string]string{"dev/nvidiactl": ""}, "", "", errors.New("not found"), "*", nil, "run nvidia-smi: not found"},
		"odd output":    {map[string]string{"dev/nvidiactl": ""}, "", "a\nb, c\n", nil, "*", nil, "read use of accelerators"},
		"amd":           {both, "", "", nil, "", []jobapi.GPUUsage{{MemoryBytes: 300, UtilPercent: 5}, {MemoryBytes: 400, UtilPercent: 6}}, ""},
		"amd, one":      {both, "/dev/dri/renderD1000", "", nil, "", []jobapi.GPUUsage{{MemoryBytes: 400, UtilPercent: 6}}, ""},
		"amd-smi": {
			amd, "", "gpu,gfx,gfx_clock,vram_used,vram_total\n0,12 %,132 MHz,283 MB,196300 MB\n1,0,1,2,3\n", nil, "amd-smi monitor -vu --csv",
			[]jobapi.GPUUsage{{MemoryBytes: 283 << 20, UtilPercent: 12}, {MemoryBytes: 2 << 20}}, "",
		},
		"other amd-smi": {amd, "", "gpu,power\n0,12\n", nil, "*", nil, "columns gpu, power"},
		"mute amd-smi":  {amd, "", "", nil, "*", nil, "printed no table"},
		"gaudi": {
			map[string]string{"dev/accel": ""}, "1", "0, 768, 7\n1, 769, 8\n", nil, "hl-smi --query-aip=index,memory.used,utilization.aip --format=csv,noheader,nounits",
			[]jobapi.GPUUsage{{MemoryBytes: 769 << 20, UtilPercent: 8}}, "",
		},
		"tenstorrent": {map[string]string{"dev/tenstorrent": ""}, "", "", nil, "", nil, ""},
	} {
		called := ""
		c := Config{Root: files(tt.root), GPUs: 2, Visible: tt.visible, Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
			called = strings.Join(append([]string{name}, args...), " ")
			return []byte(tt.out), tt.fail
		}}
		got, err := c.gpus(t.Context())
		if diff := cmp.Diff(tt.want, got); diff != "" || tt.call != "*" && called != tt.call {
			t.Errorf("%s: called %q (-want +got):\n%s", name, called, diff)
		}
		if (err != nil) != (tt.wrong != "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%s: %v, want %q", name, err, tt.wrong)
		}
	}
}

// TestMeasures sees when measurements come.
func TestMeasures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := New(Config{Root: files(map[string]string{"proc/7/stat": stat("7", "1")}), Isolated: true, Log: zerolog.Nop()})
		if first, _ := m.Get(); first != nil {
			t.Errorf("before the first: %+v", first)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		_, next := m.Get()
		begin := time.Now()
		go func() { defer close(done); m.Run(ctx, 10*time.Second) }()
		for _, want := range []time.Duration{0, 2 * time.Second, 10 * time.Second, 20 * time.Second} {
			<-next
			var usage *jobapi.Usage
			if usage, next = m.Get(); usage == nil || time.Since(begin) != want {
				t.Errorf("measured %+v after %s, want %s", usage, time.Since(begin), want)
			}
		}
		cancel()
		<-done
	})
}

// TestMeasuresWithoutGPUs keeps what can be measured when a tool fails.
func TestMeasuresWithoutGPUs(t *testing.T) {
	t.Parallel()
	m := New(Config{
		Root: files(map[string]string{"proc/7/stat": stat("7", "1"), "dev/nvidiactl": ""}), Isolated: true, GPUs: 1, Log: zerolog.Nop(),
		Run: func(context.Context, string, ...string) ([]byte, error) { return nil, errors.New("broken") },
	})
	m.Measure(t.Context())
	if usage, _ := m.Get(); usage == nil || usage.CPUMicro != 1_500_000 || usage.GPUs != nil {
		t.Errorf("%+v", usage)
	}
}

// TestMeasuresIdleness tells for how long nobody was connected, or nothing.
func TestMeasuresIdleness(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		m := New(Config{
			Root: files(map[string]string{"proc/7/stat": stat("7", "1")}), Isolated: true, Log: zerolog.Nop(),
			Idle: func(time.Time) (time.Duration, bool) { return 7900 * time.Millisecond, known },
		})
		m.Measure(t.Context())
		usage, _ := m.Get()
		if usage == nil || (usage.NoConnectionsSecs != nil) != known || known && *usage.NoConnectionsSecs != 7 {
			t.Errorf("known %t: %+v", known, usage)
		}
	}
}

// fixture is what a tool printed on a real host.
func fixture(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func FuzzStat(f *testing.F) {
	f.Add(stat("1", "2"))
	f.Fuzz(func(_ *testing.T, text string) { parseStat([]byte(text)) })
}

func FuzzColumns(f *testing.F) {
	f.Add("1, 2\n[N/A], 5 %\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := columns([]byte(text), 0, 1)
		for _, u := range list {
			if err != nil || u.UtilPercent < -1 || u.UtilPercent > 100 {
				t.Errorf("%+v, %v", u, err)
			}
		}
	})
}
