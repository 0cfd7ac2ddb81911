package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// Want is one port to forward.
type Want struct {
	// Local is the local port. 0 takes the first free one from Remote on.
	Local int
	// Remote is the port on the job's localhost.
	Remote int
	// Socket, if set, is a unix socket in the job in place of Remote.
	Socket string
	// Shared says that another process of the user forwards the same port:
	// if Local is taken, it is left to that process as long as it lives.
	Shared bool
	// Open says that the job shares this machine's network: its port is
	// there already, unless it shall be another one.
	Open bool
}

// Forward is a local port that leads into a job.
type Forward struct {
	// Local is the port that was taken for Want.
	Local int
	Want  Want
}

// PortError says that a local port is taken.
type PortError struct{ Port int }

func (e *PortError) Error() string { return fmt.Sprintf("port %d is already in use", e.Port) }

// Listeners hold local ports, from [Listen] on: nobody else gets them while a
// job is still on its way. Connections wait until Serve.
type Listeners struct {
	addrs    []string
	forwards []Forward
	sockets  [][]net.Listener // of each forward: one for each address, none if others serve it
	workers  sync.WaitGroup

	mu     sync.Mutex
	tunnel *Tunnel
	cancel context.CancelFunc // of Serve
	conns  map[net.Conn]struct{}
	closed bool
}

// Listen takes local ports at host, which is a name or an address. A fixed
// port that is taken is a *[PortError].
func Listen(ctx context.Context, host string, wants []Want) (*Listeners, error) {
	addrs, err := bindAddresses(ctx, host)
	if err != nil {
		return nil, err
	}
	l := &Listeners{addrs: addrs, conns: map[net.Conn]struct{}{}}
	for _, want := range wants {
		port, sockets, err := take(ctx, addrs, want)
		if err != nil && (!want.Shared || !isTaken(err)) {
			return nil, errors.Join(err, l.Close())
		}
		l.forwards = append(l.forwards, Forward{port, want})
		l.sockets = append(l.sockets, sockets)
	}
	return l, nil
}

// bindAddresses are the addresses of a host name.
func bindAddresses(ctx context.Context, host string) ([]string, error) {
	switch host {
	case "", "localhost":
		return []string{"127.0.0.1", "::1"}, nil
	case "*":
		return []string{"0.0.0.0"}, nil
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("find the address of %s: %w", host, err)
	}
	return addrs, nil
}

// maxPort is the highest TCP port.
const maxPort = 65535

// take binds the wanted port, or the first free one if any will do.
func take(ctx context.Context, addrs []string, want Want) (int, []net.Listener, error) {
	if want.Open && (want.Local == 0 || want.Local == want.Remote) {
		return want.Remote, nil, nil
	}
	if want.Local != 0 {
		sockets, err := bind(ctx, addrs, want.Local)
		return want.Local, sockets, err
	}
	for port := max(want.Remote, 1); port <= maxPort; port++ {
		sockets, err := bind(ctx, addrs, port)
		if err == nil {
			return port, sockets, nil
		}
		if ctx.Err() != nil {
			return 0, nil, context.Cause(ctx)
		}
	}
	return 0, nil, fmt.Errorf("no local port is free from %d on", want.Remote)
}

// bind takes a port at all addresses. It must be free on the IPv4 wildcard,
// too: somebody who listens there gets connections that are meant for us.
func bind(ctx context.Context, addrs []string, port int) ([]net.Listener, error) {
	probe, err := listen(ctx, "0.0.0.0", port)
	if err != nil {
		return nil, err
	}
	if err := probe.Close(); err != nil {
		return nil, fmt.Errorf("probe port %d: %w", port, err)
	}
	var sockets []net.Listener
	for i, addr := range addrs {
		socket, err := listen(ctx, addr, port)
		switch {
		case err == nil:
			sockets = append(sockets, socket)
		case i > 0 && !isTaken(err):
			// localhost is ::1, too, also where there is no IPv6.
		default:
			for _, s := range sockets {
				_ = s.Close() // nobody has connected yet
			}
			return nil, err
		}
	}
	return sockets, nil
}

func listen(ctx context.Context, addr string, port int) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(addr, strconv.Itoa(port)))
	if errors.Is(err, errInUse) {
		return nil, &PortError{port}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on local port %d: %w", port, err)
	}
	return l, nil
}

func isTaken(err error) bool {
	_, taken := errors.AsType[*PortError](err)
	return taken
}

// Forwards are the ports that were taken, in the order of Listen's wants.
func (l *Listeners) Forwards() []Forward { return l.forwards }

// dialPatience is how long a local connection waits for a tunnel that is
// being made again.
const dialPatience = 30 * time.Second

// Serve connects whoever connects to the ports through t, until Close. It
// returns at once. Called again, it takes another tunnel from then on.
func (l *Listeners) Serve(t *Tunnel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tunnel = t
	if l.closed || l.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	for i, sockets := range l.sockets {
		to := l.forwards[i]
		if sockets == nil && to.Want.Shared {
			l.workers.Go(func() { l.inherit(ctx, to) })
		}
		for _, socket := range sockets {
			l.workers.Go(func() { l.accept(ctx, socket, to.Want) })
		}
	}
}

// inheritPause is how often a shared port is looked at.
const inheritPause = time.Second

// inherit serves a shared port once the process that had it is gone.
func (l *Listeners) inherit(ctx context.Context, to Forward) {
	var sockets []net.Listener
	for sockets == nil {
		if !sleep(ctx, inheritPause) {
			return
		}
		sockets, _ = bind(ctx, l.addrs, to.Local) // taken for as long as the other lives
	}
	var accepting sync.WaitGroup
	for _, socket := range sockets {
		accepting.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = socket.Close() })() // ends accept
			l.accept(ctx, socket, to.Want)
		})
	}
	accepting.Wait()
}

func (l *Listeners) accept(ctx context.Context, socket net.Listener, to Want) {
	for {
		conn, err := socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files, most likely
			if !sleep(ctx, firstPause) {
				return
			}
			continue
		}
		t := l.track(conn)
		if t == nil {
			return
		}
		l.workers.Go(func() {
			defer l.drop(conn)
			forward(ctx, t, conn, to)
		})
	}
}

// track notes a connection for Close and gives the tunnel for it; nil means
// that it came too late.
func (l *Listeners) track(conn net.Conn) *Tunnel {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return nil
	}
	l.conns[conn] = struct{}{}
	return l.tunnel
}

func (l *Listeners) drop(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
	_ = conn.Close() // closed twice at worst
}

// forward connects one local connection to its end in the job.
func forward(ctx context.Context, t *Tunnel, conn net.Conn, to Want) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	network, addr := "tcp", net.JoinHostPort("localhost", strconv.Itoa(to.Remote))
	if to.Socket != "" {
		network, addr = "unix", to.Socket
	}
	client, remote, err := t.dial(ctx, network, addr)
	if err != nil {
		reset(conn)
		return
	}
	defer remote.Close() //nolint:errcheck // the other end may have closed it
	join(conn, remote)
	if client.Err() != nil {
		// Cut off by the tunnel's end: a clean end would look complete.
		reset(conn)
	}
}

// reset makes the other end see an error instead of the end of the data.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it, it is an ordinary end
	}
}

// join copies both ways, with half closes, until both directions ended or one
// failed.
func join(local, remote net.Conn) {
	var copies sync.WaitGroup
	copies.Go(func() { pour(remote, local) })
	pour(local, remote)
	copies.Wait()
}

// pour copies until the end of the source and passes that on. After an error
// it closes both.
func pour(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err == nil && ok && half.CloseWrite() == nil {
		return
	}
	_ = to.Close() // closed twice at worst
	_ = from.Close()
}

// Close gives the ports back, ends all connections, and waits.
func (l *Listeners) Close() error {
	l.mu.Lock()
	l.closed = true
	if l.cancel != nil {
		l.cancel()
	}
	for conn := range l.conns {
		_ = conn.Close() // who copies from it sees that
	}
	l.mu.Unlock()
	var errs []error
	for _, sockets := range l.sockets {
		for _, socket := range sockets {
			if err := socket.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, fmt.Errorf("close local port: %w", err))
			}
		}
	}
	l.workers.Wait()
	return errors.Join(errs...)
}
