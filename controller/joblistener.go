package controller

import (
	"net"
	"sync"
)

// jobListener brings the connections that jobs with dstack: true make to the
// server's handler. They are requests like any other: a token says who asks.
type jobListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newJobListener() *jobListener {
	return &jobListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// deliver hands a connection over, or closes it if nobody listens any more.
func (l *jobListener) deliver(conn net.Conn) {
	select {
	case l.conns <- conn:
	case <-l.closed:
		_ = conn.Close() // nobody will answer
	}
}

// Accept implements [net.Listener].
func (l *jobListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *jobListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements [net.Listener].
func (l *jobListener) Addr() net.Addr { return jobAddr{} }

type jobAddr struct{}

func (jobAddr) Network() string { return "job" }
func (jobAddr) String() string  { return "job" }
