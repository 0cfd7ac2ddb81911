// Package ptylog keeps the output of a job: byte for byte in one file, without
// escape sequences in a second, with indexes that tell when each part came.
// The files and the format of the index are those of [jobapi].
package ptylog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"dstack/protocol/ansi"
	"dstack/protocol/jobapi"
)

// rawIndex tells where each second of the raw log starts: records as in
// [jobapi.PlainIndex], but of the start, and at most one for each second.
// Nobody but this package reads it.
const rawIndex = "raw.idx"

// ErrQuota says that the plain log got more bytes within a clock hour than
// its quota allows. What fitted is in the log.
var ErrQuota = errors.New("log quota exceeded")

// Position is how far a log has come.
type Position struct {
	// Raw and Plain are how many bytes of the logs can be read; every plain
	// byte is in the index.
	Raw, Plain int64
	// Finished says that no more will come.
	Finished bool
	// Changed is closed when the position is no longer this one.
	Changed <-chan struct{}
}

// Log is the log of one job. One goroutine writes; any number read.
type Log struct {
	raw, plain *os.File
	rawSeconds index
	plainTimes index
	now        func() time.Time

	strip  ansi.Stripper
	text   []byte // scratch for stripped text
	second int64  // of the last record in rawSeconds
	quota  int64
	hour   int64 // the clock hour that used counts
	used   int64

	mu      sync.Mutex
	pos     Position
	changed chan struct{}
}

// Create opens empty logs in dir. quota is how many plain bytes a clock hour
// may bring; 0 means no limit. now is the clock.
func Create(dir string, quota int64, now func() time.Time) (*Log, error) {
	l := &Log{now: now, quota: quota, second: -1, changed: make(chan struct{})}
	l.pos.Changed = l.changed
	for _, f := range []struct {
		name string
		file **os.File
	}{
		{jobapi.RawLog, &l.raw},
		{jobapi.PlainLog, &l.plain},
		{rawIndex, &l.rawSeconds.file},
		{jobapi.PlainIndex, &l.plainTimes.file},
	} {
		file, err := os.OpenFile(filepath.Join(dir, f.name), os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("create log: %w", err), l.Close())
		}
		*f.file = file
	}
	return l, nil
}

// Write appends output of the job to both logs. It fails with [ErrQuota] when
// the plain log has had enough, else with what the file system says.
func (l *Log) Write(p []byte) (int, error) {
	now := l.now()
	if second := now.Unix(); second != l.second {
		if err := l.rawSeconds.add(l.Position().Raw, now.Truncate(time.Second)); err != nil {
			return 0, err
		}
		l.second = second
	}
	n, err := l.raw.Write(p)
	l.advance(int64(n), 0)
	if err != nil {
		return n, fmt.Errorf("write log: %w", err)
	}
	l.text = l.strip.Append(l.text[:0], p)
	return n, l.writePlain(l.text, now)
}

// writePlain appends text and its index record, as far as the quota allows.
func (l *Log) writePlain(text []byte, now time.Time) error {
	if len(text) == 0 {
		return nil
	}
	if hour := now.Unix() / 3600; hour != l.hour {
		l.hour, l.used = hour, 0
	}
	var over error
	if left := l.quota - l.used; l.quota > 0 && int64(len(text)) > left {
		text, over = text[:left], ErrQuota
	}
	if len(text) == 0 {
		return over
	}
	if _, err := l.plain.Write(text); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	l.used += int64(len(text))
	if err := l.plainTimes.add(l.Position().Plain+int64(len(text)), now); err != nil {
		return err
	}
	l.advance(0, int64(len(text)))
	return over
}

// Finish makes the logs durable and tells the readers that nothing more
// comes. Reading goes on to work. It is called once, after the last Write.
func (l *Log) Finish() error {
	pos := l.Position()
	// A write that failed half-way may have left bytes that no record covers.
	err := errors.Join(
		trim(l.plain, pos.Plain),
		trim(l.plainTimes.file, l.plainTimes.size),
		l.raw.Sync(), l.plain.Sync(), l.plainTimes.file.Sync(),
	)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pos.Finished = true
	l.announce()
	if err != nil {
		return fmt.Errorf("finish log: %w", err)
	}
	return nil
}

// trim cuts a file to size if it is longer.
func trim(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() <= size {
		return nil
	}
	return f.Truncate(size)
}

// Close closes the files; nobody may read any more.
func (l *Log) Close() error {
	var errs []error
	for _, f := range []*os.File{l.raw, l.plain, l.rawSeconds.file, l.plainTimes.file} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Position says how far the log has come.
func (l *Log) Position() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pos
}

func (l *Log) advance(raw, plain int64) {
	if raw == 0 && plain == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pos.Raw += raw
	l.pos.Plain += plain
	l.announce()
}

// announce wakes everybody who waits for a change; l.mu is held.
func (l *Log) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
	l.pos.Changed = l.changed
}

// ReadRawAt reads the raw log at an offset, as [io.ReaderAt] does.
func (l *Log) ReadRawAt(p []byte, offset int64) (int, error) {
	return l.raw.ReadAt(p, offset)
}

// RawSince returns the offset of the first raw byte that came at or after
// the second of t, or the present end if there is none.
func (l *Log) RawSince(t time.Time) (int64, error) {
	info, err := l.rawSeconds.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("read log index: %w", err)
	}
	return search(l.rawSeconds.file, info.Size(), t.Truncate(time.Second), l.Position().Raw)
}
