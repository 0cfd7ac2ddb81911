package tunnel

import "golang.org/x/sys/windows"

// errInUse is what binding a port that is taken fails with.
const errInUse = windows.WSAEADDRINUSE
