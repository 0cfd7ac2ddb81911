package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	// syncEvery bounds what a loss of power can take.
	syncEvery = time.Second
	// holdPartial is how long the first bytes of a UTF-8 sequence wait for
	// the rest of it before they are shown alone.
	holdPartial = time.Second
)

// file is one open log.
type file struct {
	// users and used belong to the Store.
	users int
	used  time.Time

	mu      sync.Mutex
	data    *os.File
	index   *os.File
	size    int64  // of data
	count   int64  // records of the index
	last    record // the last of them
	kept    Mark   // what is before it was removed from the disk
	written time.Time
	synced  time.Time
	dirty   bool
}

// openFile opens a log and repairs what a crash left: index records without
// bytes go, bytes without a record get one.
func openFile(dir string, now time.Time, create bool) (*file, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
		if err := mkdir(dir); err != nil {
			return nil, err
		}
	}
	data, err := os.OpenFile(filepath.Join(dir, "job.log"), flags, 0o600)
	if err != nil {
		return nil, diskError("open log", err)
	}
	index, err := os.OpenFile(filepath.Join(dir, "job.idx"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, errors.Join(diskError("open log index", err), data.Close())
	}
	f := &file{data: data, index: index, synced: now}
	f.kept, err = readMark(dir)
	if err = errors.Join(err, f.recover()); err != nil {
		return nil, errors.Join(err, data.Close(), index.Close())
	}
	return f, nil
}

func (f *file) recover() error {
	info, err := f.data.Stat()
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	f.size, f.written = info.Size(), info.ModTime()
	if f.count, f.last, err = scanIndex(f.index, f.size); err != nil {
		return err
	}
	if err := f.index.Truncate(f.count * recordSize); err != nil {
		return fmt.Errorf("repair log index: %w", err)
	}
	return f.cover(f.written, false)
}

// cover writes index records for the bytes that have none. The start of an
// incomplete UTF-8 sequence at the end is left out, unless all is wanted.
func (f *file) cover(at time.Time, all bool) error {
	var recs []byte
	count, last := f.count, f.last
	for last.end < f.size {
		next := record{end: min(last.end+maxEvent, f.size), micros: max(at.UnixMicro(), last.following())}
		if !all || next.end < f.size {
			n, err := f.partialBefore(last.end, next.end)
			if err != nil {
				return err
			}
			next.end -= int64(n)
		}
		if next.end == last.end {
			break
		}
		recs = next.append(recs)
		count, last = count+1, next
	}
	if len(recs) == 0 {
		return nil
	}
	if _, err := f.index.WriteAt(recs, f.count*recordSize); err != nil {
		return errors.Join(diskError("write log index", err), f.index.Truncate(f.count*recordSize))
	}
	f.count, f.last, f.dirty = count, last, true
	return nil
}

// partialBefore looks at the bytes in front of end, not before start.
func (f *file) partialBefore(start, end int64) (int, error) {
	var buf [utf8.UTFMax]byte
	b := buf[:min(end-start, utf8.UTFMax)]
	if _, err := f.data.ReadAt(b, end-int64(len(b))); err != nil {
		return 0, fmt.Errorf("read log: %w", err)
	}
	return partialRune(b), nil
}

// append stores data at offset. Either all of the new bytes are stored, or
// none.
func (f *file) append(offset int64, at, now time.Time, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	end := offset + int64(len(data))
	if offset < 0 || offset > f.size || end <= f.size {
		return nil
	}
	data = data[f.size-offset:]
	if _, err := f.data.WriteAt(data, f.size); err != nil {
		return errors.Join(diskError("write log", err), f.data.Truncate(f.size))
	}
	old := f.size
	f.size, f.dirty, f.written = end, true, now
	if err := f.cover(at, false); err != nil {
		f.size = old
		return errors.Join(err, f.data.Truncate(old))
	}
	if now.Sub(f.synced) >= syncEvery {
		return f.sync(now)
	}
	return nil
}

// sync writes the bytes to disk before the records about them.
func (f *file) sync(now time.Time) error {
	if !f.dirty {
		return nil
	}
	if err := errors.Join(f.data.Sync(), f.index.Sync()); err != nil {
		return diskError("sync log", err)
	}
	f.dirty, f.synced = false, now
	return nil
}

func (f *file) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.sync(f.synced), f.data.Close(), f.index.Close())
}

// Append stores data of the log at offset and returns how many bytes of the
// log are stored then. Bytes that are stored already are skipped; when offset
// is beyond the returned size, bytes are missing and nothing was stored: the
// caller sends again from there. After an error nothing new is stored, and
// the same call may be repeated; [ErrDiskFull] goes away when there is space.
// at is when the bytes were printed.
func (s *Store) Append(ctx context.Context, k Key, offset int64, at time.Time, data []byte) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, context.Cause(ctx)
	}
	var before, size int64
	err := s.use(k, true, func(f *file) error {
		before = f.currentSize()
		err := f.append(offset, at, s.now(), data)
		size = f.currentSize()
		return err
	})
	if size > before {
		s.wake(k, before, size)
	}
	return size, err
}

func (f *file) currentSize() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// ReadAt reads bytes of the log from offset into buf, as many as there are;
// 0 means that nothing is there yet. It fails with [ErrRemoved] if they are
// not on the disk any more.
func (s *Store) ReadAt(k Key, offset int64, buf []byte) (int, error) {
	n := 0
	err := s.use(k, false, func(f *file) error {
		size := f.currentSize()
		if offset < 0 || offset >= size {
			return nil
		}
		n = int(min(int64(len(buf)), size-offset))
		return f.read(buf[:n], offset)
	})
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	return n, err
}

// read reads bytes that the log has. What is cut meanwhile may read as zeros,
// so that is looked at last.
func (f *file) read(buf []byte, offset int64) error {
	if _, err := f.data.ReadAt(buf, offset); err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if f.keptFrom().Offset > offset {
		return ErrRemoved
	}
	return nil
}

func diskError(doing string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%s: %w (%w); free some space, the log then goes on", doing, ErrDiskFull, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
