package sshd

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/ssh"
)

// TestFlood: who only connects gets neither memory nor the log without end.
func TestFlood(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer // written by one connection after another
	s := New(Config{Log: zerolog.New(&log)})
	s.fresh.Store(maxArrivals)
	for range 3 * maxLogged {
		client, raw := net.Pipe()
		s.serve(t.Context(), raw)
		if err := errors.Join(client.Close(), raw.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.fresh.Load(); n != maxArrivals {
		t.Errorf("%d connections are counted", n)
	}
	if n := bytes.Count(log.Bytes(), []byte(errBusy.Error())); n != maxLogged {
		t.Errorf("%d lines of log", n)
	}
}

// TestConnectedIsToldInOrder: the last that is told is how it is.
func TestConnectedIsToldInOrder(t *testing.T) {
	t.Parallel()
	calls, last := 0, -1
	s := New(Config{Connected: func(n int) { calls, last = calls+1, n }, Log: zerolog.Nop()})
	var users sync.WaitGroup
	for range 100 {
		users.Go(func() {
			done := s.usage.connected(time.Now())
			s.told()
			done(time.Now())
			s.told()
		})
	}
	users.Wait()
	if calls != 200 || last != 0 {
		t.Errorf("%d calls, the last with %d", calls, last)
	}
}

// tired fails to accept once before it does.
type tired struct {
	net.Listener
	err error
}

func (l *tired) Accept() (net.Conn, error) {
	if err := l.err; err != nil {
		l.err = nil
		return nil, err
	}
	return l.Listener.Accept()
}

// refusing is a client that takes no channel.
type refusing struct {
	ssh.Conn
	offered chan string
}

func (r refusing) OpenChannel(kind string, _ []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	r.offered <- kind
	return nil, nil, io.EOF
}

// TestForwardGoesOn: a forward survives that no descriptor was left for a while.
func TestForwardGoesOn(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client := refusing{offered: make(chan string, 1)}
	c := &connection{client: &ssh.ServerConn{Conn: client}, forwards: map[string]joined{}, log: zerolog.Nop()}
	defer c.wg.Wait()
	defer c.closeForwards()
	if err := c.forward(t.Context(), "x", joined{&tired{l, syscall.EMFILE}}, "kind", func(net.Conn) []byte { return nil }); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("something came")
	}
	if kind := <-client.offered; kind != "kind" {
		t.Errorf("offered: %q", kind)
	}
}
