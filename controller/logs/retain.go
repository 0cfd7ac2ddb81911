package logs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Limits say what stays on the disk. Logs that are to be shipped stay until
// they were, unless the hard limit is passed.
type Limits struct {
	// Age is how long a line stays; 0: for ever.
	Age time.Duration
	// Bytes is what all logs may take; 0: any amount. Hard is the same for what
	// was not shipped yet.
	Bytes, Hard int64
	// To names the storage that logs are shipped to; empty: to none.
	To string
}

// Removed is what Retain did.
type Removed struct {
	// Bytes were removed from the disk; Lost of them are nowhere else, although
	// they should be.
	Bytes, Lost int64
	// Over is how much more than allowed all logs still take.
	Over int64
}

// tail is how much of a running job's log stays, however full the disk is.
const tail = 1 << 20

// want is what is to go of one log: what came before a time, or, if bytes is
// set, that many of its first bytes.
type want struct {
	before time.Time
	bytes  int64
	// force also takes what was not shipped.
	force bool
}

// Retain removes what is too old or too much, the oldest first. Of a job that
// runs only the beginning of its log goes, where the file system can do that.
func (s *Store) Retain(ctx context.Context, limits Limits) (Removed, error) {
	if limits.Age == 0 && limits.Bytes == 0 && limits.Hard == 0 {
		return Removed{}, nil
	}
	p := &pass{s: s, to: limits.To}
	err := s.List(ctx, func(e Entry) error {
		p.entries = append(p.entries, e)
		p.total += e.Disk
		return nil
	})
	if err != nil {
		return Removed{}, err
	}
	slices.SortFunc(p.entries, func(a, b Entry) int {
		return cmp.Or(a.Written.Compare(b.Written), cmp.Compare(a.Key.JobID, b.Key.JobID))
	})
	var errs []error
	if limits.Age > 0 {
		errs = append(errs, p.age(ctx, s.now().Add(-limits.Age)))
	}
	if limits.Bytes > 0 {
		errs = append(errs, p.shrink(ctx, limits.Bytes, false))
	}
	if limits.Hard > 0 {
		errs = append(errs, p.shrink(ctx, limits.Hard, true))
	}
	if most := cmp.Or(limits.Bytes, limits.Hard); most > 0 {
		p.out.Over = max(0, p.total-most)
	}
	return p.out, errors.Join(errs...)
}

// pass is one run of Retain.
type pass struct {
	s       *Store
	to      string
	entries []Entry // the oldest first
	total   int64
	out     Removed
}

func (p *pass) age(ctx context.Context, before time.Time) error {
	var errs []error
	for i := range p.entries {
		e := &p.entries[i]
		if !e.Written.Before(before) && (e.Disk < tail || !p.s.older(e.Key, before)) {
			continue
		}
		errs = append(errs, p.take(ctx, e, want{before: before}))
	}
	return errors.Join(errs...)
}

func (p *pass) shrink(ctx context.Context, most int64, force bool) error {
	var errs []error
	for i := range p.entries {
		if p.total <= most {
			break
		}
		errs = append(errs, p.take(ctx, &p.entries[i], want{bytes: p.total - most, force: force}))
	}
	return errors.Join(errs...)
}

// older says whether the first event that a log still has came before a time.
// It opens no log, for most are not of interest.
func (s *Store) older(k Key, before time.Time) bool {
	dir := s.folder(k)
	kept, err := readMark(dir)
	if err != nil {
		return false
	}
	index, err := os.Open(filepath.Join(dir, "job.idx"))
	if err != nil {
		return false
	}
	defer index.Close() //nolint:errcheck // read only
	var b [recordSize]byte
	if _, err := index.ReadAt(b[:], kept.Event*recordSize); err != nil {
		return false
	}
	rec, ok := parseRecord(b[:])
	return ok && rec.micros < before.UnixMicro()
}

// take removes what is wanted of a log, as far as it may go.
func (p *pass) take(ctx context.Context, e *Entry, w want) error {
	if e.Disk == 0 {
		return nil
	}
	ended, err := p.s.ended(ctx, e.Key)
	if err != nil {
		return fmt.Errorf("find out whether the job of a log has ended: %w", err)
	}
	shipped := Position{Next: Mark{Event: 1 << 62, Offset: e.Size}, Piece: Mark{Event: 1 << 62, Offset: e.Size}}
	if p.to != "" {
		if shipped, err = p.s.Shipped(e.Key, p.to); err != nil {
			return err
		}
	}
	whole := ended && (w.bytes > 0 || e.Written.Before(w.before))
	if whole && (w.force || shipped.Next.Offset >= e.Size) {
		return p.drop(e, shipped)
	}
	return p.cut(e, w, shipped)
}

// drop removes a log as a whole.
func (p *pass) drop(e *Entry, shipped Position) error {
	kept, err := readMark(p.s.folder(e.Key))
	if err != nil {
		return err
	}
	gone, err := p.s.remove(e.Key)
	if err != nil || !gone {
		return err
	}
	p.out.Bytes += e.Size - kept.Offset
	p.out.Lost += max(0, e.Size-max(shipped.Next.Offset, kept.Offset))
	p.total -= e.Disk
	e.Disk = 0
	return nil
}

// cut removes the beginning of a log.
func (p *pass) cut(e *Entry, w want, shipped Position) error {
	return p.s.use(e.Key, false, func(f *file) error {
		to, err := f.wanted(w)
		if err != nil {
			return err
		}
		if !w.force {
			to = min(to, shipped.Piece.Event)
		}
		before := f.keptFrom().Offset
		n, err := f.cut(p.s.folder(e.Key), to)
		if errors.Is(err, errNoHoles) {
			return nil // it is told by what is over the limit
		}
		if err != nil {
			return err
		}
		p.out.Bytes += n
		p.out.Lost += max(0, before+n-max(shipped.Next.Offset, before))
		p.total -= min(n, e.Disk)
		e.Disk -= min(n, e.Disk)
		return nil
	})
}

// wanted is the number of the first event that may stay.
func (f *file) wanted(w want) (int64, error) {
	f.mu.Lock()
	count, kept, size := f.count, f.kept, f.size
	f.mu.Unlock()
	if w.bytes == 0 {
		return f.search(count, func(r record) bool { return r.micros >= w.before.UnixMicro() })
	}
	end := min(kept.Offset+w.bytes, size-tail)
	// The event in which that many bytes end goes as well, unless the tail needs it.
	n, err := f.search(count, func(r record) bool { return r.end >= end })
	if err != nil || end <= kept.Offset {
		return 0, err
	}
	if rec, err := f.record(n); err != nil || rec.end > size-tail {
		return n, err
	}
	return n + 1, nil
}
