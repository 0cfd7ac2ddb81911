package term

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/muesli/cancelreader"
	xterm "golang.org/x/term"
)

// IsTerminal says whether a stream of the console is a terminal.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && xterm.IsTerminal(int(f.Fd()))
}

// Raw passes each key on as it is, until restore is called: also Ctrl-C.
func (c *Console) Raw() (restore func(), err error) {
	in, ok := c.In.(*os.File)
	if !ok {
		return nil, errors.New("standard input is no terminal")
	}
	before, err := xterm.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set up the terminal: %w", err)
	}
	reset := rawOutput()
	return func() {
		_ = xterm.Restore(int(in.Fd()), before)
		reset()
	}, nil
}

// Input is standard input whose reads can be ended, as far as the system can:
// Cancel says whether it did.
func (c *Console) Input() cancelreader.CancelReader {
	f, ok := c.In.(*os.File)
	if ok && canCancel(f) {
		if r, err := cancelreader.NewReader(f); err == nil {
			return r
		}
	}
	return plainInput{c.In} // a file, or /dev/null, never blocks
}

// plainInput can't be ended.
type plainInput struct{ io.Reader }

// Cancel does nothing.
func (plainInput) Cancel() bool { return false }

// Close does nothing.
func (plainInput) Close() error { return nil }
