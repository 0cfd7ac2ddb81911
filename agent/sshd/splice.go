package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// drainLimit is how long a connection may take what its client sent before
// that went away.
const drainLimit = 30 * time.Second

// splice connects a channel with conn until both directions have ended, one
// of the two is closed, or ctx ends. It closes both.
func splice(ctx context.Context, channel ssh.Channel, requests <-chan *ssh.Request, conn net.Conn) {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var closed, in sync.WaitGroup
	in.Go(func() {
		if err := pour(conn, channel); err != nil || closeWrite(conn) != nil {
			_ = conn.Close() // nobody takes it, so the other direction is over, too
		}
	})
	closed.Go(func() {
		ssh.DiscardRequests(requests) // ends when the channel is closed, unlike reading from it
		_ = conn.SetWriteDeadline(time.Now().Add(drainLimit))
		in.Wait()
		_ = conn.Close()
	})
	_ = pour(channel, conn)
	_ = channel.CloseWrite()
	in.Wait()
	_ = channel.Close()
	_ = conn.Close()
	closed.Wait()
}

// chunk is how much is copied at once: what a packet of SSH takes.
const chunk = 32 << 10

// pour copies without the short cuts of [io.Copy], which copy in pieces of
// their own.
func pour(to io.Writer, from io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, chunk))
	return err
}

// closeWrite ends one direction of a connection, or all of it if it has no
// directions.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}

// socketPair is a connection with both its ends; each direction can be ended
// alone, other than with [net.Pipe].
func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make sockets: %w", err)
	}
	var ends [2]net.Conn
	var errs [2]error
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket pair")
		ends[i], errs[i] = net.FileConn(file)
		errs[i] = errors.Join(errs[i], file.Close())
	}
	return ends[0], ends[1], errors.Join(errs[:]...)
}
