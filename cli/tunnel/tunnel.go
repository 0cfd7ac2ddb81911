package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"dstack/sshlink"
)

// Config says how to reach a job and log in there.
type Config struct {
	// Ways are tried in order; at least one. The one that worked last is
	// tried first the next time.
	Ways []Way
	// Users are the logins at the agent, tried in order: usually root.
	Users []string
	// Keys are private keys in PEM.
	Keys []string
	// HostKeys pin the agent's key, as in authorized_keys; without any the
	// first one is trusted.
	HostKeys []string
	// Patience is for how long Open tries again while the job's SSH server
	// does not answer; default 10 s. Only a wait of that kind is repeated: a
	// refused key or a changed host key is final.
	Patience time.Duration
	// Notify, if set, is told what happens to the connection. It must not
	// block, and is not called any more once Close has returned.
	Notify func(Notice)
}

// What tells kinds of [Notice] apart.
type What int

const (
	// Lost says that the connection broke and is being made again.
	Lost What = iota + 1
	// Restored says that it is there again.
	Restored
	// Detour says that a way failed, and the next one works.
	Detour
)

// Notice is something that happened to a tunnel; each is told once.
type Notice struct {
	What What
	// Way is the one that broke, or that works now.
	Way Way
	// Err is why it was lost, or why the other ways failed.
	Err error
}

// ErrClosed is what a closed tunnel answers.
var ErrClosed = errors.New("tunnel closed")

// Tunnel is a live connection to a job. Methods may be called by any number
// of goroutines.
type Tunnel struct {
	cfg     Config
	ctx     context.Context //nolint:containedctx // the lifetime of the tunnel's own goroutine
	cancel  context.CancelCauseFunc
	workers sync.WaitGroup
	done    chan struct{}

	// Of the goroutine that connects.
	user     int
	hostKeys []string
	stream   net.Conn // what the way led to last

	mu     sync.Mutex
	way    int             // the one that worked last
	client *sshlink.Client // nil while there is none
	change chan struct{}   // closed when client or err changes
	err    error           // why the tunnel ended
}

// Open logs in at the job. ctx bounds opening only. Failures are of type
// *[sshlink.Error], or those of a [Way].
func Open(ctx context.Context, cfg Config) (*Tunnel, error) {
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Second
	}
	t := &Tunnel{cfg: cfg, hostKeys: cfg.HostKeys, done: make(chan struct{}), change: make(chan struct{})}
	client, err := t.connectPatiently(ctx)
	if err != nil {
		return nil, err
	}
	t.ctx, t.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	t.client = client
	t.workers.Go(t.keep)
	return t, nil
}

// Client is the connection of the moment, for sessions of the caller's own:
// it is not made again for them. While there is none, Client waits for it.
func (t *Tunnel) Client(ctx context.Context) (*sshlink.Client, error) {
	for {
		t.mu.Lock()
		client, change, err := t.client, t.change, t.err
		t.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case client != nil && client.Err() == nil:
			return client, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Way is the one that leads to the job now, or did last.
func (t *Tunnel) Way() Way {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cfg.Ways[t.way]
}

// Dial opens a connection from inside the job: "tcp" or "unix", as
// [net.Dialer.DialContext]. It waits while the tunnel is being made again.
func (t *Tunnel) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	_, conn, err := t.dial(ctx, network, addr)
	return conn, err
}

// dial is Dial that tells which client it goes through. One that is cut
// meanwhile gives way to the next.
func (t *Tunnel) dial(ctx context.Context, network, addr string) (*sshlink.Client, net.Conn, error) {
	for {
		client, err := t.Client(ctx)
		if err != nil {
			return nil, nil, err
		}
		conn, err := client.DialContext(ctx, network, addr)
		if err == nil {
			return client, conn, nil
		}
		if _, refused := errors.AsType[*ssh.OpenChannelError](err); refused || ctx.Err() != nil {
			return nil, nil, fmt.Errorf("connect to %s in the job: %w", addr, err)
		}
		select { // no answer: the connection has ended, or is about to
		case <-client.Done():
		case <-ctx.Done():
		}
	}
}

// Done is closed when the tunnel has ended for good; Err says why.
func (t *Tunnel) Done() <-chan struct{} { return t.done }

// Err is why the tunnel ended: nil while it lives, [ErrClosed] after Close.
func (t *Tunnel) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Close ends the tunnel and all that goes through it, and waits for its
// goroutines. It may be called twice.
func (t *Tunnel) Close() error {
	t.cancel(ErrClosed)
	t.workers.Wait()
	return nil
}

// keep makes the connection again whenever it ended.
func (t *Tunnel) keep() {
	defer close(t.done)
	client := t.client
	for {
		select {
		case <-client.Done():
		case <-t.ctx.Done():
		}
		cause := t.cause(client)
		_ = client.Close() // frees the way; what ended it is in cause
		if t.ctx.Err() != nil {
			t.set(nil, ErrClosed)
			return
		}
		t.set(nil, nil)
		t.notify(Notice{Lost, t.Way(), cause})
		var err error
		if client, err = t.reconnect(); err != nil {
			t.set(nil, err)
			return
		}
		t.set(client, nil)
		t.notify(Notice{Restored, t.Way(), nil})
	}
}

// errHungUp is the end of a connection that the other side closed.
var errHungUp = errors.New("the other end closed the connection")

// cause is why a connection ended: what happened to the way says more than
// what the last server on it saw.
func (t *Tunnel) cause(client *sshlink.Client) error {
	if way, ok := t.stream.(interface{ Cause() error }); ok && way.Cause() != nil {
		return way.Cause()
	}
	if errors.Is(client.Err(), io.EOF) {
		return errHungUp
	}
	return client.Err()
}

func (t *Tunnel) set(client *sshlink.Client, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.client, t.err = client, err
	close(t.change)
	t.change = make(chan struct{})
}

func (t *Tunnel) notify(n Notice) {
	if t.cfg.Notify != nil {
		t.cfg.Notify(n)
	}
}

// Pauses between attempts.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 5 * time.Second
	// refusals is how often in a row the keys may be refused while a job is
	// reached again: at its end they go away before everybody knows.
	refusals = 4
)

// reconnect tries until it succeeds, the tunnel is closed, or it never will.
func (t *Tunnel) reconnect() (*sshlink.Client, error) {
	pause, refused := firstPause, 0
	for {
		client, err := t.connect(t.ctx)
		if err == nil {
			return client, nil
		}
		if t.ctx.Err() != nil {
			return nil, ErrClosed
		}
		switch kindOf(err) {
		case sshlink.HostKeyChanged, sshlink.BadKey:
			return nil, err
		case sshlink.AuthFailed:
			if refused++; refused == refusals {
				return nil, err
			}
			// OpenSSH punishes the source address of failed logins.
			pause = max(pause, time.Second)
		case sshlink.Unreachable, sshlink.Refused, sshlink.Timeout, sshlink.Forbidden:
			refused = 0
		}
		if !sleep(t.ctx, pause) {
			return nil, ErrClosed
		}
		pause = min(2*pause, lastPause)
	}
}

// connectPatiently tries for as long as the job may still be starting its
// SSH server.
func (t *Tunnel) connectPatiently(ctx context.Context) (*sshlink.Client, error) {
	deadline := time.Now().Add(t.cfg.Patience)
	for pause := firstPause; ; pause = min(2*pause, time.Second) {
		client, err := t.connect(ctx)
		if err == nil || final(err) || time.Now().Add(pause).After(deadline) || !sleep(ctx, pause) {
			return client, err
		}
	}
}

// final says whether another attempt would end the same way.
func final(err error) bool {
	switch kindOf(err) {
	case sshlink.AuthFailed, sshlink.HostKeyChanged, sshlink.BadKey, sshlink.Forbidden:
		return true
	case sshlink.Unreachable, sshlink.Refused, sshlink.Timeout:
	}
	return false
}

func kindOf(err error) sshlink.Kind {
	if e, ok := errors.AsType[*sshlink.Error](err); ok {
		return e.Kind
	}
	return sshlink.Unreachable
}

// onWay says whether an error is that of one way only: another one may be free.
func onWay(err error) bool {
	e, ok := errors.AsType[*sshlink.Error](err)
	return !final(err) || ok && (e.Kind == sshlink.Forbidden || e.Kind == sshlink.AuthFailed && e.Jump)
}

// connect tries the ways once, beginning with the one that worked last. A
// login that the job refuses ends the round: another way leads to it as well.
func (t *Tunnel) connect(ctx context.Context) (*sshlink.Client, error) {
	t.mu.Lock()
	first := t.way
	t.mu.Unlock()
	var failed []error
	for n := range t.cfg.Ways {
		i := (first + n) % len(t.cfg.Ways)
		client, err := t.login(ctx, t.cfg.Ways[i])
		if err == nil {
			t.mu.Lock()
			t.way = i
			t.mu.Unlock()
			if n > 0 {
				t.notify(Notice{Detour, t.cfg.Ways[i], errors.Join(failed...)})
			}
			return client, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil || !onWay(err) {
			return nil, err
		}
	}
	return nil, errors.Join(failed...)
}

// loginTimeout bounds a way and the login at its end.
const loginTimeout = 15 * time.Second

// login goes one way and logs in at the agent as the first user it takes.
func (t *Tunnel) login(ctx context.Context, way Way) (*sshlink.Client, error) {
	for {
		client, err := sshlink.Dial(ctx, sshlink.Config{
			Endpoint: sshlink.Endpoint{Host: "job", User: t.cfg.Users[t.user], Keys: t.cfg.Keys, HostKeys: t.hostKeys},
			Via: func(ctx context.Context, _, _ string) (net.Conn, error) {
				stream, err := way.Dial(ctx)
				t.stream = stream
				return stream, err //nolint:wrapcheck // the way says what failed
			},
			Timeout: loginTimeout,
		})
		e, ok := errors.AsType[*sshlink.Error](err)
		if ok && e.Kind == sshlink.AuthFailed && !e.Jump && t.user+1 < len(t.cfg.Users) {
			t.user++
			continue
		}
		if err == nil && len(t.hostKeys) == 0 {
			t.hostKeys = []string{client.HostKey()}
		}
		return client, err
	}
}

// sleep waits; false means that ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
