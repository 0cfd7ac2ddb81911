package hostkeys

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// listenPort is the only port that a jump-only key may ask sshd to listen on:
// OpenSSH has no word for none.
const listenPort = 1

// Reserve takes listenPort of the loopback addresses, so that sshd finds it in
// use, even where a user of the host may listen on it. Nothing listens there.
// It needs root on most hosts.
func Reserve() (release func(), err error) { return reserve(listenPort) }

func reserve(port int) (release func(), err error) {
	var held []int
	release = func() {
		for _, fd := range held {
			_ = unix.Close(fd) // nothing was written to it
		}
	}
	for family, addr := range map[int]unix.Sockaddr{
		unix.AF_INET:  &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}},
		unix.AF_INET6: &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}},
	} {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			held = append(held, fd)
			err = unix.Bind(fd, addr)
		}
		// A host without IPv6 needs no more, and a port in use is as good.
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.EADDRINUSE) {
			release()
			return nil, fmt.Errorf("reserve port %d: %w", port, err)
		}
	}
	return release, nil
}
