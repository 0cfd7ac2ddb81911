// Package sshd is the SSH server of a job: it lets the holders of the job's
// keys in as any user of the container, without help of the image (spec:
// job-execution.md 12). What OpenSSH's server does and users rely on, it does
// alike: sessions with and without a terminal, sftp, forwarding of ports,
// unix sockets and authentication agents.
package sshd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"dstack/agent/account"
	"dstack/agent/reap"
)

// Account is a user that somebody has logged in as.
type Account struct {
	account.User
	// Credential is what the user's processes get; nil means that they stay
	// what this process is.
	Credential *syscall.Credential
	// Env is the environment of the user's processes, entries "NAME=value".
	Env []string
	// Dir is where login shells begin; Home, if it is empty or not to be entered.
	Dir string
}

// Config says whom to serve and with what.
type Config struct {
	HostKeys []ssh.Signer
	// Keys may log in as any user. A user's own authorized_keys may, too.
	Keys []ssh.PublicKey
	// Account finds the user of a login name; an error refuses it.
	Account func(name string) (Account, error)
	// Own answers what is dialled at a port of localhost instead of the system;
	// it owns the connection.
	Own map[uint32]func(net.Conn)
	// SFTP is the command that serves SFTP on its standard input and output.
	SFTP []string
	// Reaper waits for the processes that the server starts.
	Reaper *reap.Reaper
	// Connected is told how many are logged in, whenever that changes.
	Connected func(n int)
	Log       zerolog.Logger
}

// Times of a connection.
const (
	// loginLimit is how long a login may take.
	loginLimit = 2 * time.Minute
	// aliveEvery is how often a client is asked whether it is still there, and
	// aliveLimit how long it may take to answer: 4 times 30 s, as in 0.22.5.
	aliveEvery = 30 * time.Second
	aliveLimit = 3 * aliveEvery
	// ownLimit is how long clients get at the end of the server to take what
	// it says itself, and ownPoll how often is looked.
	ownLimit = 2 * time.Second
	ownPoll  = 5 * time.Millisecond
	// maxLogins is how many may be logging in at once; others wait, as long as
	// all of them are not more than maxArrivals: who they are is not known yet.
	maxLogins   = 128
	maxArrivals = 1024
	// maxAuthTries is how many keys a client may offer.
	maxAuthTries = 32
	// maxLogged is how many lines of the log a minute may have: whoever reaches
	// the port can fill it.
	maxLogged = 100
)

var errBusy = errors.New("too many connections that have not logged in")

// Server serves the SSH connections of one job.
type Server struct {
	cfg    Config
	config *ssh.ServerConfig
	logins chan struct{}
	usage  *usage

	// starting is held for reading while a process is started.
	starting sync.RWMutex
	retired  bool

	telling sync.Mutex // held while Connected is called: the last call is true

	own   atomic.Int64 // connections that we answer ourselves
	fresh atomic.Int64 // connections that have not logged in
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil once the server has ended
}

// New makes a server; it serves nobody by itself.
func New(cfg Config) *Server {
	cfg.Log = cfg.Log.Sample(&zerolog.BurstSampler{Burst: maxLogged, Period: time.Minute})
	s := &Server{cfg: cfg, logins: make(chan struct{}, maxLogins), usage: newUsage(time.Now()), conns: map[net.Conn]struct{}{}}
	s.config = s.serverConfig()
	return s
}

// Idle says for how long nobody was logged in at now.
func (s *Server) Idle(now time.Time) time.Duration { return s.usage.idle(now) }

// Settled says in how long at the latest all who are logged in at now will
// have been for as long as since.
func (s *Server) Settled(now time.Time, since time.Duration) time.Duration {
	return s.usage.settled(now, since)
}

// Retire starts no process any more. What was started goes on.
func (s *Server) Retire() {
	s.starting.Lock()
	defer s.starting.Unlock()
	s.retired = true
}

// Run serves who connects to the listeners, until ctx ends; it closes them
// and all connections.
func (s *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	var accepting errgroup.Group
	for _, l := range listeners {
		accepting.Go(func() error { return s.accept(ctx, l) })
	}
	<-ctx.Done()
	var err error
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	err = errors.Join(err, accepting.Wait())
	s.finishOwn()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close() // its own goroutine sees what follows
	}
	s.conns = nil
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

// finishOwn lets clients take the rest of what we answer ourselves, as long
// as they are not too slow.
func (s *Server) finishOwn() {
	for end := time.Now().Add(ownLimit); s.own.Load() > 0 && time.Now().Before(end); {
		time.Sleep(ownPoll)
	}
}

// acceptPause is how long accepting rests after a failure, such as no
// descriptors left.
const acceptPause = 100 * time.Millisecond

func (s *Server) accept(ctx context.Context, l net.Listener) error {
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept SSH connections: %w", err)
		case err != nil:
			s.cfg.Log.Warn().Err(err).Msg("ssh connection not accepted")
			if !wait(ctx, acceptPause) {
				return nil
			}
			continue
		}
		if !s.track(conn) {
			_ = conn.Close()
			return nil
		}
		s.wg.Go(func() {
			defer s.untrack(conn)
			s.serve(ctx, conn)
		})
	}
}

func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) untrack(c net.Conn) {
	_ = c.Close() // mostly closed by now
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// serve serves one client to its end.
func (s *Server) serve(ctx context.Context, raw net.Conn) {
	log := s.cfg.Log.With().Stringer("client", raw.RemoteAddr()).Logger()
	client, channels, requests, err := s.login(ctx, raw)
	if err != nil {
		log.Info().Err(err).Msg("ssh login failed")
		return
	}
	who, ok := client.Permissions.ExtraData[accountKey{}].(Account)
	if !ok {
		log.Error().Msg("ssh login without an account")
		return
	}
	log = log.With().Str("user", client.User()).Logger()
	log.Info().Str("key", client.Permissions.Extensions[keyExtension]).Msg("ssh login")
	done := s.usage.connected(time.Now())
	s.told()
	defer func() {
		done(time.Now())
		s.told()
		log.Info().Msg("ssh logout")
	}()
	c := &connection{server: s, client: client, account: who, log: log, forwards: map[string]joined{}}
	c.run(ctx, channels, requests)
}

func (s *Server) told() {
	s.telling.Lock()
	defer s.telling.Unlock()
	if s.cfg.Connected != nil {
		s.cfg.Connected(s.usage.open())
	}
}

// login makes an SSH connection of raw.
func (s *Server) login(ctx context.Context, raw net.Conn) (*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	defer s.fresh.Add(-1)
	if s.fresh.Add(1) > maxArrivals {
		return nil, nil, nil, errBusy
	}
	// The time in the queue counts.
	if err := raw.SetDeadline(time.Now().Add(loginLimit)); err != nil {
		return nil, nil, nil, err
	}
	select {
	case s.logins <- struct{}{}:
		defer func() { <-s.logins }()
	case <-ctx.Done():
		return nil, nil, nil, context.Cause(ctx)
	}
	client, channels, requests, err := ssh.NewServerConn(raw, s.config)
	if err != nil {
		return nil, nil, nil, err
	}
	return client, channels, requests, raw.SetDeadline(time.Time{})
}

// wait waits for d; it returns false if ctx ended before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
