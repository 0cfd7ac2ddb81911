package logs

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// line is what the child appends at an offset: its own offset, so that a byte
// in the wrong place shows.
func line(offset int64) []byte { return fmt.Appendf(nil, "%015d\n", offset) }

// appendForever is the child: it appends and prints each size that it got.
func appendForever(dir string) int {
	s := New(Options{Dir: dir})
	size, err := s.Size(key)
	for err == nil {
		// Two lines at a time, the first of them repeated now and then.
		from := max(0, size-16*(size/16%2))
		from -= from % 16
		size, err = s.Append(context.Background(), key, from, time.Now(), bytes.Join([][]byte{line(from), line(from + 16)}, nil))
		fmt.Println(size)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// TestKill kills a process that appends, ten times over; each time everything
// that it acknowledged is there, once and in order.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 10 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "LOGS_TEST_CHILD="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		acked := int64(0)
		scanner := bufio.NewScanner(out)
		for n := 0; scanner.Scan(); n++ {
			acked, err = strconv.ParseInt(scanner.Text(), 10, 64)
			must(t, err)
			if n == 200 {
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait() // it was killed

		s := New(Options{Dir: dir})
		size, err := s.Size(key)
		must(t, err)
		if size < acked {
			t.Fatalf("%d bytes are left of %d acknowledged ones", size, acked)
		}
		events := all(t, s, PollOptions{Limit: 1000})
		checkTimes(t, events)
		got := text(events)
		for offset := int64(0); offset+16 <= int64(len(got)); offset += 16 {
			if want := string(line(offset)); got[offset:offset+16] != want {
				t.Fatalf("at %d: %q", offset, got[offset:offset+16])
			}
		}
		if int64(len(got)) != size {
			t.Fatalf("%d of %d bytes are shown", len(got), size)
		}
		must(t, s.Close())
	}
}
