package render

import (
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

func ptr[T any](v T) *T { return &v }

func TestAge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		-time.Second:                    "",
		0:                               "now",
		9 * time.Second:                 "now",
		10 * time.Second:                "10 sec ago",
		59 * time.Second:                "59 sec ago",
		time.Minute:                     "1 min ago",
		119 * time.Second:               "1 min ago",
		2 * time.Minute:                 "2 mins ago",
		150 * time.Second:               "2 mins ago",
		10*time.Minute + time.Second:    "10 mins ago",
		59*time.Minute + 50*time.Second: "59 mins ago",
		time.Hour:                       "1 hour ago",
		2 * time.Hour:                   "2 hours ago",
		23*time.Hour + 59*time.Minute:   "23 hours ago",
		24 * time.Hour:                  "yesterday",
		48 * time.Hour:                  "2 days ago",
		7 * day:                         "1 week ago",
		14 * day:                        "2 weeks ago",
		31 * day:                        "1 month ago",
		62 * day:                        "2 months ago",
		365 * day:                       "1 year ago",
		800 * day:                       "2 years ago",
	} {
		if got := Age(now.Add(-d), now); got != want {
			t.Errorf("Age(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int]string{0: "0s", 90: "90s", 300: "5m", 3600: "1h", 5400: "90m", 86400: "1d", 7 * 86400: "1w"} {
		if got := Duration(seconds); got != want {
			t.Errorf("Duration(%d) = %q, want %q", seconds, got, want)
		}
	}
}

func TestPrice(t *testing.T) {
	t.Parallel()
	for usd, want := range map[float64]string{0: "$0", 0.39: "$0.39", 98.32: "$98.32", 1.23456: "$1.2346", 100: "$100"} {
		if got := Price(usd, 4); got != want {
			t.Errorf("Price(%v) = %q, want %q", usd, got, want)
		}
	}
}

func TestRequirements(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		in   config.Resources
		want string
	}{
		{"defaults with a vendor", config.Resources{
			CPU:    config.CPU{Arch: ptr("x86"), Count: config.Range[int]{Min: ptr(2)}},
			Memory: config.Range[float64]{Min: ptr(8.0)},
			GPU:    &config.GPU{Vendor: ptr("nvidia"), Memory: &config.Range[float64]{Min: ptr(24.0), Max: ptr(24.0)}, Count: config.Range[int]{Min: ptr(1)}},
			Disk:   &config.Disk{Size: config.Range[float64]{Min: ptr(100.0)}},
		}, "cpu=x86:2.. mem=8GB.. disk=100GB.. gpu=nvidia:24GB:1.."},
		{"closed ranges, name, total memory, capability", config.Resources{
			CPU:    config.CPU{Count: config.Range[int]{Min: ptr(2), Max: ptr(4)}},
			Memory: config.Range[float64]{Min: ptr(0.5), Max: ptr(0.5)},
			GPU: &config.GPU{
				Name: []string{"A100", "H100"}, Memory: &config.Range[float64]{Min: ptr(40.0), Max: ptr(80.0)}, Count: config.Range[int]{Max: ptr(2)},
				TotalMemory: &config.Range[float64]{Min: ptr(80.0)}, ComputeCapability: []int{8, 0},
			},
		}, "cpu=2..4 mem=512MB gpu=A100,H100:40GB..80GB:..2:80GB..:8.0"},
		{"nothing asked", config.Resources{GPU: &config.GPU{}}, "cpu=0.. mem=0GB.. gpu=0.."},
	}
	for _, tt := range tests {
		if got := Requirements(tt.in); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestMachine(t *testing.T) {
	t.Parallel()
	h100 := api.GPU{Name: "H100", MemoryMiB: 81920, Vendor: ptr("nvidia")}
	tests := []struct {
		in   api.Resources
		want string
	}{
		{api.Resources{CPUs: 96, MemoryMiB: 524288, Disk: api.Disk{SizeMiB: 102400}, CPUArch: ptr("x86"), GPUs: []api.GPU{h100, h100}, Spot: true},
			"cpu=x86:96 mem=512GB disk=100GB gpu=H100:80GB:2 (spot)"},
		{api.Resources{CPUs: 2, MemoryMiB: 7937, Disk: api.Disk{SizeMiB: 20000}}, "cpu=2 mem=7.8GB disk=20GB"},
	}
	for _, tt := range tests {
		if got := Machine(tt.in); got != tt.want {
			t.Errorf("Machine: %q, want %q", got, tt.want)
		}
	}
}

func TestPullProgress(t *testing.T) {
	t.Parallel()
	const gib, mib = 1 << 30, 1 << 20
	tests := []struct {
		in   api.ImagePullProgress
		want string
	}{
		{api.ImagePullProgress{ExtractedBytes: gib, DownloadedBytes: 3 * gib, TotalBytes: 9 * gib}, "1.00/3.00/≥9.00GB"},
		{api.ImagePullProgress{ExtractedBytes: mib, DownloadedBytes: 2 * mib, TotalBytes: 5 * mib, IsTotalBytesFinal: true}, "1/2/5MB"},
	}
	for _, tt := range tests {
		if got := PullProgress(tt.in); got != tt.want {
			t.Errorf("PullProgress: %q, want %q", got, tt.want)
		}
	}
}
