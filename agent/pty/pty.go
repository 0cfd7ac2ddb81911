// Package pty opens pseudo terminals.
package pty

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a pseudo terminal and returns its master, whose reads and writes
// can have deadlines, and the descriptor of its slave. It needs /dev/ptmx,
// and /dev/pts only on a kernel older than 4.13.
func Open() (*os.File, int, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	slave, err := openSlave(fd)
	if err != nil {
		return nil, 0, errors.Join(err, master.Close())
	}
	return master, slave, nil
}

func openSlave(master int) (int, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return 0, fmt.Errorf("unlock pty: %w", err)
	}
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	// Opening by the master needs no /dev/pts in the image.
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, flags)
	if errno == 0 {
		return int(slave), nil
	}
	name, err := name(master)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Open(name, flags, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", name, err)
	}
	return fd, nil
}

// Name is the path of a pseudo terminal's slave.
func Name(master *os.File) (string, error) {
	var path string
	err := control(master, func(fd int) (err error) {
		path, err = name(fd)
		return err
	})
	return path, err
}

func name(master int) (string, error) {
	number, err := unix.IoctlGetUint32(master, unix.TIOCGPTN)
	if err != nil {
		return "", fmt.Errorf("number of pty: %w", err)
	}
	return fmt.Sprintf("/dev/pts/%d", number), nil
}

// Buffered reads what was written to the terminal and not read yet, without
// waiting for more, at most about limit bytes.
func Buffered(master *os.File, limit int) ([]byte, error) {
	var out []byte
	err := control(master, func(fd int) error {
		buf := make([]byte, 4096)
		for len(out) < limit {
			n, err := unix.Read(fd, buf)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || n <= 0 {
				return nil //nolint:nilerr // EAGAIN: nothing more; EIO: nobody has it open
			}
			out = append(out, buf[:n]...)
		}
		return nil
	})
	return out, err
}

// Size is the size of a terminal in characters and in pixels.
type Size struct{ Columns, Rows, Width, Height uint16 }

// Resize sets the size of a terminal; the kernel tells its foreground group.
func Resize(master *os.File, s Size) error {
	return control(master, func(fd int) error {
		err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{
			Row: s.Rows, Col: s.Columns, Xpixel: s.Width, Ypixel: s.Height,
		})
		if err != nil {
			return fmt.Errorf("resize terminal: %w", err)
		}
		return nil
	})
}

// Change changes the settings of a terminal.
func Change(master *os.File, change func(*unix.Termios)) error {
	return control(master, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return fmt.Errorf("read terminal settings: %w", err)
		}
		change(t)
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
			return fmt.Errorf("change terminal settings: %w", err)
		}
		return nil
	})
}

func control(file *os.File, f func(fd int) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return fmt.Errorf("use terminal: %w", err)
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return fmt.Errorf("use terminal: %w", err)
	}
	return inner
}
