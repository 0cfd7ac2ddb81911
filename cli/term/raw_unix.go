//go:build unix

package term

import (
	"os"
	"os/signal"
	"syscall"
)

// rawOutput needs nothing here: a terminal understands escape sequences.
func rawOutput() (reset func()) { return func() {} }

// canCancel says whether reads of a file can be ended.
func canCancel(*os.File) bool { return true }

// Resized tells when the terminal's size changes, until stop is called.
func (c *Console) Resized() (changes <-chan struct{}, stop func()) {
	signals, out := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(signals, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range signals {
			select {
			case out <- struct{}{}:
			default: // the last one was not looked at yet
			}
		}
	}()
	return out, func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}
