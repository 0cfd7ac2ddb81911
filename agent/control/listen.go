package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"dstack/protocol/jobapi"
)

// maxPath is the longest path that a unix socket can be bound to.
const maxPath = 107

// Listen listens on the socket in the task's folder dir, which may be deeper
// than a socket's path can be long. A socket that an earlier agent left is
// replaced. Only the owner can connect.
func Listen(dir string) (net.Listener, error) {
	path := filepath.Join(dir, jobapi.Socket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	bind := path
	if len(bind) > maxPath {
		bind = fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), jobapi.Socket)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: bind, Net: "unix"})
	if err := errors.Join(err, folder.Close()); err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	// The name that it was bound to is gone with the descriptor.
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect control socket: %w", err), l.Close())
	}
	return l, nil
}
