// Package serversock is the socket at which a job reaches its server: who
// connects there is handed to the server, which asks for connections one by
// one (see [jobapi]). The server decides about each request as about any other:
// to be in the job gives no rights.
package serversock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dstack/protocol/jobapi"
)

// Socket is an open socket. The methods other than Run may be called from
// anywhere.
type Socket struct {
	listener net.Listener
	// path is where the job finds it.
	path string
	// arrived are the connections of the job that nobody has taken yet.
	arrived chan net.Conn
	// done is closed when Run ends.
	done chan struct{}
	// asked is closed when the server asked for a connection.
	asked     chan struct{}
	firstTime sync.Once
	carried   sync.WaitGroup
}

// maxPath is the longest path by which a unix socket can be reached.
const maxPath = 107

// Listen makes the socket, open to every user, and the folder that it is in. One
// that an earlier agent left is replaced.
func Listen(path string) (*Socket, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("the socket's path %s is longer than the %d bytes that the system allows: give the server or the shim a shorter folder", path, maxPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("open socket to users: %w", err), l.Close())
	}
	return &Socket{listener: l, path: path, arrived: make(chan net.Conn), done: make(chan struct{}), asked: make(chan struct{})}, nil
}

// URL is the address of the server for clients in the job.
func (s *Socket) URL() string { return "http+unix://" + url.PathEscape(s.path) }

// Asked is closed when the server was there for the first time.
func (s *Socket) Asked() <-chan struct{} { return s.asked }

// acceptAgain is how long it waits after the system refused a connection.
const acceptAgain = 50 * time.Millisecond

// Run accepts connections until ctx ends; those that are carried are cut then.
// It is called once.
func (s *Socket) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		close(s.done)
		return s.listener.Close()
	})
	g.Go(func() error {
		for {
			conn, err := s.listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			if err != nil { // no file is free
				select {
				case <-time.After(acceptAgain):
				case <-s.done:
				}
				continue
			}
			// Others wait in the system's queue, which is bounded.
			select {
			case s.arrived <- conn:
			case <-s.done:
				_ = conn.Close() // nobody will answer
			}
		}
	})
	err := g.Wait()
	s.carried.Wait()
	if err != nil {
		return fmt.Errorf("serve %s: %w", s.path, err)
	}
	return nil
}

// ServeHTTP gives the next connection of the job to the caller, in place of its
// own, as soon as there is one.
func (s *Socket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.firstTime.Do(func() { close(s.asked) })
	select {
	case <-s.done:
		http.Error(w, "the job has ended", http.StatusGone)
	case <-r.Context().Done():
	case conn := <-s.arrived:
		s.carried.Add(1)
		defer s.carried.Done()
		defer conn.Close() //nolint:errcheck // both sides are given up
		peer, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return // the caller is gone, and the job may try again
		}
		defer peer.Close() //nolint:errcheck // as above
		if _, err := io.WriteString(peer, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+jobapi.ServerUpgrade+"\r\n\r\n"); err != nil {
			return
		}
		s.carry(conn, peer, buf.Reader)
	}
}

// carry copies both ways until one side ends or Run does.
func (s *Socket) carry(conn, peer net.Conn, fromPeer *bufio.Reader) {
	ended := make(chan struct{}, 2)
	var copies sync.WaitGroup
	copies.Go(func() {
		_, _ = io.Copy(conn, fromPeer) // how it ended is the client's to tell
		ended <- struct{}{}
	})
	copies.Go(func() {
		_, _ = io.Copy(peer, conn)
		ended <- struct{}{}
	})
	select {
	case <-ended:
	case <-s.done:
	}
	_, _ = conn.Close(), peer.Close()
	copies.Wait()
}
