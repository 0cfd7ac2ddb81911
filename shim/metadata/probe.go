package metadata

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// ErrReached means that an address is within reach of a control group.
var ErrReached = errors.New("the metadata service is within reach")

// Reach moves this process into a control group, given by its folder, and sends
// a packet to an address. It fails with [ErrReached] if the packet leaves.
func Reach(ctx context.Context, group, address string) error {
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0o644); err != nil {
		return fmt.Errorf("join control group: %w", err)
	}
	return Send(ctx, address)
}

// Send sends a packet to an address, to a port at which nobody listens. It
// fails with [ErrReached] if the packet leaves.
func Send(ctx context.Context, address string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", net.JoinHostPort(address, "9"))
	if err == nil {
		_, err = conn.Write([]byte{0})
		err = errors.Join(err, conn.Close())
	}
	switch {
	case err == nil:
		return ErrReached
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return nil
	}
	return fmt.Errorf("send a packet: %w", err)
}
