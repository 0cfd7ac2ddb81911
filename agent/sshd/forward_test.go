package sshd_test

import (
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// echo is a TCP server on loopback that sends back what it gets, up to its end.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	echoOn(t, l)
	return l.Addr().String()
}

func echoOn(t *testing.T, l net.Listener) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
}

// ask sends text, ends its direction, and returns the answer.
func ask(t *testing.T, network, address, text string) string {
	t.Helper()
	conn := dial(t, network, address)
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Error(err)
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			t.Error(err)
		}
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	return string(answer)
}

// dial connects as soon as somebody listens.
func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	for end := time.Now().Add(limit); ; {
		conn, err := net.Dial(network, address)
		if err == nil {
			return conn
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// background runs ssh until the test ends.
func (s *server) background(args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := s.command("ssh", args...)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestLocalForward(t *testing.T) {
	t.Parallel()
	s := serve(t)
	port := freePort(t)
	s.background("-N", "-L", port+":"+echo(t), "job")
	text := strings.Repeat("x", 300_000)
	if got := ask(t, "tcp", "127.0.0.1:"+port, text); got != text {
		t.Errorf("%d bytes came back", len(got))
	}
}

// TestOwnPort reaches what the server itself serves, under all names of localhost.
func TestOwnPort(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]", "LOCALHOST"} {
		s.expect("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlogs", "", 0,
			"-W", host+":"+strconv.Itoa(ownPort), "job")
	}
}

func TestRemoteForward(t *testing.T) {
	t.Parallel()
	s := serve(t)
	port := freePort(t)
	s.background("-N", "-R", port+":"+echo(t), "job")
	if got := ask(t, "tcp", "127.0.0.1:"+port, "hello"); got != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestDynamicForward(t *testing.T) {
	t.Parallel()
	s := serve(t)
	port := freePort(t)
	web := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "web") })}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = web.Serve(l) }()
	t.Cleanup(func() { _ = web.Close() })
	s.background("-N", "-D", port, "job")
	_ = dial(t, "tcp", "127.0.0.1:"+port).Close()
	out, err := exec.Command("curl", "-s", "--socks5-hostname", "127.0.0.1:"+port, "http://"+l.Addr().String()).Output()
	if err != nil || string(out) != "web" {
		t.Errorf("%q, %v", out, err)
	}
}
