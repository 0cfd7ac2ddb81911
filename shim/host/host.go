// Package host is the shim's place on its host: the home with its lock and
// socket, the supervisor, and how all of it goes again.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"dstack/durable"
	"dstack/protocol/hostapi"
)

// ErrLocked says that another shim serves the home.
var ErrLocked = errors.New("another dstack-shim serves this home")

// Home is the locked home of a running shim.
type Home struct {
	Path string
	lock *os.File
}

// Open makes the home if need be and takes its lock.
func Open(path string) (*Home, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make home: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, fmt.Errorf("close home to others: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "shim.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of home: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w: %s", ErrLocked, path)
		}
		return nil, errors.Join(err, lock.Close())
	}
	return &Home{Path: path, lock: lock}, nil
}

// Close gives the lock back.
func (h *Home) Close() error { return h.lock.Close() }

// File is the path of a file of the home.
func (h *Home) File(name string) string { return filepath.Join(h.Path, name) }

// ID is the name of this installation, made when it is first asked for.
func (h *Home) ID() (string, error) {
	b, err := os.ReadFile(h.File("host-id"))
	if id := strings.TrimSpace(string(b)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read host id: %w", err)
	}
	return h.NewID()
}

// NewID gives the installation a new name: what the controller knows of the
// old one's events is then void.
func (h *Home) NewID() (string, error) {
	id := uuid.NewString()
	if err := durable.WriteFile(h.File("host-id"), []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep host id: %w", err)
	}
	return id, nil
}

// WritePID notes who runs the shim, unless a supervisor did.
func WritePID(home string) error {
	if err := os.WriteFile(filepath.Join(home, hostapi.PIDName), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return fmt.Errorf("write process id: %w", err)
	}
	return nil
}

// Listen opens the socket in the home for root and the shim's own user.
func (h *Home) Listen() (net.Listener, error) {
	path := h.File(hostapi.SocketName)
	// The lock is ours, so a socket that lies there is nobody's.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	// The name may be longer than the 108 bytes of a socket address.
	dir, err := os.Open(h.Path)
	if err != nil {
		return nil, fmt.Errorf("open home: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: socketIn(dir)})
	if err := errors.Join(err, dir.Close()); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("close socket to others: %w", err), l.Close())
	}
	return &ownListener{l}, nil
}

func socketIn(dir *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), hostapi.SocketName)
}

// Dial connects to the shim of a home.
func Dial(ctx context.Context, home string) (*net.UnixConn, error) {
	dir, err := os.Open(home)
	if err != nil {
		return nil, fmt.Errorf("open home: %w", err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socketIn(dir))
	if err := errors.Join(err, dir.Close()); err != nil {
		return nil, fmt.Errorf("connect to dstack-shim at %s: %w", filepath.Join(home, hostapi.SocketName), err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("connect to dstack-shim: got a %T", conn), conn.Close())
	}
	return unixConn, nil
}

// ownListener accepts root and the own user; the mode of the socket says so
// already, this is for where somebody changed it.
type ownListener struct{ *net.UnixListener }

func (l *ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peer(conn); err == nil && (uid == 0 || int(uid) == os.Getuid()) {
			return conn, nil
		}
		if err := conn.Close(); err != nil {
			continue // it went away by itself
		}
	}
}

func peer(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("look at peer: %w", err)
	}
	var cred *unix.Ucred
	ctrlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(ctrlErr, err); err != nil {
		return 0, fmt.Errorf("look at peer: %w", err)
	}
	return cred.Uid, nil
}

// grace is how long open calls may take when the shim ends.
const grace = 200 * time.Millisecond

// What one connection may hold: the calls of the controller and the connections
// of jobs to their server share it. A job that reads nothing fills no more than
// its own streams, and any number of jobs leaves streams for calls.
const (
	maxStreams   = 1 << 16
	streamBuffer = 256 << 10
	allBuffers   = 1 << 30
)

// Serve serves h on l, HTTP/1.1 and HTTP/2 without TLS, until ctx ends. Calls
// are cancelled then.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler: h, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerStream: streamBuffer, MaxReceiveBufferPerConnection: allBuffers,
		},
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if err := srv.Shutdown(stop); err != nil {
			return srv.Close()
		}
		return nil
	})
	return g.Wait()
}
