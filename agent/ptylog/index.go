package ptylog

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sort"
	"time"

	"dstack/protocol/jobapi"
)

// index is a file of records that tie an offset in a log to a time. Times
// never go back in it, whatever the clock does, so that it can be searched.
type index struct {
	file *os.File
	size int64
	last int64 // Unix microseconds of the last record
}

// add appends a record.
func (x *index) add(offset int64, at time.Time) error {
	x.last = max(x.last, at.UnixMicro())
	var record [jobapi.IndexRecordSize]byte
	binary.BigEndian.PutUint64(record[:8], uint64(max(offset, 0)))
	binary.BigEndian.PutUint64(record[8:], uint64(x.last))
	if _, err := x.file.Write(record[:]); err != nil {
		return fmt.Errorf("write log index: %w", err)
	}
	x.size += jobapi.IndexRecordSize
	return nil
}

// search returns the offset of the first record at or after t of the index
// in r, which is size bytes long, or none if every record is before t.
func search(r io.ReaderAt, size int64, t time.Time, none int64) (int64, error) {
	var failed error
	read := func(i int) (offset, micros int64) {
		var record [jobapi.IndexRecordSize]byte
		if _, err := r.ReadAt(record[:], int64(i)*jobapi.IndexRecordSize); err != nil && failed == nil {
			failed = fmt.Errorf("read log index: %w", err)
		}
		return int64(binary.BigEndian.Uint64(record[:8])), int64(binary.BigEndian.Uint64(record[8:]))
	}
	n := int(size / jobapi.IndexRecordSize)
	i := sort.Search(n, func(i int) bool {
		_, micros := read(i)
		return micros >= t.UnixMicro()
	})
	if i == n {
		return none, failed
	}
	offset, _ := read(i)
	if offset < 0 || offset > none {
		return none, failed
	}
	return offset, failed
}
