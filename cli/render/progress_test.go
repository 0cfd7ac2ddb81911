package render

import (
	"testing"
	"time"
)

func TestTransferLine(t *testing.T) {
	t.Parallel()
	for want, in := range map[string]Transfer{
		"a.bin  ██████░░░░░░░░░░░░░░░░░░  25%  256MB/1.00GB  64.0MB/s  ETA 12s": {"a.bin", 1, 0, 1 << 30, 256 << 20, 64 << 20},
		"b  ████████████░░░░░░░░░░░░  50%  0B/0B  1/2 files":                    {"b", 2, 1, 0, 0, 0},
		"░░░░░░░░░░░░░░░░░░░░░░░░   0%  0B/0B":                                  {},
		"c  ████████████████████████ 100%  20B/10B":                             {"c", 1, 0, 10, 20, 0},
	} {
		if got := TransferLine(in, 100); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	long := Transfer{Name: "a/very/long/path/of/a/file.bin", Files: 1, Bytes: 10}
	if got := TransferLine(long, 52); got != "…f/a/file.bin  ░░░░░░░░░░░░░░░░░░░░░░░░   0%  0B/10B" {
		t.Error(got)
	}
	if got := TransferLine(long, 20); got != "░░░░░░░░░░░░░░░░░░░░░░░░   0%  0B/10B" {
		t.Error(got)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{-1: "0B", 0: "0B", 999: "999B", 1000: "0.98KB", 1536: "1.50KB", 10 << 20: "10.0MB", 999 << 20: "999MB", 1000 << 20: "0.98GB", 1 << 62: "4.00EB"} {
		if got := Size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	var m Meter
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, want := range []float64{0, 100, 100, 100, 100, 100, 100, 100} {
		if got := m.Add(start.Add(time.Duration(i)*time.Second), int64(100*i)); got != want {
			t.Errorf("after %d s: %v, want %v", i, got, want)
		}
	}
	if got := m.Add(start.Add(12*time.Second), 700); got != 0 {
		t.Errorf("nothing came for 5 s: %v", got)
	}
}
