package sshd

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/ssh"
)

// connection is one client that has logged in.
type connection struct {
	server  *Server
	client  *ssh.ServerConn
	account Account
	log     zerolog.Logger

	wg sync.WaitGroup

	mu       sync.Mutex
	forwards map[string]joined // nil once the connection has ended

	agentMu   sync.Mutex
	agentPath string // of the socket of the client's agent, if it has one for us
}

// run serves the connection to its end.
func (c *connection) run(ctx context.Context, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	alive, cancel := context.WithCancel(ctx)
	c.wg.Go(func() { c.keepAlive(alive) })
	c.wg.Go(func() {
		for r := range requests {
			c.request(ctx, r)
		}
	})
	for offer := range channels {
		c.wg.Go(func() { c.open(ctx, offer) })
	}
	cancel()
	c.closeForwards()
	_ = c.client.Close() // the other side has closed it
	c.wg.Wait()
}

// keepAlive ends a connection whose client is gone without a word.
func (c *connection) keepAlive(ctx context.Context) {
	for wait(ctx, aliveEvery) {
		dead := time.AfterFunc(aliveLimit, func() {
			c.log.Info().Msg("ssh client does not answer any more")
			_ = c.client.Close()
		})
		_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
		dead.Stop()
		if err != nil {
			return
		}
	}
}

// open serves a channel to its end.
func (c *connection) open(ctx context.Context, offer ssh.NewChannel) {
	var err error
	switch offer.ChannelType() {
	case "session":
		err = c.session(ctx, offer)
	case "direct-tcpip":
		err = c.directTCP(ctx, offer)
	case "direct-streamlocal@openssh.com":
		err = c.directUnix(ctx, offer)
	default:
		err = offer.Reject(ssh.UnknownChannelType, "unknown channel type")
	}
	if err != nil {
		c.log.Debug().Err(err).Str("type", offer.ChannelType()).Msg("ssh channel failed")
	}
}

// request answers a request that is about the whole connection.
func (c *connection) request(ctx context.Context, r *ssh.Request) {
	var answer []byte
	var err error
	switch r.Type {
	case "tcpip-forward":
		answer, err = c.forwardTCP(ctx, r.Payload)
	case "cancel-tcpip-forward":
		err = c.cancelTCP(r.Payload)
	case "streamlocal-forward@openssh.com":
		err = c.forwardUnix(ctx, r.Payload)
	case "cancel-streamlocal-forward@openssh.com":
		err = c.cancelUnix(r.Payload)
	default: // keepalive@openssh.com wants any answer
		err = errors.New("unknown request")
	}
	if err != nil {
		c.log.Debug().Err(err).Str("type", r.Type).Msg("ssh request refused")
	}
	if r.WantReply {
		_ = r.Reply(err == nil, answer) // fails with the connection only
	}
}
