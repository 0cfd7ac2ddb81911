package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/ssh"

	"dstack/agent/account"
)

// pipes is a listener whose connections the test makes.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error {
	close(p.done)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

// wire is one end of a connection in memory, which buffers. Only closing it
// ends a read, and a deaf one hears nothing any more.
type wire struct {
	net.Conn // addresses and deadlines: the unused end of a pipe

	in, out      chan []byte
	rest         []byte
	mine, theirs chan struct{} // closed by Close
	once         *sync.Once
	deaf         *atomic.Bool
}

func newWire() (a, b wire) {
	to, from := make(chan []byte, 1000), make(chan []byte, 1000)
	x, y := make(chan struct{}), make(chan struct{})
	left, right := net.Pipe()
	return wire{left, to, from, nil, x, y, &sync.Once{}, &atomic.Bool{}}, wire{right, from, to, nil, y, x, &sync.Once{}, &atomic.Bool{}}
}

func (w *wire) Read(b []byte) (int, error) {
	for len(w.rest) == 0 {
		select {
		case data := <-w.in:
			if !w.deaf.Load() {
				w.rest = data
			}
		case <-w.mine:
			return 0, net.ErrClosed
		case <-w.theirs:
			return 0, io.EOF
		}
	}
	n := copy(b, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

func (w *wire) Write(b []byte) (int, error) {
	select {
	case w.out <- bytes.Clone(b):
		return len(b), nil
	case <-w.mine:
		return 0, net.ErrClosed
	}
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.mine) })
	return nil
}

func signer(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDeadClient: a client that does not answer is dropped after two minutes,
// one that does is kept; the job counts as used as long as one is there.
func TestDeadClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := signer(t)
		s := New(Config{
			HostKeys: []ssh.Signer{signer(t)}, Keys: []ssh.PublicKey{key.PublicKey()}, Log: zerolog.Nop(),
			Account: func(string) (Account, error) { return Account{User: account.User{Home: "/"}}, nil },
		})
		ctx, cancel := context.WithCancel(t.Context())
		l := pipes{make(chan net.Conn), make(chan struct{})}
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, l) }()
		time.Sleep(7 * time.Second)
		idle := func(want time.Duration) {
			t.Helper()
			if got := s.Idle(time.Now()); got != want {
				t.Errorf("idle for %v, want %v", got, want)
			}
		}
		idle(7 * time.Second)
		here, there := newWire()
		l.conns <- &there
		conn, channels, requests, err := ssh.NewClientConn(&here, "", &ssh.ClientConfig{
			User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		})
		if err != nil {
			t.Fatal(err)
		}
		client := ssh.NewClient(conn, channels, requests)
		synctest.Wait()
		if got := s.Settled(time.Now(), 2*time.Second); got != 2*time.Second {
			t.Errorf("settled in %v", got)
		}
		time.Sleep(9 * time.Second)
		idle(16 * time.Second) // too short to count
		time.Sleep(10 * time.Minute)
		idle(0)
		if s.Settled(time.Now(), 2*time.Second) != 0 || s.usage.open() != 1 {
			t.Errorf("%d are logged in", s.usage.open())
		}
		here.deaf.Store(true)
		time.Sleep(aliveEvery + aliveLimit + time.Second)
		if n := s.usage.open(); n != 0 {
			t.Errorf("%d are logged in", n)
		}
		time.Sleep(time.Minute)
		if got := s.Idle(time.Now()); got < time.Minute || got > 2*time.Minute {
			t.Errorf("idle for %v", got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_ = client.Close()
	})
}
