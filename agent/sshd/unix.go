package sshd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/crypto/ssh"

	"dstack/agent/become"
)

// directUnix serves a channel that is a connection to a unix socket.
func (c *connection) directUnix(ctx context.Context, offer ssh.NewChannel) error {
	target, err := decode[directUnix](offer.ExtraData())
	if err != nil {
		return errors.Join(err, offer.Reject(ssh.ConnectionFailed, "bad path"))
	}
	var conn net.Conn
	err = become.Do(c.account.Credential, func() (err error) {
		conn, err = net.Dial("unix", c.path(target.Path))
		return err
	})
	if err != nil {
		return errors.Join(err, offer.Reject(ssh.ConnectionFailed, err.Error()))
	}
	channel, requests, err := offer.Accept()
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	splice(ctx, channel, requests, conn)
	return nil
}

// path takes a relative path from the user's home, as OpenSSH does.
func (c *connection) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.account.Home, p)
}

// forwardUnix makes a socket whose connections go to the client (-R).
func (c *connection) forwardUnix(ctx context.Context, payload []byte) error {
	want, err := decode[forwardUnix](payload)
	if err != nil {
		return err
	}
	l, err := c.listenUnix(c.path(want.Path), "")
	if err != nil {
		return err
	}
	return c.forward(ctx, unixName(want.Path), joined{l}, "forwarded-streamlocal@openssh.com", func(net.Conn) []byte {
		return ssh.Marshal(forwardedUnix{Path: want.Path})
	})
}

func (c *connection) cancelUnix(payload []byte) error {
	want, err := decode[forwardUnix](payload)
	if err != nil {
		return err
	}
	return c.cancel(unixName(want.Path))
}

func unixName(path string) string { return "unix " + path }

// ownSocket is a unix socket that goes away with its listener.
type ownSocket struct {
	net.Listener
	remove func() error
	once   sync.Once
	err    error
}

func (s *ownSocket) Close() error {
	s.once.Do(func() { s.err = errors.Join(s.remove(), s.Listener.Close()) })
	return s.err
}

// listenUnix makes a socket that only the user can connect to. It goes with
// its listener, and so does the folder dir, unless that is empty.
func (c *connection) listenUnix(path, dir string) (net.Listener, error) {
	var out *ownSocket
	err := become.Do(c.account.Credential, func() error {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false) // below, with the user's rights
		out = &ownSocket{Listener: l, remove: func() error { return c.remove(path, dir) }}
		if err := os.Chmod(path, 0o600); err != nil {
			return errors.Join(err, l.Close())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	return out, nil
}

// remove removes files and empty folders, as far as the user may.
func (c *connection) remove(paths ...string) error {
	return become.Do(c.account.Credential, func() error {
		var errs error
		for _, p := range paths {
			if p == "" {
				continue
			}
			if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = errors.Join(errs, err)
			}
		}
		return errs
	})
}

const agentForward = "agent"

// forwardAgent makes the socket at which the connection's processes find the
// client's authentication agent, once.
func (c *connection) forwardAgent(ctx context.Context) error {
	c.agentMu.Lock()
	defer c.agentMu.Unlock()
	if c.agentPath != "" {
		return nil
	}
	dir, err := c.privateDir()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "agent")
	l, err := c.listenUnix(path, dir)
	if err != nil {
		return errors.Join(err, c.remove(dir))
	}
	if err := c.forward(ctx, agentForward, joined{l}, "auth-agent@openssh.com", func(net.Conn) []byte { return nil }); err != nil {
		return err
	}
	c.agentPath = path
	return nil
}

// agentSocket is where processes find the client's agent, empty for nowhere.
func (c *connection) agentSocket() string {
	c.agentMu.Lock()
	defer c.agentMu.Unlock()
	return c.agentPath
}

// privateDir makes a folder that only the user can enter.
func (c *connection) privateDir() (dir string, err error) {
	err = become.Do(c.account.Credential, func() error {
		var errs error
		for _, parent := range []string{"/tmp", c.account.Home, "/dev/shm"} {
			if dir, err = os.MkdirTemp(parent, "ssh-"); err == nil {
				return nil
			}
			errs = errors.Join(errs, err)
		}
		return errs
	})
	return dir, err
}
