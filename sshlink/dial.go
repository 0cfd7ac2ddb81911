package sshlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
)

// Endpoint is one SSH server and how to log in there.
type Endpoint struct {
	Host string
	Port int // 0 means 22
	User string
	// Keys are private keys in PEM (RSA, ECDSA, Ed25519), tried in order.
	Keys []string
	// Signers are keys that others hold, as an ssh-agent does; tried after Keys.
	Signers []ssh.Signer
	// HostKeys are the pinned keys, as in authorized_keys. Without any, the
	// first key is trusted: the caller keeps what [Client.HostKey] returns.
	HostKeys []string
}

func (e Endpoint) addr() string {
	port := e.Port
	if port == 0 {
		port = 22
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(port))
}

// Config says what to dial. Zero times mean the defaults.
type Config struct {
	Endpoint
	// Jump, if set, is gone through (direct-tcpip).
	Jump *Endpoint
	// Via, if set, opens the stream to the first server in place of TCP: a
	// channel of another client, or a relay. A failure that is an *[Error]
	// already is passed on as it is.
	Via Dialer
	// Timeout bounds all of dialling, handshakes included; default 10 s.
	Timeout time.Duration
	// KeepAlive is after how much silence the peer is asked for a sign of
	// life, and DeadAfter after how much silence it is given up; defaults 3 s
	// and 9 s.
	KeepAlive time.Duration
	DeadAfter time.Duration
}

// Dialer opens a stream, as [net.Dialer.DialContext] does.
type Dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// Dial connects and logs in. ctx bounds dialling only; the connection lives
// until Close. Failures are of type *[Error].
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	timeout := cfg.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	first := cfg.Via
	if first == nil {
		first = dialTCP
	}
	if cfg.Jump == nil {
		l, err := login(ctx, cfg.Endpoint, false, first)
		if err != nil {
			return nil, err
		}
		return newClient(cfg, l, nil), nil
	}
	jump, err := login(ctx, *cfg.Jump, true, first)
	if err != nil {
		return nil, err
	}
	l, err := login(ctx, cfg.Endpoint, false, jump.client.DialContext)
	if err != nil {
		return nil, errors.Join(err, jump.close())
	}
	return newClient(cfg, l, jump), nil
}

func dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return conn, nil
}

// hop is one logged-in machine.
type hop struct {
	client *ssh.Client
	conn   *meteredConn
	key    ssh.PublicKey
}

func (h *hop) close() error {
	if err := h.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close connection: %w", err)
	}
	return nil
}

// login dials one endpoint through dial, and authenticates.
func login(ctx context.Context, e Endpoint, jump bool, dial Dialer) (*hop, error) {
	fail := func(kind Kind, err error) (*hop, error) {
		return nil, &Error{Kind: kind, Host: e.addr(), User: e.User, Jump: jump, Err: err}
	}
	signers, err := parseKeys(e.Keys)
	if err != nil {
		return fail(BadKey, err)
	}
	signers = append(signers, e.Signers...)
	pinned, err := parsePins(e.addr(), e.HostKeys)
	if err != nil {
		return fail(BadKey, err)
	}
	raw, err := dial(ctx, "tcp", e.addr())
	if known, ok := errors.AsType[*Error](err); ok {
		return nil, known
	}
	if err != nil {
		return fail(dialKind(ctx, err), err)
	}
	conn := meter(raw)
	// A channel of a jump host knows no deadlines: closing it is what ends a
	// handshake that takes too long.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	sshConn, chans, reqs, err := ssh.NewClientConn(conn, e.addr(), &ssh.ClientConfig{
		User:              e.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyCallback:   pinned.check,
		HostKeyAlgorithms: pinned.algorithms(),
		ClientVersion:     "SSH-2.0-dstack",
	})
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close() // it is unusable, and err says why
	}
	switch {
	case err == nil:
		return &hop{client: ssh.NewClient(sshConn, chans, reqs), conn: conn, key: pinned.seen}, nil
	case pinned.err != nil:
		return fail(HostKeyChanged, pinned.err)
	case ctx.Err() != nil, pinned.seen == nil, broken(err):
		return fail(dialKind(ctx, err), err)
	}
	return fail(AuthFailed, err)
}

func parseKeys(pems []string) ([]ssh.Signer, error) {
	signers := make([]ssh.Signer, 0, len(pems))
	for i, text := range pems {
		signer, err := ssh.ParsePrivateKey([]byte(text))
		var locked *ssh.PassphraseMissingError
		if errors.As(err, &locked) {
			return nil, fmt.Errorf("private key %d is protected by a passphrase: use one without", i+1)
		}
		if err != nil {
			return nil, fmt.Errorf("private key %d: %w", i+1, err)
		}
		signers = append(signers, signer)
	}
	return signers, nil
}
