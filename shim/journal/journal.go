// Package journal keeps the shim's task events until the controller has
// acknowledged them, and the tombstones of removed tasks for ever.
//
// Events lie in events.jsonl: a header line with the number of the first
// event that may follow, then one line per event. A line counts once its
// newline is on the disk; a torn last line was never promised to anybody and
// is dropped at the next start. Acknowledged lines are dropped in bulk.
package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"dstack/durable"
	"dstack/protocol/hostapi"
)

// ErrCorrupt says that a file of the journal holds what was never written.
var ErrCorrupt = errors.New("journal is corrupt")

// compactAfter is how many acknowledged events may lie in the file.
const compactAfter = 256

// Entry is one event with its number.
type Entry struct {
	Seq  uint64       `json:"seq"`
	Task hostapi.Task `json:"task"`
}

type header struct {
	Next uint64 `json:"next"`
}

// Journal is safe for concurrent use.
type Journal struct {
	path string

	mu      sync.Mutex
	file    *os.File
	next    uint64
	pending []Entry // unacknowledged, in order
	dead    int     // acknowledged lines still in the file
	broken  bool    // the file's tail is unknown after a failed write
	buried  *tombstones
}

// Open reads the journal in dir, which exists, or starts an empty one.
func Open(dir string) (*Journal, error) {
	j := &Journal{path: filepath.Join(dir, "events.jsonl"), next: 1}
	data, err := os.ReadFile(j.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	if len(data) > 0 {
		if j.next, j.pending, err = parse(data); err != nil {
			return nil, err
		}
	}
	if err := j.rewrite(); err != nil {
		return nil, err
	}
	if j.buried, err = openTombstones(filepath.Join(dir, "tombstones")); err != nil {
		return nil, errors.Join(err, j.file.Close())
	}
	return j, nil
}

// parse reads a journal file: the number after its last event, and its events.
func parse(data []byte) (next uint64, entries []Entry, err error) {
	first := true
	for {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			if first {
				return 0, nil, fmt.Errorf("%w: no header", ErrCorrupt)
			}
			return next, entries, nil
		}
		data = rest
		if first {
			var h header
			if err := json.Unmarshal(line, &h); err != nil || h.Next == 0 {
				return 0, nil, fmt.Errorf("%w: bad header", ErrCorrupt)
			}
			next, first = h.Next, false
			continue
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return 0, nil, fmt.Errorf("%w: event %d: %w", ErrCorrupt, next, err)
		}
		if e.Seq != next || e.Task.ID == "" {
			return 0, nil, fmt.Errorf("%w: event %d is numbered %d", ErrCorrupt, next, e.Seq)
		}
		entries = append(entries, e)
		next++
	}
}

// rewrite replaces the file by one that holds only what is pending.
func (j *Journal) rewrite() error {
	var buf bytes.Buffer
	first := j.next - uint64(len(j.pending))
	if err := writeLine(&buf, header{Next: first}); err != nil {
		return err
	}
	for _, e := range j.pending {
		if err := writeLine(&buf, e); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(j.path, buf.Bytes(), 0o600); err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	if j.file != nil {
		if err := j.file.Close(); err != nil {
			return fmt.Errorf("close journal: %w", err)
		}
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		j.file = nil
		return fmt.Errorf("open journal: %w", err)
	}
	j.file, j.dead, j.broken = f, 0, false
	return nil
}

func writeLine(buf *bytes.Buffer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode journal: %w", err)
	}
	buf.Write(b)
	buf.WriteByte('\n')
	return nil
}

// Append numbers an event and returns once it is on the disk.
func (j *Journal) Append(task hostapi.Task) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken || j.file == nil {
		if err := j.rewrite(); err != nil {
			return 0, err
		}
	}
	e := Entry{Seq: j.next, Task: task}
	var buf bytes.Buffer
	if err := writeLine(&buf, e); err != nil {
		return 0, err
	}
	if _, err := j.file.Write(buf.Bytes()); err != nil {
		j.broken = true
		return 0, fmt.Errorf("append to journal: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		j.broken = true
		return 0, fmt.Errorf("sync journal: %w", err)
	}
	j.pending = append(j.pending, e)
	j.next++
	return e.Seq, nil
}

// After returns at most limit unacknowledged events numbered above seq.
func (j *Journal) After(seq uint64, limit int) []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	first := j.next - uint64(len(j.pending))
	skip := 0
	if seq >= first {
		skip = int(min(seq-first+1, uint64(len(j.pending))))
	}
	rest := j.pending[skip:]
	return append([]Entry(nil), rest[:min(limit, len(rest))]...)
}

// Forgot says whether events after seq were acknowledged and are gone.
func (j *Journal) Forgot(seq uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return seq+1 < j.next-uint64(len(j.pending))
}

// Ack forgets all events up to seq. A seq that was never given out moves the
// numbering beyond it: the controller has seen more than this file knows, and
// would take a lower number for a repeat.
func (j *Journal) Ack(seq uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	first := j.next - uint64(len(j.pending))
	switch {
	case seq >= j.next:
		j.pending, j.next = nil, seq+1
		return j.rewrite()
	case seq < first:
		return nil
	}
	n := int(seq - first + 1)
	j.pending = append([]Entry(nil), j.pending[n:]...)
	j.dead += n
	if j.dead >= compactAfter {
		return j.rewrite()
	}
	return nil
}

// NextSeq is the number that the next new event will get.
func (j *Journal) NextSeq() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next
}

// Bury writes the tombstone of a task; repeatable.
func (j *Journal) Bury(id string) error { return j.buried.add(id) }

// Buried says whether a task has a tombstone.
func (j *Journal) Buried(id string) bool { return j.buried.has(id) }

// Close closes the files.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	if j.file != nil {
		err = j.file.Close()
	}
	return errors.Join(err, j.buried.close())
}
