package exec

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dstack/agent/pty"
)

// Terminal is the master side of a pty.
type Terminal struct{ file *os.File }

// openPTY opens a pty and returns its master and the descriptor of its slave.
func openPTY() (*Terminal, int, error) {
	file, slave, err := pty.Open()
	if err != nil {
		return nil, 0, err
	}
	master := &Terminal{file: file}
	if err := keepOutput(slave); err != nil {
		return nil, 0, errors.Join(err, file.Close(), unix.Close(slave))
	}
	return master, slave, nil
}

// keepOutput makes the terminal's interrupt character leave output alone that
// was written but not read yet; by default it is thrown away.
func keepOutput(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("read terminal settings: %w", err)
	}
	if t.Lflag&unix.NOFLSH != 0 {
		return nil
	}
	t.Lflag |= unix.NOFLSH
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return fmt.Errorf("change terminal settings: %w", err)
	}
	return nil
}

// Read reads output of the job; once no process has the terminal open any
// more it gives [io.EOF].
func (t *Terminal) Read(p []byte) (int, error) {
	n, err := t.file.Read(p)
	if errors.Is(err, syscall.EIO) {
		err = io.EOF
	}
	return n, err
}

// SetReadDeadline bounds a Read in time; see [os.File.SetReadDeadline].
func (t *Terminal) SetReadDeadline(at time.Time) error { return t.file.SetReadDeadline(at) }

// interruptTimeout bounds the write of the interrupt character when the
// terminal's input is full.
const interruptTimeout = 100 * time.Millisecond

// interrupt does what Ctrl-C at the terminal does. The signal goes out
// directly where the character could not be delivered.
func (t *Terminal) interrupt() error {
	conn, err := t.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("interrupt: %w", err)
	}
	var char byte
	var settings, signal error
	err = conn.Control(func(fd uintptr) {
		settings = keepOutput(int(fd))
		if s, err := unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil {
			char = s.Cc[unix.VINTR]
		}
	})
	if err := errors.Join(err, settings); err != nil {
		return fmt.Errorf("interrupt: %w", err)
	}
	if char != 0 { // 0 means that the character is disabled
		if err := t.file.SetWriteDeadline(time.Now().Add(interruptTimeout)); err != nil {
			return fmt.Errorf("interrupt: %w", err)
		}
		if _, err := t.file.Write([]byte{char}); err == nil {
			return nil
		}
	}
	err = conn.Control(func(fd uintptr) {
		signal = unix.IoctlSetInt(int(fd), unix.TIOCSIG, int(unix.SIGINT))
	})
	if err := errors.Join(err, signal); err != nil {
		return fmt.Errorf("interrupt: %w", err)
	}
	return nil
}
