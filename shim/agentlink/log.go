package agentlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"dstack/protocol/jobapi"
)

// mergeWithin is how far apart in time two records of the index may be to go
// into one chunk, so that a job that writes line by line makes few chunks.
const mergeWithin = 20 * time.Millisecond

// indexBlock is how many bytes of the index are read at a time.
const indexBlock = 256 * jobapi.IndexRecordSize

// Log reads a task's plain log in pieces that know when they were written.
// It is used by one goroutine at a time.
type Log struct {
	text  file
	index file // nil if there is none
	// pos is the offset in the index of the first record that ends after the
	// text read last; a read further back starts at 0 again.
	pos   int64
	after int64
}

// file is what of a file a log needs.
type file interface {
	io.ReaderAt
	io.Closer
}

// OpenLog opens the log; it fails with [io/fs.ErrNotExist] until the agent made it.
func (f *Folder) OpenLog() (*Log, error) {
	text, _, err := f.open(jobapi.PlainLog)
	if err != nil {
		return nil, err
	}
	// Without an index the log is still readable; its times are then lost.
	log := &Log{text: text}
	if index, _, err := f.open(jobapi.PlainIndex); err == nil {
		log.index = index
	}
	return log, nil
}

// LogSize is the size of the log now; 0 if there is none that can be read.
func (f *Folder) LogSize() int64 {
	text, info, err := f.open(jobapi.PlainLog)
	if err != nil {
		return 0
	}
	if text.Close() != nil {
		return 0
	}
	return info.Size()
}

// Close closes the files.
func (l *Log) Close() error {
	err := l.text.Close()
	if l.index != nil {
		err = errors.Join(err, l.index.Close())
	}
	return err
}

// Read fills buf from offset up to limit (an offset) and says when those
// bytes were written: now, where the index does not tell. It returns
// fewer bytes than it could where the time changes, and [io.EOF] where the
// text ends before limit.
func (l *Log) Read(buf []byte, offset, limit int64, now time.Time) (int, time.Time, error) {
	end, at := l.piece(offset, min(limit, offset+int64(len(buf))), now)
	n, err := l.text.ReadAt(buf[:end-offset], offset)
	if n > 0 || err == nil {
		return n, at, nil
	}
	if errors.Is(err, io.EOF) {
		return 0, at, io.EOF
	}
	return 0, at, fmt.Errorf("read log: %w", err)
}

// piece finds in the index the end of the bytes from offset that were written
// together, at most limit, and when. An index that ends early, goes backwards
// or names impossible times is not believed from there on.
func (l *Log) piece(offset, limit int64, now time.Time) (int64, time.Time) {
	if l.index == nil {
		return limit, now
	}
	if offset < l.after {
		l.pos = 0
	}
	l.after = offset
	var block [indexBlock]byte
	var at time.Time
	end, pos := offset, l.pos
	for {
		n, err := l.index.ReadAt(block[:], pos)
		n -= n % jobapi.IndexRecordSize
		for rec := block[:n]; len(rec) > 0; rec = rec[jobapi.IndexRecordSize:] {
			to, when := record(rec)
			if to <= offset {
				pos += jobapi.IndexRecordSize
				l.pos = pos
				continue
			}
			if when.After(now) || when.Before(now.Add(-maxLogAge)) || to < end {
				return stopAt(end, offset, limit, at, now)
			}
			if end > offset && when.Sub(at).Abs() > mergeWithin {
				return end, at
			}
			if end == offset {
				at = when
			}
			end = to
			pos += jobapi.IndexRecordSize
			if end >= limit {
				return limit, at
			}
		}
		if err != nil {
			return stopAt(end, offset, limit, at, now)
		}
	}
}

// maxLogAge is how old a record's time may be to be believed.
const maxLogAge = 400 * 24 * time.Hour

// stopAt is where the index cannot be followed further: what it covered, or
// if that is nothing, all bytes as of now.
func stopAt(end, offset, limit int64, at, now time.Time) (int64, time.Time) {
	if end > offset {
		return end, at
	}
	return limit, now
}

func record(b []byte) (end int64, at time.Time) {
	return int64(binary.BigEndian.Uint64(b)), time.UnixMicro(int64(binary.BigEndian.Uint64(b[8:])))
}
