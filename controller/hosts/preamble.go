package hosts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"

	"dstack/protocol/hostapi"
)

// errNoMagic says that a stream is not that of `dstack-shim dial`.
var errNoMagic = errors.New("the host did not answer as a dstack-shim does")

// skipPreamble reads past hostapi.Magic. What a login script prints before it,
// up to hostapi.MaxPreamble bytes, is skipped.
func skipPreamble(r *bufio.Reader) error {
	magic := []byte(hostapi.Magic)
	seen := make([]byte, 0, len(magic)) // the last bytes read, at most as long as magic
	for n := range hostapi.MaxPreamble + len(magic) {
		b, err := r.ReadByte()
		if errors.Is(err, io.EOF) && n > 0 {
			return errNoMagic
		}
		if err != nil {
			return fmt.Errorf("read preamble: %w", err)
		}
		if len(seen) == len(magic) {
			seen = append(seen[:0], seen[1:]...)
		}
		if seen = append(seen, b); bytes.Equal(seen, magic) {
			return nil
		}
	}
	return errNoMagic
}

// readAhead is a connection of which a reader has taken a part already.
type readAhead struct {
	net.Conn
	r *bufio.Reader
}

func (c *readAhead) Read(p []byte) (int, error) { return c.r.Read(p) }
