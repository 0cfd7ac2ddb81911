// Package render turns API objects into what a person reads: values, table
// rows, plans, differences. It is pure: the present time comes in.
package render

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

const (
	day   = 24 * time.Hour
	week  = 7 * day
	month = 31 * day
	year  = 365 * day
)

// Age says how long ago t was ("45 sec ago"); the future is empty.
func Age(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case d < 0:
		return ""
	case d < 10*time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%d sec ago", d/time.Second)
	case d < 2*time.Minute:
		return "1 min ago"
	case d < time.Hour:
		return fmt.Sprintf("%d mins ago", min(int(math.RoundToEven(d.Minutes())), 59))
	case d < 2*time.Hour:
		return "1 hour ago"
	case d < day:
		return fmt.Sprintf("%d hours ago", min(int(math.RoundToEven(d.Hours())), 23))
	case d < 2*day:
		return "yesterday"
	case d < week:
		return fmt.Sprintf("%d days ago", d/day)
	case d < month:
		return plural(int(d/week), "week")
	case d < year:
		return plural(max(int(d/(30*day)), 1), "month")
	}
	return plural(int(d/year), "year")
}

func plural(n int, unit string) string {
	if n == 1 {
		return "1 " + unit + " ago"
	}
	return fmt.Sprintf("%d %ss ago", n, unit)
}

// Clock is a local time of day ("16:25").
func Clock(t time.Time) string { return t.Local().Format("15:04") }

// units are the units of durations, largest first, in seconds.
var units = []struct {
	name    string
	seconds int
}{{"w", 7 * 86400}, {"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}}

// Duration writes seconds in the largest unit that divides them ("90s", "1h").
func Duration(seconds int) string {
	for _, u := range units {
		if seconds >= u.seconds && seconds%u.seconds == 0 {
			return strconv.Itoa(seconds/u.seconds) + u.name
		}
	}
	return strconv.Itoa(seconds) + "s"
}

// LongDuration writes seconds in all their units ("1h 5m 3s").
func LongDuration(seconds int) string {
	var parts []string
	for _, u := range units {
		if n := seconds / u.seconds; n > 0 {
			parts = append(parts, strconv.Itoa(n)+u.name)
			seconds -= n * u.seconds
		}
	}
	if parts == nil {
		return "0s"
	}
	return strings.Join(parts, " ")
}

// Price writes USD with at most the given decimals, zeros stripped ("$0.39").
func Price(usd float64, decimals int) string { return "$" + number(usd, decimals) }

func number(f float64, decimals int) string {
	s := strconv.FormatFloat(f, 'f', decimals, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// span writes a range ("2", "2..", "2..4", "24GB..80GB"); less than a GB is
// written in MB.
func span[T int | float64](r config.Range[T], unit string) string {
	one := func(v T) string {
		if f := float64(v); unit == "GB" && f > 0 && f < 1 {
			return number(f*1024, 0) + "MB"
		}
		return number(float64(v), 3) + unit
	}
	switch {
	case r.Min == nil && r.Max == nil:
		return "0" + unit + ".."
	case r.Max == nil:
		return one(*r.Min) + ".."
	case r.Min == nil:
		return ".." + one(*r.Max)
	case *r.Min == *r.Max:
		return one(*r.Min)
	}
	return one(*r.Min) + ".." + one(*r.Max)
}

// Requirements writes wanted resources
// ("cpu=x86:2.. mem=8GB.. disk=100GB.. gpu=nvidia:24GB:1..").
func Requirements(r config.Resources) string {
	cpu := span(r.CPU.Count, "")
	if r.CPU.Arch != nil {
		cpu = *r.CPU.Arch + ":" + cpu
	}
	parts := []string{"cpu=" + cpu, "mem=" + span(r.Memory, "GB")}
	if r.Disk != nil {
		parts = append(parts, "disk="+span(r.Disk.Size, "GB"))
	}
	if r.GPU != nil {
		parts = append(parts, "gpu="+WantedGPU(*r.GPU))
	}
	return strings.Join(parts, " ")
}

// WantedGPU writes wanted accelerators ("H100:80GB:8", "nvidia:24GB:1..").
func WantedGPU(g config.GPU) string {
	var parts []string
	switch {
	case len(g.Name) > 0:
		parts = append(parts, strings.Join(g.Name, ","))
	case g.Vendor != nil:
		parts = append(parts, *g.Vendor)
	}
	if g.Memory != nil {
		parts = append(parts, span(*g.Memory, "GB"))
	}
	parts = append(parts, span(g.Count, ""))
	if g.TotalMemory != nil {
		parts = append(parts, span(*g.TotalMemory, "GB"))
	}
	if len(g.ComputeCapability) > 0 {
		cc := make([]string, len(g.ComputeCapability))
		for i, n := range g.ComputeCapability {
			cc[i] = strconv.Itoa(n)
		}
		parts = append(parts, strings.Join(cc, "."))
	}
	return strings.Join(parts, ":")
}

// Machine writes what a machine has
// ("cpu=x86:96 mem=512GB disk=100GB gpu=H100:80GB:4 (spot)").
func Machine(r api.Resources) string {
	cpu := strconv.Itoa(r.CPUs)
	if r.CPUArch != nil {
		cpu = *r.CPUArch + ":" + cpu
	}
	parts := []string{"cpu=" + cpu, "mem=" + gigabytes(r.MemoryMiB), "disk=" + gigabytes(r.Disk.SizeMiB)}
	if gpu := GPUs(r.GPUs); gpu != "" {
		parts = append(parts, gpu)
	}
	if r.Spot {
		parts = append(parts, "(spot)")
	}
	return strings.Join(parts, " ")
}

// gigabytes writes MiB as GB, whole from 10 GB on.
func gigabytes(mib int) string {
	gb := float64(mib) / 1024
	if gb >= 10 {
		return number(gb, 0) + "GB"
	}
	return number(gb, 1) + "GB"
}

// GPUs writes a machine's accelerators ("gpu=H100:80GB:8"), empty for none.
func GPUs(gpus []api.GPU) string {
	if len(gpus) == 0 {
		return ""
	}
	name := gpus[0].Name
	if name == "" && gpus[0].Vendor != nil {
		name = *gpus[0].Vendor
	}
	return fmt.Sprintf("gpu=%s:%s:%d", name, gigabytes(gpus[0].MemoryMiB), len(gpus))
}

// Place writes where something runs: "aws (us-east-1)"; backend "remote" is
// shown as "ssh".
func Place(backend, region string) string {
	if backend == "" {
		return ""
	}
	if backend == "remote" {
		backend = "ssh"
	}
	if region == "" {
		return backend
	}
	return backend + " (" + region + ")"
}

// PullProgress writes how far an image pull is ("1.00/3.00/≥9.00GB").
func PullProgress(p api.ImagePullProgress) string {
	const mib, gib = 1 << 20, 1 << 30
	unit, size, decimals := "MB", float64(mib), 0
	if p.TotalBytes >= gib {
		unit, size, decimals = "GB", float64(gib), 2
	}
	estimate := ""
	if !p.IsTotalBytesFinal {
		estimate = "≥"
	}
	one := func(n int64) string { return strconv.FormatFloat(float64(n)/size, 'f', decimals, 64) }
	return one(p.ExtractedBytes) + "/" + one(p.DownloadedBytes) + "/" + estimate + one(p.TotalBytes) + unit
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
