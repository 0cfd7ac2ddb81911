package sshlink

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// Client is a live connection. Sessions, forwards and listeners are those of
// the embedded client.
type Client struct {
	*ssh.Client

	target, jump *hop
	keepAlive    time.Duration
	deadAfter    time.Duration

	cause   atomic.Pointer[error] // why it ended, first one wins
	done    chan struct{}
	workers sync.WaitGroup
}

func newClient(cfg Config, target, jump *hop) *Client {
	c := &Client{
		Client: target.client, target: target, jump: jump,
		keepAlive: cfg.KeepAlive, deadAfter: cfg.DeadAfter,
		done: make(chan struct{}),
	}
	if c.keepAlive == 0 {
		c.keepAlive = 3 * time.Second
	}
	if c.deadAfter == 0 {
		c.deadAfter = 9 * time.Second
	}
	ping := make(chan struct{})
	c.workers.Go(c.awaitEnd)
	c.workers.Go(func() { c.watch(ping) })
	c.workers.Go(func() { c.ping(ping) })
	return c
}

// HostKey is the key that the host proved, as in authorized_keys.
func (c *Client) HostKey() string { return marshalKey(c.target.key) }

// JumpHostKey is the key of the jump host; empty without one.
func (c *Client) JumpHostKey() string {
	if c.jump == nil {
		return ""
	}
	return marshalKey(c.jump.key)
}

// Done is closed when the connection has ended, for whatever reason.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the connection ended; nil while it lives.
func (c *Client) Err() error {
	if p := c.cause.Load(); p != nil {
		return *p
	}
	return nil
}

// Close ends the connection and waits for its goroutines. It may be called twice.
func (c *Client) Close() error {
	err := c.end(ErrClosed)
	c.workers.Wait()
	return err
}

// end closes the sockets from the outside in, which never blocks on a peer.
func (c *Client) end(cause error) error {
	c.cause.CompareAndSwap(nil, &cause)
	if c.jump != nil {
		return errors.Join(c.jump.close(), c.target.close())
	}
	return c.target.close()
}

func (c *Client) awaitEnd() {
	defer close(c.done)
	cause := c.Wait()
	if cause == nil {
		cause = errors.New("the host closed the connection")
	}
	_ = c.end(cause) // releases the jump host's connection; the target's is gone
	if c.jump != nil {
		_ = c.jump.client.Wait()
	}
}

// watch asks a silent peer for a sign of life and gives a dead one up. Any
// byte read counts, so an upload over a slow line is no silence.
func (c *Client) watch(ping chan<- struct{}) {
	defer close(ping)
	tick := time.NewTicker(c.keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		silence := c.target.conn.silence()
		if silence >= c.deadAfter {
			_ = c.end(ErrDead)
			return
		}
		if silence >= c.keepAlive {
			select {
			case ping <- struct{}{}:
			default: // the one before is not answered yet
			}
		}
	}
}

func (c *Client) ping(asked <-chan struct{}) {
	for range asked {
		// A peer that does not know the request answers, too; an error means
		// the end of the connection, which others see.
		_, _, _ = c.SendRequest("keepalive@openssh.com", true, nil)
	}
}

// meteredConn knows when the peer was heard last.
type meteredConn struct {
	net.Conn
	last atomic.Pointer[time.Time]
}

func meter(conn net.Conn) *meteredConn {
	m := &meteredConn{Conn: conn}
	m.heard()
	return m
}

func (m *meteredConn) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	if n > 0 {
		m.heard()
	}
	return n, err
}

func (m *meteredConn) heard() {
	now := time.Now()
	m.last.Store(&now)
}

func (m *meteredConn) silence() time.Duration { return time.Since(*m.last.Load()) }
