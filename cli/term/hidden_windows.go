package term

import "golang.org/x/sys/windows"

// hideInput stops a terminal from showing what is typed until show is called.
func hideInput(fd int) (show func(), err error) {
	console := windows.Handle(fd)
	var before uint32
	if err := windows.GetConsoleMode(console, &before); err != nil {
		return nil, err //nolint:wrapcheck // the caller says what was being done
	}
	if err := windows.SetConsoleMode(console, before&^windows.ENABLE_ECHO_INPUT); err != nil {
		return nil, err //nolint:wrapcheck // the caller says what was being done
	}
	return func() { _ = windows.SetConsoleMode(console, before) }, nil
}
