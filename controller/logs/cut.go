package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"dstack/durable"
)

// Mark is a place between two events of a log: how many events are before it,
// and how many bytes.
type Mark struct {
	Event  int64 `json:"event"`
	Offset int64 `json:"offset"`
}

// Position says how far a log was shipped.
type Position struct {
	// To names the storage; a position at another one is none.
	To string `json:"to"`
	// Piece is where the piece begins that is written anew with more in it, where
	// the storage has such; what is before Next was shipped.
	Piece Mark `json:"piece"`
	Next  Mark `json:"next"`
}

// The files beside job.log and job.idx; both are missing at first.
const (
	keptFile = "job.kept" // a Mark: what is before was removed
	shipFile = "job.ship" // a Position
)

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// readJSON reads one of these files; one that is missing leaves v as it is.
// They are written whole or not at all, so a damaged one is the disk's fault.
func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read place in log: %w", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode place in log: %w", err)
	}
	if err := durable.WriteFile(path, data, 0o600); err != nil {
		return diskError("write place in log", err)
	}
	return nil
}

func readMark(dir string) (Mark, error) {
	var m Mark
	err := readJSON(filepath.Join(dir, keptFile), &m)
	return m, err
}

func (f *file) keptFrom() Mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kept
}

// Shipped is how far a log was shipped to a storage; the beginning if never.
func (s *Store) Shipped(k Key, to string) (Position, error) {
	if err := k.valid(); err != nil {
		return Position{}, err
	}
	p := Position{}
	if err := readJSON(filepath.Join(s.folder(k), shipFile), &p); err != nil || p.To != to {
		return Position{To: to}, err
	}
	return p, nil
}

// SetShipped records how far a log was shipped, durably.
func (s *Store) SetShipped(k Key, p Position) error {
	return s.use(k, false, func(*file) error {
		return writeJSON(filepath.Join(s.folder(k), shipFile), p)
	})
}

// Batch are consecutive events of a log.
type Batch struct {
	// First is the place of the first event, End that behind the last one.
	First, End Mark
	Events     []Event
	// More says that there are more events now.
	More bool
	// Size is how many bytes the log has; a few of the last ones may have no
	// event yet.
	Size int64
}

// Batch reads events from number from on, about a MiB at most. It begins later
// if those were removed.
func (s *Store) Batch(k Key, from int64, limit int) (Batch, error) {
	var b Batch
	err := s.use(k, false, func(f *file) error {
		count, err := f.readable(s.now())
		if err != nil {
			return err
		}
		f.mu.Lock()
		b.Size = f.size
		from = max(from, f.kept.Event)
		f.mu.Unlock()
		chosen, next, err := f.up(from, count, -1, 0, limit)
		if err != nil {
			return err
		}
		b.More = next != ""
		b.Events, err = f.events(chosen.recs)
		if len(b.Events) > 0 {
			b.First = Mark{from, chosen.recs[0].end}
			b.End = Mark{from + int64(len(b.Events)), chosen.recs[len(chosen.recs)-1].end}
		}
		return err
	})
	return b, err
}

// cut removes the bytes before the event number to from the disk, where that
// is possible, and says how many are gone. The index stays.
func (f *file) cut(dir string, to int64) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	to = min(to, f.count)
	if to <= f.kept.Event {
		return 0, nil
	}
	rec, err := f.record(to - 1)
	if err != nil {
		return 0, err
	}
	if err := punch(f.data, f.kept.Offset, rec.end-f.kept.Offset, true); err != nil {
		return 0, err
	}
	before := f.kept.Offset
	m := Mark{to, rec.end}
	// Written before the bytes go: nobody takes zeros for the log.
	if err := writeJSON(filepath.Join(dir, keptFile), m); err != nil {
		return 0, err
	}
	f.kept = m
	// From the start: a crash may have left what an earlier cut meant to free.
	return m.Offset - before, punch(f.data, 0, m.Offset, false)
}

// remove deletes a log that nobody uses now; false: somebody does.
func (s *Store) remove(k Key) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, ErrClosed
	}
	if f, ok := s.open[k]; ok {
		if f.users > 0 {
			return false, nil
		}
		delete(s.open, k)
		if err := f.close(); err != nil {
			return false, err
		}
	}
	dir := s.folder(k)
	if err := os.RemoveAll(dir); err != nil {
		return false, fmt.Errorf("remove log: %w", err)
	}
	// The folders above go with the last log in them; the run's, its logs'.
	_ = os.Remove(filepath.Dir(dir))
	return true, nil
}

// Entry is a log on the disk.
type Entry struct {
	Key Key
	// Disk is how many bytes it takes there, Size how many it has.
	Disk, Size int64
	// Written is when it got the last byte.
	Written time.Time
}

// List calls fn with each log on the disk.
func (s *Store) List(ctx context.Context, fn func(Entry) error) error {
	for _, project := range folders(filepath.Join(s.dir, "projects")) {
		for _, run := range folders(filepath.Join(s.dir, "projects", project, "logs")) {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			for _, job := range folders(filepath.Join(s.dir, "projects", project, "logs", run)) {
				e, ok := s.entry(Key{project, run, job})
				if !ok {
					continue
				}
				if err := fn(e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// folders are the names of the folders in a folder that can be read.
func folders(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && validName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

func (s *Store) entry(k Key) (Entry, bool) {
	dir := s.folder(k)
	data, err := os.Stat(filepath.Join(dir, "job.log"))
	if err != nil {
		return Entry{}, false
	}
	e := Entry{Key: k, Size: data.Size(), Disk: onDisk(data), Written: data.ModTime()}
	if index, err := os.Stat(filepath.Join(dir, "job.idx")); err == nil {
		e.Disk += onDisk(index)
	}
	return e, true
}
