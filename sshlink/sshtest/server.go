// Package sshtest is an SSH server inside the test's process, which runs the
// commands it gets with /bin/sh on this machine.
package sshtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Options shape a server. The zero value is a plain one on 127.0.0.1.
type Options struct {
	// HostKeys default to one new Ed25519 key.
	HostKeys []ssh.Signer
	// Authorized may log in, under any name.
	Authorized []ssh.PublicKey
	NoSFTP     bool
	NoForward  bool
	// Dial, if set, opens what forwards ask for ("tcp", or "unix") in place
	// of this machine's network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Env is added to the environment of commands; a PATH here replaces theirs.
	Env []string
	// Noise is printed before a command's own output, as by a login script.
	Noise string
	// Addr defaults to 127.0.0.1 and a free port.
	Addr string
}

// Server is running until the test ends or Close.
type Server struct {
	// HostKeys are the public keys, as in authorized_keys without newline.
	HostKeys []string
	Host     string
	Port     int

	opt    Options
	config atomic.Pointer[ssh.ServerConfig]
	listen net.Listener
	wg     sync.WaitGroup
	ctx    context.Context //nolint:containedctx // the lifetime of the server's commands
	cancel context.CancelFunc

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	// hung connections swallow what the client sends.
	hung atomic.Bool
	// Logins counts successful ones, Failures the others.
	Logins, Failures atomic.Int64
}

// NewKey makes a key pair: the private key as PEM, and a signer.
func NewKey(t testing.TB) (string, ssh.Signer) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Marshal(t, private), Signer(t, private)
}

// Marshal gives a private key as OpenSSH PEM.
func Marshal(t testing.TB, private any) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}

// Signer makes a signer of a private key.
func Signer(t testing.TB, private any) ssh.Signer {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// Start starts a server.
func Start(t testing.TB, opt Options) *Server {
	t.Helper()
	if opt.Addr == "" {
		opt.Addr = "127.0.0.1:0"
	}
	if len(opt.HostKeys) == 0 {
		_, signer := NewKey(t)
		opt.HostKeys = []ssh.Signer{signer}
	}
	s := &Server{opt: opt, conns: map[net.Conn]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.ShowKeys(opt.HostKeys...)
	for _, k := range opt.HostKeys {
		s.HostKeys = append(s.HostKeys, string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(k.PublicKey()))))
	}
	var lc net.ListenConfig
	l, err := lc.Listen(s.ctx, "tcp", opt.Addr)
	if err != nil {
		t.Fatal(err)
	}
	s.listen = l
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.Host = host
	if s.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	s.wg.Go(s.accept)
	t.Cleanup(s.Close)
	return s
}

// ShowKeys makes the server prove itself with these keys from the next
// connection on.
func (s *Server) ShowKeys(keys ...ssh.Signer) {
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			for _, k := range s.opt.Authorized {
				if bytes.Equal(k.Marshal(), key.Marshal()) {
					return &ssh.Permissions{}, nil
				}
			}
			return nil, errors.New("unknown key")
		},
		BannerCallback: func(ssh.ConnMetadata) string { return "Authorized use only.\n" },
	}
	for _, k := range keys {
		config.AddHostKey(k)
	}
	s.config.Store(config)
}

// Close ends the listener, all connections and their commands, and waits.
func (s *Server) Close() {
	s.cancel()
	_ = s.listen.Close()
	s.Cut()
	s.wg.Wait()
}

// Cut closes all connections; new ones are accepted.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// Hang makes the server deaf: connections stay open and are not served.
func (s *Server) Hang() { s.hung.Store(true) }

func (s *Server) accept() {
	for {
		conn, err := s.listen.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = struct{}{}
		s.mu.Unlock()
		s.wg.Go(func() {
			s.serve(&hangingConn{Conn: conn, hung: &s.hung})
			_ = conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
	}
}

// hangingConn drops what it reads while hung.
type hangingConn struct {
	net.Conn
	hung *atomic.Bool
}

func (c *hangingConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.hung.Load() {
			return n, err
		}
	}
}

func (s *Server) serve(conn net.Conn) {
	sshConn, channels, requests, err := ssh.NewServerConn(conn, s.config.Load())
	if err != nil {
		s.Failures.Add(1)
		return
	}
	s.Logins.Add(1)
	var wg sync.WaitGroup
	wg.Go(func() { ssh.DiscardRequests(requests) })
	for ch := range channels {
		switch ch.ChannelType() {
		case "session":
			wg.Go(func() { s.session(ch) })
		case "direct-tcpip":
			wg.Go(func() { s.forward(ch) })
		default:
			_ = ch.Reject(ssh.UnknownChannelType, "unknown")
		}
	}
	_ = sshConn.Close()
	wg.Wait()
}

func (s *Server) session(nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close() //nolint:errcheck // the client may have closed it
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	for req := range requests {
		var arg struct{ Value string }
		_ = ssh.Unmarshal(req.Payload, &arg)
		switch {
		case req.Type == "exec":
			_ = req.Reply(true, nil)
			wg.Go(func() { s.exec(ctx, ch, arg.Value) })
		case req.Type == "subsystem" && arg.Value == "sftp" && !s.opt.NoSFTP:
			_ = req.Reply(true, nil)
			wg.Go(func() { serveSFTP(ch) })
		default:
			_ = req.Reply(false, nil)
		}
	}
	cancel()
}

func serveSFTP(ch ssh.Channel) {
	defer ch.Close() //nolint:errcheck // the client may have closed it
	server, err := sftp.NewServer(ch)
	if err != nil {
		return
	}
	_ = server.Serve() // ends with the channel
}

func (s *Server) exec(ctx context.Context, ch ssh.Channel, command string) {
	defer ch.Close() //nolint:errcheck // the client may have closed it
	_, _ = io.WriteString(ch, s.opt.Noise)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Env = append(cmd.Environ(), s.opt.Env...)
	cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return
	}
	if err := cmd.Start(); err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(stdin, ch)
		_ = stdin.Close()
	})
	_ = cmd.Wait() // the status is asked for below
	status := struct{ Status uint32 }{uint32(cmd.ProcessState.ExitCode())}
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(status))
	_ = ch.Close()
	wg.Wait()
}

func (s *Server) forward(nc ssh.NewChannel) {
	if s.opt.NoForward {
		_ = nc.Reject(ssh.Prohibited, "administratively prohibited")
		return
	}
	var to struct {
		Host     string
		Port     uint32
		FromHost string
		FromPort uint32
	}
	if err := ssh.Unmarshal(nc.ExtraData(), &to); err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	dial := s.opt.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(s.ctx, "tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer conn.Close() //nolint:errcheck // either side may have closed it
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { ssh.DiscardRequests(requests) })
	wg.Go(func() {
		_, _ = io.Copy(conn, ch)
		_ = conn.Close()
	})
	_, _ = io.Copy(ch, conn)
	_ = ch.Close()
	wg.Wait()
}
