package term

import (
	"os"
	"time"

	"golang.org/x/sys/windows"
	xterm "golang.org/x/term"
)

// rawOutput makes the console understand escape sequences.
func rawOutput() (reset func()) {
	var before uint32
	out := windows.Handle(os.Stdout.Fd())
	if windows.GetConsoleMode(out, &before) != nil {
		return func() {}
	}
	mode := before | windows.ENABLE_PROCESSED_OUTPUT | windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING | windows.DISABLE_NEWLINE_AUTO_RETURN
	_ = windows.SetConsoleMode(out, mode) // a console without them shows them
	return func() { _ = windows.SetConsoleMode(out, before) }
}

// canCancel says whether reads of a file can be ended: those of the console.
func canCancel(f *os.File) bool { return xterm.IsTerminal(int(f.Fd())) }

// sizePeriod is how often the size is looked at: Windows tells of no change.
const sizePeriod = 250 * time.Millisecond

// Resized tells when the terminal's size changes, until stop is called.
func (c *Console) Resized() (changes <-chan struct{}, stop func()) {
	out, end, done := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		look := time.NewTicker(sizePeriod)
		defer look.Stop()
		columns, rows := c.Size()
		for {
			select {
			case <-end:
				return
			case <-look.C:
			}
			if x, y := c.Size(); x != columns || y != rows {
				columns, rows = x, y
				select {
				case out <- struct{}{}:
				default: // the last one was not looked at yet
				}
			}
		}
	}()
	return out, func() {
		close(end)
		<-done
	}
}
