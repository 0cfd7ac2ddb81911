package logs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf8"
)

// recordSize is the length of one index record: the end offset of its bytes,
// its time in Unix microseconds, and a checksum of both.
const recordSize = 8 + 8 + 4

// maxEvent is how many bytes one record covers at most.
const maxEvent = 64 << 10

// record says that the bytes from the previous record's end to end came at
// micros. Ends and times both grow strictly, times even in whole milliseconds,
// which is all that some readers and storages keep: so a reader who continues
// after a time neither loses nor repeats anything.
type record struct {
	end    int64
	micros int64
}

// following is the earliest time of the next record.
func (r record) following() int64 { return (r.micros/1000 + 1) * 1000 }

func (r record) append(b []byte) []byte {
	n := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.end))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.micros))
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[n:]))
}

// parseRecord reads one record; false means that it was never written whole.
func parseRecord(b []byte) (record, bool) {
	if crc32.ChecksumIEEE(b[:16]) != binary.LittleEndian.Uint32(b[16:]) {
		return record{}, false
	}
	r := record{
		end:    int64(binary.LittleEndian.Uint64(b)),
		micros: int64(binary.LittleEndian.Uint64(b[8:])),
	}
	return r, r.end > 0
}

// scanIndex reads an index up to the first record that cannot be true: torn,
// out of order, or about bytes that are not there. It returns how many
// records hold and the last of them.
func scanIndex(r io.Reader, dataSize int64) (int64, record, error) {
	var (
		count int64
		last  record
		buf   [recordSize]byte
	)
	br := bufio.NewReaderSize(r, maxEvent)
	for {
		_, err := io.ReadFull(br, buf[:])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return count, last, nil
		}
		if err != nil {
			return 0, record{}, fmt.Errorf("read log index: %w", err)
		}
		rec, ok := parseRecord(buf[:])
		if !ok || rec.end <= last.end || rec.end > dataSize || (count > 0 && rec.micros <= last.micros) {
			return count, last, nil
		}
		count, last = count+1, rec
	}
}

// partialRune is how many bytes at the end of b begin a UTF-8 sequence that
// more bytes could complete.
func partialRune(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		tail := b[len(b)-n:]
		if utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
