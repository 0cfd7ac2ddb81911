package ptylog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"dstack/protocol/ansi"
	"dstack/protocol/jobapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is set by hand.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func create(t *testing.T, dir string, quota int64, now func() time.Time) *Log {
	t.Helper()
	l, err := Create(dir, quota, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func write(t *testing.T, l *Log, s string) {
	t.Helper()
	if _, err := io.WriteString(l, s); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// record is one record of an index.
type record struct {
	Offset int64
	Micros int64
}

func records(t *testing.T, dir, name string) []record {
	t.Helper()
	b := []byte(content(t, dir, name))
	if len(b)%jobapi.IndexRecordSize != 0 {
		t.Fatalf("index is %d bytes long", len(b))
	}
	var all []record
	for ; len(b) > 0; b = b[jobapi.IndexRecordSize:] {
		all = append(all, record{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))})
	}
	return all
}

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := &clock{t: time.Unix(100, 5000)}
	l := create(t, dir, 0, c.now)
	changed := l.Position().Changed
	write(t, l, "a\x1b[1")
	write(t, l, "mb\r\n")
	c.t = time.Unix(90, 0) // the clock went back
	write(t, l, "\x1b[0m")
	write(t, l, "c")
	<-changed
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	pos := l.Position()
	if pos.Raw != 13 || pos.Plain != 5 || !pos.Finished {
		t.Errorf("position is %+v", pos)
	}
	if got := content(t, dir, jobapi.RawLog); got != "a\x1b[1mb\r\n\x1b[0mc" {
		t.Errorf("raw log is %q", got)
	}
	if got := content(t, dir, jobapi.PlainLog); got != "ab\r\nc" {
		t.Errorf("plain log is %q", got)
	}
	want := []record{{1, 100_000_005}, {4, 100_000_005}, {5, 100_000_005}}
	if diff := cmp.Diff(want, records(t, dir, jobapi.PlainIndex)); diff != "" {
		t.Errorf("plain index (-want +got):\n%s", diff)
	}
}

func TestQuotaCountsClockHours(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := &clock{t: time.Unix(3599, 0)}
	l := create(t, dir, 5, c.now)
	write(t, l, "\x1b[1m12345")
	c.t = time.Unix(3600, 0)
	write(t, l, "123")
	if _, err := io.WriteString(l, "456"); !errors.Is(err, ErrQuota) {
		t.Errorf("Write beyond the quota: %v", err)
	}
	if got := content(t, dir, jobapi.PlainLog); got != "1234512345" {
		t.Errorf("plain log is %q", got)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, name := range []string{jobapi.RawLog, jobapi.PlainLog, jobapi.PlainIndex} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Symlink("/dev/full", filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			l := create(t, dir, 0, time.Now)
			if _, err := io.WriteString(l, "x"); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("Write: %v", err)
			}
			if got := l.Position().Plain; got != 0 {
				t.Errorf("%d plain bytes are said to be readable", got)
			}
			if name == jobapi.PlainIndex {
				if err := l.Finish(); err == nil {
					t.Error("Finish reported no error")
				}
				if got := content(t, dir, jobapi.PlainLog); got != "" {
					t.Errorf("plain log keeps %q, which no record covers", got)
				}
			}
		})
	}
}

func TestRawSince(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Unix(100, 0)}
	l := create(t, t.TempDir(), 0, c.now)
	for _, w := range []struct {
		at   time.Time
		text string
	}{
		{time.Unix(100, 900), "aa"}, {time.Unix(100, 950), "b"},
		{time.Unix(101, 1), "cc"}, {time.Unix(105, 0), "d"},
	} {
		c.t = w.at
		write(t, l, w.text)
	}
	tests := []struct {
		name string
		at   time.Time
		want int64
	}{
		{"before everything", time.Unix(1, 0), 0},
		{"within a second its whole second counts", time.Unix(100, 999), 0},
		{"next second", time.Unix(101, 0), 3},
		{"gap", time.Unix(103, 0), 5},
		{"after everything", time.Unix(106, 0), 6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := l.RawSince(tt.at)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("RawSince(%v) = %d, want %d", tt.at, got, tt.want)
			}
		})
	}
}

func TestCopyWritesAtOnceThenInBatches(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, err := Create(dir, 0, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		done := make(chan error)
		go func() { done <- l.Copy(near) }()
		send := func(s string) {
			if _, err := io.WriteString(far, s); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		send("first")
		if got := l.Position().Raw; got != 5 {
			t.Errorf("first output is held back: %d bytes written", got)
		}
		send("second")
		if got := l.Position().Raw; got != 5 {
			t.Errorf("output right after is not batched: %d bytes written", got)
		}
		send(strings.Repeat("x", batchSize))
		if got := l.Position().Raw; got != 5+batchSize {
			t.Errorf("a full batch is not written: %d bytes", got)
		}
		time.Sleep(batchTime)
		synctest.Wait()
		if got := l.Position().Raw; got != 11+batchSize {
			t.Errorf("a batch is not written in time: %d bytes", got)
		}
		send("last")
		if err := far.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := l.Position().Raw; got != 15+batchSize {
			t.Errorf("the end is missing: %d bytes", got)
		}
		if err := errors.Join(near.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestEveryByteIsIndexed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		c := &clock{t: time.Unix(1000, 0)}
		l, err := Create(dir, 0, c.now)
		if err != nil {
			rt.Fatal(err)
		}
		var raw []byte
		for _, p := range rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(rt, "writes") {
			c.t = c.t.Add(time.Duration(rapid.IntRange(-2000, 5000).Draw(rt, "ms")) * time.Millisecond)
			if _, err := l.Write(p); err != nil {
				rt.Fatal(err)
			}
			raw = append(raw, p...)
		}
		if err := errors.Join(l.Finish(), l.Close()); err != nil {
			rt.Fatal(err)
		}
		if got := content(t, dir, jobapi.RawLog); got != string(raw) {
			rt.Fatalf("raw log is %q, want %q", got, raw)
		}
		var whole ansi.Stripper
		if want, got := string(whole.Append(nil, raw)), content(t, dir, jobapi.PlainLog); got != want {
			rt.Fatalf("plain log is %q, want %q", got, want)
		}
		var last record
		for _, r := range records(t, dir, jobapi.PlainIndex) {
			if r.Offset <= last.Offset || r.Micros < last.Micros {
				rt.Fatalf("record %v after %v", r, last)
			}
			last = r
		}
		if int(last.Offset) != len(content(t, dir, jobapi.PlainLog)) {
			rt.Fatalf("index ends at %d, log at %d", last.Offset, len(content(t, dir, jobapi.PlainLog)))
		}
	})
}

func FuzzSearch(f *testing.F) {
	f.Add(make([]byte, 40), int64(5), int64(100))
	f.Fuzz(func(t *testing.T, file []byte, micros, end int64) {
		if end < 0 {
			end = 0
		}
		got, err := search(bytes.NewReader(file), int64(len(file)), time.UnixMicro(micros), end)
		if err != nil {
			t.Fatal(err)
		}
		if got < 0 || got > end {
			t.Fatalf("search gives %d, the log has %d bytes", got, end)
		}
	})
}
