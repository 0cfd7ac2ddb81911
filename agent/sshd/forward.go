package sshd

import (
	"context"
	"errors"
	"net"
)

// maxForwards is how many listeners a connection may have.
const maxForwards = 1000

var (
	errEnded    = errors.New("it has ended")
	errForwards = errors.New("too many forwards")
	errForward  = errors.New("no such forward")
	errTwice    = errors.New("forwarded already")
)

// joined are listeners for the same.
type joined []net.Listener

func (j joined) Close() error {
	var err error
	for _, l := range j {
		err = errors.Join(err, l.Close())
	}
	return err
}

// forward hands each connection that is made to listeners to the client, as a
// channel of type kind with the data that describe gives. name is what the
// forward is cancelled by.
func (c *connection) forward(ctx context.Context, name string, listeners joined, kind string, describe func(net.Conn) []byte) error {
	if err := c.keep(name, listeners); err != nil {
		return errors.Join(err, listeners.Close())
	}
	for _, l := range listeners {
		c.wg.Go(func() {
			for {
				conn, err := l.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err != nil {
					c.log.Warn().Err(err).Msg("ssh forward did not accept a connection")
					if !wait(ctx, acceptPause) {
						return
					}
					continue
				}
				c.wg.Go(func() { c.handOver(ctx, conn, kind, describe(conn)) })
			}
		})
	}
	return nil
}

func (c *connection) handOver(ctx context.Context, conn net.Conn, kind string, data []byte) {
	channel, requests, err := c.client.OpenChannel(kind, data)
	if err != nil {
		c.log.Debug().Err(err).Str("type", kind).Msg("ssh client refused a connection")
		_ = conn.Close()
		return
	}
	splice(ctx, channel, requests, conn)
}

func (c *connection) keep(name string, listeners joined) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch _, known := c.forwards[name]; {
	case c.forwards == nil:
		return errEnded
	case known:
		return errTwice
	case len(c.forwards) >= maxForwards:
		return errForwards
	}
	c.forwards[name] = listeners
	return nil
}

func (c *connection) cancel(name string) error {
	c.mu.Lock()
	listeners, ok := c.forwards[name]
	delete(c.forwards, name)
	c.mu.Unlock()
	if !ok {
		return errForward
	}
	return listeners.Close()
}

// closeForwards ends all forwards; there will be no others.
func (c *connection) closeForwards() {
	c.mu.Lock()
	forwards := c.forwards
	c.forwards = nil
	c.mu.Unlock()
	for name, listeners := range forwards {
		if err := listeners.Close(); err != nil {
			c.log.Debug().Err(err).Str("forward", name).Msg("ssh forward not closed")
		}
	}
}
