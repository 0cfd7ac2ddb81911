package control

import (
	"net"
	"sync"
)

// visits are connections that come from within this process, as a listener.
type visits struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newVisits() *visits { return &visits{conns: make(chan net.Conn), closed: make(chan struct{})} }

// Visit serves /logs_ws, and nothing else, on conn, and closes it at the end.
func (s *Server) Visit(conn net.Conn) {
	select {
	case s.visits.conns <- conn:
	case <-s.visits.closed:
		_ = conn.Close() // nobody waits for the answer
	}
}

// Accept waits for the next connection.
func (v *visits) Accept() (net.Conn, error) {
	select {
	case conn := <-v.conns:
		return conn, nil
	case <-v.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and turns visitors away.
func (v *visits) Close() error {
	v.once.Do(func() { close(v.closed) })
	return nil
}

// Addr says where visits come from.
func (v *visits) Addr() net.Addr { return &net.UnixAddr{Name: "visit", Net: "unix"} }
