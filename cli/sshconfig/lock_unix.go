//go:build unix

package sshconfig

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// tryLock takes the lock of a file if nobody holds it. The system gives it
// back when the file is closed or the process ends, however it ends.
func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return true, nil
}

// giveTo gives a file to the owner of another one. Only root can, and has to:
// in the home of a user, files of root would stop the user's ssh.
func giveTo(path, like string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(like) //nolint:gosec // a file of the user's, wherever the user's links lead
	if err != nil {
		return err //nolint:wrapcheck // names the path
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid)) //nolint:gosec,wrapcheck // as above; names the path
}
