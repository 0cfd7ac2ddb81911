//go:build !windows

package tunnel

import "syscall"

// errInUse is what binding a port that is taken fails with.
const errInUse = syscall.EADDRINUSE
