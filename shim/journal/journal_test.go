package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/hostapi"
)

func task(id string) hostapi.Task { return hostapi.Task{ID: id, State: hostapi.TaskRunning} }

func open(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(dir)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func add(t *testing.T, j *Journal, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if _, err := j.Append(task(id)); err != nil {
			t.Fatalf("Append: %v", err)
		}
	}
}

func seqs(entries []Entry) []uint64 {
	var out []uint64
	for _, e := range entries {
		out = append(out, e.Seq)
	}
	return out
}

func TestEventsSurviveUntilAcknowledged(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	add(t, j, "a", "b", "c")
	if err := j.Ack(1); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{2, 3}, seqs(j.After(0, 10))); diff != "" {
		t.Errorf("after ack (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]uint64{3}, seqs(j.After(2, 10))); diff != "" {
		t.Errorf("after 2 (-want +got):\n%s", diff)
	}

	// The acknowledgement itself may be lost with a crash: events repeat.
	again := open(t, dir)
	if got := again.NextSeq(); got != 4 {
		t.Errorf("NextSeq after reopening = %d, want 4", got)
	}
	if err := again.Ack(3); err != nil {
		t.Fatal(err)
	}
	if got := again.After(0, 10); len(got) != 0 {
		t.Errorf("pending after all acks: %v", got)
	}
	third := open(t, dir)
	add(t, third, "d")
	if diff := cmp.Diff(uint64(4), third.After(3, 1)[0].Seq); diff != "" {
		t.Errorf("numbers go on (-want +got):\n%s", diff)
	}
}

func TestCrashAtEachByte(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	add(t, j, "a", "b")
	whole, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	add(t, j, "c")
	full, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(whole); cut <= len(full); cut++ {
		crashed := t.TempDir()
		if err := os.WriteFile(filepath.Join(crashed, "events.jsonl"), full[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		got := open(t, crashed)
		want := uint64(3)
		if cut == len(full) {
			want = 4
		}
		if got.NextSeq() != want {
			t.Errorf("cut at %d of %d: NextSeq = %d, want %d", cut, len(full), got.NextSeq(), want)
		}
		add(t, got, "d")
		if last := got.After(want-1, 9); len(last) != 1 || last[0].Task.ID != "d" {
			t.Errorf("cut at %d: after append: %v", cut, last)
		}
	}
}

func TestAckBeyondTheEndMovesTheNumbers(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	add(t, j, "a")
	if err := j.Ack(41); err != nil {
		t.Fatal(err)
	}
	if got := open(t, dir).NextSeq(); got != 42 {
		t.Errorf("NextSeq = %d, want 42", got)
	}
}

func TestCompaction(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	for i := range uint64(compactAfter) {
		add(t, j, fmt.Sprint("t", i))
		if err := j.Ack(i + 1); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 64 {
		t.Errorf("file has %d bytes after everything was acknowledged", info.Size())
	}
	if got := open(t, dir).NextSeq(); got != compactAfter+1 {
		t.Errorf("NextSeq = %d", got)
	}
}

func TestDamageIsAnError(t *testing.T) {
	for name, content := range map[string]string{
		"no header": "x",
		"gap":       "{\"next\":1}\n{\"seq\":2,\"task\":{\"id\":\"a\"}}\n",
		"not JSON":  "{\"next\":1}\nhello\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "events.jsonl"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir); !errors.Is(err, ErrCorrupt) {
				t.Errorf("Open = %v, want ErrCorrupt", err)
			}
		})
	}
}

func TestTombstonesStayForEver(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	for _, id := range []string{"a", "b", "a"} {
		if err := j.Bury(id); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "tombstones")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("torn"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	if err := again.Bury("c"); err != nil {
		t.Fatal(err)
	}
	last := open(t, dir)
	for id, want := range map[string]bool{"a": true, "b": true, "c": true, "d": false} {
		if got := last.Buried(id); got != want {
			t.Errorf("Buried(%q) = %v", id, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("{\"next\":1}\n{\"seq\":1,\"task\":{\"id\":\"a\"}}\n"))
	f.Add([]byte("{\"next\":18446744073709551615}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		next, entries, err := parse(data)
		if err != nil {
			return
		}
		for i, e := range entries {
			if e.Seq != next-uint64(len(entries)-i) {
				t.Fatalf("entry %d of %d has number %d, next is %d", i, len(entries), e.Seq, next)
			}
		}
		parseTombs(data)
	})
}
