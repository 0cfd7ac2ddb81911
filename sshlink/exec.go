package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxOutput bounds what is kept of a command's stdout and of its stderr.
const maxOutput = 1 << 20

// Result is what a command left behind. Of long outputs the end is kept.
type Result struct {
	Stdout []byte
	Stderr []byte
	// Status is the exit status; 128+n stands for a signal.
	Status int
}

// Run executes a command line in the login shell of the host and waits for
// it. A failing command is no error: see Status. When ctx ends, the channel
// is closed; the command itself may go on.
func (c *Client) Run(ctx context.Context, command string, stdin io.Reader) (Result, error) {
	session, err := c.NewSession()
	if err != nil {
		return Result{}, fmt.Errorf("open session: %w", err)
	}
	defer session.Close() //nolint:errcheck // it is closed already when the command ended
	defer context.AfterFunc(ctx, func() { _ = session.Close() })()

	stdout, stderr := &tail{max: maxOutput}, &tail{max: maxOutput}
	session.Stdin, session.Stdout, session.Stderr = stdin, stdout, stderr
	err = session.Run(command)
	res := Result{Stdout: stdout.bytes(), Stderr: stderr.bytes()}
	var exit *ssh.ExitError
	switch {
	case errors.As(err, &exit):
		res.Status = exit.ExitStatus()
	case ctx.Err() != nil:
		return res, fmt.Errorf("run command: %w", context.Cause(ctx))
	case err != nil:
		return res, fmt.Errorf("run command: %w", err)
	}
	return res, nil
}

// Stream is a running command as a connection: its stdin and stdout.
type Stream struct {
	session *ssh.Session
	in      io.WriteCloser
	out     io.Reader
	stderr  *tail
}

var _ net.Conn = (*Stream)(nil)

// Stream starts a command line and returns its stdin and stdout as a
// connection, which ends with Close, with the command or with the client.
func (c *Client) Stream(command string) (*Stream, error) {
	session, err := c.NewSession()
	if err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	s := &Stream{session: session, stderr: &tail{max: 4 << 10}}
	session.Stderr = s.stderr
	if s.in, err = session.StdinPipe(); err == nil {
		s.out, err = session.StdoutPipe()
	}
	if err == nil {
		err = session.Start(command)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start command: %w", err), session.Close())
	}
	return s, nil
}

func (s *Stream) Read(p []byte) (int, error)  { return s.out.Read(p) }
func (s *Stream) Write(p []byte) (int, error) { return s.in.Write(p) }

// Close ends the channel; it does not wait for the command.
func (s *Stream) Close() error {
	if err := s.session.Close(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("close channel: %w", err)
	}
	return nil
}

// Stderr is the end of what the command wrote there so far.
func (s *Stream) Stderr() string { return string(s.stderr.bytes()) }

// LocalAddr is a placeholder, as a channel has no addresses.
func (s *Stream) LocalAddr() net.Addr { return streamAddr{} }

// RemoteAddr is a placeholder.
func (s *Stream) RemoteAddr() net.Addr { return streamAddr{} }

// SetDeadline does nothing.
func (s *Stream) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (s *Stream) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (s *Stream) SetWriteDeadline(time.Time) error { return nil }

type streamAddr struct{}

func (streamAddr) Network() string { return "ssh" }
func (streamAddr) String() string  { return "exec" }

// tail keeps the last max bytes written to it.
type tail struct {
	max int
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.max; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]byte(nil), t.buf...)
}
