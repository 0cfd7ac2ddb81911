package term

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// frames are the pictures of the spinner; one lasts FrameTime.
var frames = [...]string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// FrameTime is how long one picture of the spinner is shown.
const FrameTime = 80 * time.Millisecond

// Live is a block of lines that is redrawn in place. Away from a terminal it
// shows nothing: only what a command prints at the end remains.
type Live struct {
	console      *Console
	drawn        []string // the lines on the terminal
	frame        int
	status, body string
}

// Live starts a live view below what was printed so far.
func (c *Console) Live() *Live { return &Live{console: c} }

// Show redraws the block: a line with the spinner, then the body. The
// terminal is written to only if something changed.
func (l *Live) Show(status, body string) {
	l.status, l.body = status, body
	if l.console.TTY {
		l.draw(l.console.Paint(Success, frames[l.frame%len(frames)]) + " " + status + "\n" + body)
	}
}

// Body redraws the block without a spinner.
func (l *Live) Body(body string) {
	l.status, l.body = "", body
	if l.console.TTY {
		l.draw(body)
	}
}

// Spin moves the spinner on by one picture; call it every [FrameTime].
func (l *Live) Spin() {
	l.frame++
	if len(l.drawn) > 0 && l.status != "" {
		l.Show(l.status, l.body)
	}
}

// Clear takes the block away.
func (l *Live) Clear() {
	l.status, l.body = "", ""
	if l.console.TTY && len(l.drawn) > 0 {
		l.draw("")
	}
}

func (l *Live) draw(text string) {
	columns, rows := l.console.Size()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if text == "" {
		lines = nil
	}
	if len(lines) >= rows && rows > 2 {
		lines = append(lines[:rows-2], "…")
	}
	for i := range lines {
		lines[i] = clip(lines[i], columns)
	}
	if slices.Equal(lines, l.drawn) {
		return
	}
	var b strings.Builder
	if n := len(l.drawn); n > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", n)
	}
	for i, line := range lines {
		if i < len(l.drawn) && l.drawn[i] == line {
			b.WriteString("\n")
		} else {
			b.WriteString(line + "\x1b[K\n")
		}
	}
	b.WriteString("\x1b[J")
	_, _ = fmt.Fprint(l.console.Out, b.String())
	l.drawn = lines
}
