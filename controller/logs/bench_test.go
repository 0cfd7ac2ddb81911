package logs

import (
	"bytes"
	"testing"
	"time"
)

// BenchmarkAppend is one chunk of 32 KiB, as it comes from a host.
func BenchmarkAppend(b *testing.B) {
	s := newStore(b, b.TempDir())
	data := bytes.Repeat([]byte("a line of a log of a job\n"), 1300)
	b.SetBytes(int64(len(data)))
	offset := int64(0)
	for b.Loop() {
		var err error
		if offset, err = s.Append(b.Context(), key, offset, time.Now(), data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPoll is a page of 1000 lines of a log with 100,000.
func BenchmarkPoll(b *testing.B) {
	s := newStore(b, b.TempDir())
	line := []byte("a line of a log of a job\n")
	for i := range 100_000 {
		if _, err := s.Append(b.Context(), key, int64(i*len(line)), at(i), line); err != nil {
			b.Fatal(err)
		}
	}
	start := at(50_000)
	for b.Loop() {
		page, err := s.Poll(b.Context(), key, PollOptions{Start: &start, Limit: 1000})
		if err != nil || len(page.Events) != 1000 {
			b.Fatal(len(page.Events), err)
		}
	}
}
