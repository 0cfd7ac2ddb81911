package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"dstack/cli/tunnel"
	"dstack/sshlink/sshtest"
)

// network is one that can fall silent, as a sleeping laptop's does: what is
// sent is lost, and nobody is told.
type network struct {
	config *ssh.ServerConfig

	mu      sync.Mutex
	silent  bool
	open    []net.Conn
	servers sync.WaitGroup
}

func (n *network) String() string { return "a network that sleeps" }

// Dial gives a connection to an SSH server, unless the network is silent.
func (n *network) Dial(ctx context.Context) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.silent {
		n.mu.Unlock()
		<-ctx.Done() // no answer, not even a refusal
		n.mu.Lock()
		return nil, context.Cause(ctx)
	}
	here, there := net.Pipe()
	n.open = append(n.open, there)
	n.servers.Go(func() { n.serve(n.buffered(there)) })
	return n.buffered(here), nil
}

func (n *network) serve(conn net.Conn) {
	defer conn.Close()
	server, channels, requests, err := ssh.NewServerConn(conn, n.config)
	if err != nil {
		return
	}
	n.servers.Go(func() { ssh.DiscardRequests(requests) })
	for channel := range channels {
		_ = channel.Reject(ssh.UnknownChannelType, "none")
	}
	_ = server.Wait()
}

// sleep makes the network silent until wake.
func (n *network) sleep() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = true
}

func (n *network) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = false
}

func (n *network) close() {
	n.mu.Lock()
	for _, conn := range n.open {
		_ = conn.Close()
	}
	n.mu.Unlock()
	n.servers.Wait()
}

// sleepyConn writes without waiting for the reader, as a socket does, and
// swallows what is written while its network is silent.
type sleepyConn struct {
	net.Conn

	net   *network
	queue chan []byte
	ended chan struct{}
	once  sync.Once
}

func (n *network) buffered(conn net.Conn) *sleepyConn {
	c := &sleepyConn{Conn: conn, net: n, queue: make(chan []byte, 1000), ended: make(chan struct{})}
	n.servers.Go(func() {
		for {
			select {
			case p := <-c.queue:
				if _, err := conn.Write(p); err != nil {
					return
				}
			case <-c.ended:
				return
			}
		}
	})
	return c
}

func (c *sleepyConn) Write(p []byte) (int, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if !c.net.silent {
		select {
		case c.queue <- bytes.Clone(p):
		case <-c.ended:
			return 0, net.ErrClosed
		}
	}
	return len(p), nil
}

func (c *sleepyConn) Close() error {
	c.once.Do(func() { close(c.ended) })
	return c.Conn.Close()
}

// TestAsleepForAnHour: the laptop wakes up, and the tunnel is there again
// without a word from its user; what happened is told once.
func TestAsleepForAnHour(t *testing.T) {
	key, signer := sshtest.NewKey(t)
	_, hostKey := sshtest.NewKey(t)
	synctest.Test(t, func(t *testing.T) {
		config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
			if string(offered.Marshal()) != string(signer.PublicKey().Marshal()) {
				return nil, errors.New("another key")
			}
			return &ssh.Permissions{}, nil
		}}
		config.AddHostKey(hostKey)
		n := &network{config: config}
		defer n.close()
		var told []tunnel.What
		tun, err := tunnel.Open(t.Context(), tunnel.Config{
			Ways: []tunnel.Way{n}, Users: []string{"root"}, Keys: []string{key},
			Notify: func(notice tunnel.Notice) { told = append(told, notice.What) },
		})
		if err != nil {
			t.Fatal(err)
		}
		n.sleep()
		time.Sleep(time.Hour)
		if diff := cmp.Diff([]tunnel.What{tunnel.Lost}, told); diff != "" {
			t.Error(diff)
		}
		n.wake()
		woke := time.Now()
		if _, err := tun.Client(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(woke); took > 20*time.Second {
			t.Errorf("back after %s", took)
		}
		synctest.Wait()
		if diff := cmp.Diff([]tunnel.What{tunnel.Lost, tunnel.Restored}, told); diff != "" {
			t.Error(diff)
		}
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
	})
}
