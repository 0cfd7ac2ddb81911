package ptylog

import (
	"errors"
	"io"
	"os"
	"time"
)

// Output that comes in small pieces is collected for batchTime or up to
// batchSize bytes, so that a job that prints a million lines does not cost
// millions of writes. After a quiet batchTime nothing is held back.
const (
	batchTime = 20 * time.Millisecond
	batchSize = 32 << 10
)

// Source is a stream whose reads can be limited in time, such as the master
// side of a pty.
type Source interface {
	io.Reader
	SetReadDeadline(t time.Time) error
}

// Copy writes everything that src gives to the log until src ends; then it
// returns nil. While the log's disk is slow src is not read, so that the job
// waits and nothing is lost. The first error of the log or of src is returned.
func (l *Log) Copy(src Source) error {
	var (
		buf     = make([]byte, batchSize)
		pending int
		written time.Time // when the last batch was
	)
	for {
		n, readErr := src.Read(buf[pending:])
		fresh := pending == 0
		pending += n
		due := written.Add(batchTime)
		if readErr == nil && pending < len(buf) && l.now().Before(due) {
			if fresh {
				if err := src.SetReadDeadline(due); err != nil {
					return err
				}
			}
			continue
		}
		if pending > 0 {
			if _, err := l.Write(buf[:pending]); err != nil {
				return err
			}
			pending, written = 0, l.now()
		}
		switch {
		case errors.Is(readErr, io.EOF):
			return nil
		case readErr != nil && !errors.Is(readErr, os.ErrDeadlineExceeded):
			return readErr
		}
		if err := src.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
	}
}
