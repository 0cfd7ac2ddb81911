package main

import (
	"fmt"
	"strconv"
	"syscall"

	"dstack/shim"
	"dstack/shim/host"
	"dstack/shim/identity"
)

// hostKey replaces the SSH host key of a rented machine; that of another host
// is its owner's.
func hostKey(o options, home *host.Home, run identity.Command) shim.HostKey {
	if o.cloud == "" {
		return nil
	}
	return &identity.Key{
		Path: identity.HostKeyPath, Next: home.File("host-key"), Run: run,
		Reload: identity.Reloader(run, "/run/sshd.pid", hangup),
	}
}

// hangup makes a daemon read its files anew.
func hangup(pid string) error {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return fmt.Errorf("process id of SSH server: %w", err)
	}
	if err := syscall.Kill(n, syscall.SIGHUP); err != nil {
		return fmt.Errorf("signal SSH server: %w", err)
	}
	return nil
}
