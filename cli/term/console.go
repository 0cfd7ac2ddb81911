// Package term is what the command line shows and asks: styles, tables, a
// live view that redraws in place, and prompts. Nothing here asks the
// terminal a question at start, so that a command costs no round trip to it.
package term

import (
	"fmt"
	"io"
	"os"
	"strconv"

	xterm "golang.org/x/term"
)

// Console is where a command reads from and writes to.
type Console struct {
	In       io.Reader
	Out, Err io.Writer
	// TTY says that Out is a terminal: live views, cut tables.
	TTY bool
	// Color says that Out shows colours.
	Color bool
	// Size gives the terminal's columns and rows; it is asked for each time
	// because a window may be resized.
	Size func() (columns, rows int)
	// Interrupts is where Ctrl-C arrives; nil means nowhere.
	Interrupts *Interrupts
}

// Open describes the three files of a process. NO_COLOR, TERM=dumb and
// COLUMNS are honoured.
func Open(in, out, errs *os.File, getenv func(string) string) *Console {
	tty := xterm.IsTerminal(int(out.Fd())) && getenv("TERM") != "dumb"
	return &Console{
		In: in, Out: out, Err: errs,
		TTY:   tty,
		Color: tty && getenv("NO_COLOR") == "" && takesSequences(out),
		Size: func() (int, int) {
			columns, rows, err := xterm.GetSize(int(out.Fd()))
			if err != nil || columns <= 0 {
				columns, rows = 80, 24
			}
			if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n > 0 {
				columns = n
			}
			return columns, rows
		},
	}
}

// Print writes a line to standard output. A reader that went away is not an
// error of the command.
func (c *Console) Print(line string) { _, _ = fmt.Fprintln(c.Out, line) }

// Printf writes a formatted line to standard output.
func (c *Console) Printf(format string, args ...any) { c.Print(fmt.Sprintf(format, args...)) }

// Warn writes a line to standard error, as it is: never wrapped, never cut.
func (c *Console) Warn(line string) { _, _ = fmt.Fprintln(c.Err, line) }

// columns is the width that a table may use; 0 means any.
func (c *Console) columns() int {
	if !c.TTY || c.Size == nil {
		return 0
	}
	columns, _ := c.Size()
	return columns
}
