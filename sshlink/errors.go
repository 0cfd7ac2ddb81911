package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// Kind tells failures to connect apart, as far as a caller acts on them.
type Kind string

// Kinds of failure.
const (
	// Unreachable: no route, no such name, or the connection broke.
	Unreachable Kind = "unreachable"
	// Refused: the host is there and nothing listens on the port (yet).
	Refused Kind = "refused"
	// Timeout: no answer in time.
	Timeout Kind = "timeout"
	// AuthFailed: the host took none of the keys for this user. Do not try
	// again at once: OpenSSH punishes the source address.
	AuthFailed Kind = "auth_failed"
	// HostKeyChanged: the host is not the one whose key was pinned; the
	// error wraps a *HostKeyError.
	HostKeyChanged Kind = "host_key_changed"
	// BadKey: a private or pinned key cannot be read.
	BadKey Kind = "bad_key"
	// Forbidden: the jump host does not allow forwarding.
	Forbidden Kind = "forbidden"
)

// Error is a connection that could not be made.
type Error struct {
	Kind Kind
	// Host is "host:port" of the machine that failed: the target or the jump
	// host. User is the login there.
	Host string
	User string
	// Jump says that Host is the jump host.
	Jump bool
	Err  error
}

func (e *Error) Error() string {
	what := "connect to " + e.Host
	if e.Jump {
		what = "connect to jump host " + e.Host
	}
	switch e.Kind {
	case AuthFailed:
		return fmt.Sprintf("%s: user %s: the host accepted none of the keys", what, e.User)
	case Refused:
		return what + ": connection refused"
	case Timeout:
		return what + ": no answer in time"
	case Forbidden:
		return what + ": the jump host forbids forwarding"
	case Unreachable, HostKeyChanged, BadKey:
	}
	return fmt.Sprintf("%s: %v", what, e.Err)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// HostKeyError says that a host presents another key than the pinned one.
type HostKeyError struct {
	// Host is "host:port"; the fingerprints are as `ssh-keygen -l` shows them.
	Host     string
	Expected []string
	Got      string
}

func (e *HostKeyError) Error() string {
	return fmt.Sprintf("the host key of %s changed: expected %s, got %s. "+
		"If the host was reinstalled, forget its old key and connect again; "+
		"if not, somebody may be intercepting the connection",
		e.Host, joinOr(e.Expected), e.Got)
}

func joinOr(list []string) string {
	out := ""
	for i, s := range list {
		if i > 0 {
			out += " or "
		}
		out += s
	}
	return out
}

// ErrDead is the cause of an ended connection whose peer did not answer keep-alives.
var ErrDead = errors.New("the host stopped answering")

// ErrClosed is the cause of a connection that was closed on this side.
var ErrClosed = errors.New("connection closed")

// dialKind classifies a failure before or during the handshake.
func dialKind(ctx context.Context, err error) Kind {
	var open *ssh.OpenChannelError
	var netErr net.Error
	switch {
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.As(err, &open) && open.Reason == ssh.Prohibited:
		return Forbidden
	case errors.As(err, &netErr) && netErr.Timeout():
		return Timeout
	}
	return Unreachable
}

// broken tells a connection that broke from an answer of the peer.
func broken(err error) bool {
	var netErr net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.As(err, &netErr)
}
