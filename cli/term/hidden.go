//go:build unix

package term

import "golang.org/x/sys/unix"

// hideInput stops a terminal from showing what is typed until show is called.
func hideInput(fd int) (show func(), err error) {
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says what was being done
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, setTermios, &hidden); err != nil {
		return nil, err //nolint:wrapcheck // the caller says what was being done
	}
	return func() { _ = unix.IoctlSetTermios(fd, setTermios, before) }, nil
}
