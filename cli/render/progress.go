package render

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Transfer is how far a copy of files is.
type Transfer struct {
	// Name is a file that is being copied.
	Name             string
	Files, FilesDone int64
	Bytes, BytesDone int64
	// Rate is bytes a second; 0 if it is not known yet.
	Rate float64
}

// barWidth is how wide the bar is at most.
const barWidth = 24

// TransferLine draws a progress bar with the rate and the time that is left.
func TransferLine(t Transfer, columns int) string {
	part := 0.0
	switch {
	case t.Bytes > 0:
		part = min(float64(t.BytesDone)/float64(t.Bytes), 1)
	case t.Files > 0:
		part = float64(t.FilesDone) / float64(t.Files)
	}
	full := int(part * barWidth)
	text := fmt.Sprintf("%s%s %3d%%  %s/%s", strings.Repeat("█", full), strings.Repeat("░", barWidth-full), int(part*100), Size(t.BytesDone), Size(t.Bytes))
	if t.Rate > 0 {
		text += "  " + Size(int64(t.Rate)) + "/s"
		left := time.Duration(float64(t.Bytes-t.BytesDone)/t.Rate*float64(time.Second)) + time.Second - 1
		text += "  ETA " + shortAge(left)
	}
	if t.Files > 1 {
		text += fmt.Sprintf("  %d/%d files", t.FilesDone, t.Files)
	}
	room := columns - utf8.RuneCountInString(text) - 2
	if name := []rune(t.Name); room >= 8 && len(name) > 0 {
		if len(name) > room {
			name = append([]rune("…"), name[len(name)-room+1:]...)
		}
		text = string(name) + "  " + text
	}
	return text
}

// Size writes a number of bytes with three digits at least.
func Size(n int64) string {
	const units = "KMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%dB", max(n, 0))
	}
	v, unit := float64(n), -1
	for v >= 1000 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	switch {
	case v < 9.995:
		return fmt.Sprintf("%.2f%cB", v, units[unit])
	case v < 99.95:
		return fmt.Sprintf("%.1f%cB", v, units[unit])
	}
	return fmt.Sprintf("%.0f%cB", v, units[unit])
}

// Meter tells the rate of the last seconds.
type Meter struct {
	times []time.Time
	bytes []int64
}

// meterWindow is what a rate is the mean of.
const meterWindow = 5 * time.Second

// Add takes how many bytes there are at a time, and returns the rate.
func (m *Meter) Add(at time.Time, bytes int64) float64 {
	m.times, m.bytes = append(m.times, at), append(m.bytes, bytes)
	first := 0
	for first < len(m.times)-2 && at.Sub(m.times[first]) > meterWindow {
		first++
	}
	m.times, m.bytes = m.times[first:], m.bytes[first:]
	took := at.Sub(m.times[0]).Seconds()
	if took < 0.5 || bytes <= m.bytes[0] {
		return 0
	}
	return float64(bytes-m.bytes[0]) / took
}
