package term

import (
	"os"

	"golang.org/x/sys/windows"
)

// takesSequences makes a console of Windows obey escape sequences, and says
// whether it does: those before Windows 10 can't.
func takesSequences(out *os.File) bool {
	console := windows.Handle(out.Fd())
	var mode uint32
	if err := windows.GetConsoleMode(console, &mode); err != nil {
		return false
	}
	return windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
