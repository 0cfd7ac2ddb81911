// Package become does single things with the rights of another user, in a
// process that stays root.
package become

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Do calls f with the rights of c: files are opened and made, and sockets
// connected, as that user would. With a nil c it only calls f, which must not
// leave its goroutine.
//
// The thread on which f runs takes c as its effective ids and ends after
// that. Its real and saved ids stay, so the user can neither signal nor trace
// this process meanwhile.
func Do(c *syscall.Credential, f func() error) error {
	if c == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() { done <- onOwnThread(c, f) }() // never unlocks its thread, which ends with it
	return <-done
}

func onOwnThread(c *syscall.Credential, f func() error) error {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread never ends. While it is held here it is nobody else's.
		defer runtime.UnlockOSThread()
		return Do(c, f)
	}
	if err := take(c); err != nil {
		return err
	}
	return f()
}

// keep leaves an id as it is.
const keep = ^uintptr(0)

// take makes c the effective ids of this thread alone: the calls of package
// syscall would change all threads.
func take(c *syscall.Credential) error {
	groups := append([]uint32{c.Gid}, c.Groups...)
	//nolint:gosec // a system call that has no other way in
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno != 0 {
		return fmt.Errorf("take groups of user %d: %w", c.Uid, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, keep, uintptr(c.Gid), keep); errno != 0 {
		return fmt.Errorf("take group %d: %w", c.Gid, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(c.Uid), keep); errno != 0 {
		return fmt.Errorf("become user %d: %w", c.Uid, errno)
	}
	return nil
}
