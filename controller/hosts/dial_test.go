package hosts

import (
	"errors"
	"io"
	"net"
	"testing"

	"dstack/sshlink/sshtest"
)

// echoPort sends everything back, on 127.0.0.1, until the test ends.
func echoPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func echoed(t *testing.T, p *Pool, port int) net.Conn {
	t.Helper()
	conn, err := p.Dial(t.Context(), "i", port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	got := make([]byte, 5)
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Fatalf("came back: %q, %v", got, err)
	}
	return conn
}

// A port of a host is reached through the connection that there is.
func TestDial(t *testing.T) {
	m, r := newMachine(t, sshtest.Options{}), newRecorder()
	p := m.pool(t, r, testPayload(t, "agent"))
	port := echoPort(t)
	if _, err := p.Dial(t.Context(), "i", port); !errors.Is(err, ErrDown) {
		t.Errorf("on an unknown host: %v", err)
	}
	p.Ensure(m.target)
	r.await(t, "the host is up", func() bool { return len(r.ups) == 1 })
	logins := m.Logins.Load()
	conn := echoed(t, p, port)
	echoed(t, p, port)
	if m.Logins.Load() != logins {
		t.Error("it made connections of its own")
	}
	if _, err := p.Dial(t.Context(), "i", 1); err == nil {
		t.Error("reached a port where nobody listens")
	}
	m.Cut()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("it outlives the connection to the host")
	}
}

// This machine has no SSH in between.
func TestDialHere(t *testing.T) {
	shim, r := newFakeShim(), newRecorder()
	p := startPool(t, r, withPipes(servePipes(t, shim)))
	p.Ensure(target())
	r.await(t, "the host is up", func() bool { return len(r.ups) == 1 })
	echoed(t, p, echoPort(t))
}
