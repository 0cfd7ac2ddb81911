package serversock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"dstack/agent/serversock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a socket with what takes its connections.
type rig struct {
	t    *testing.T
	path string
	at   string // where connections are asked for
	stop func()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock") // a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{t: t, path: filepath.Join(dir, "run", "server.sock")}
	if _, err := serversock.Listen(r.path); err != nil { // left by an agent that was killed
		t.Fatal(err)
	}
	s, err := serversock.Listen(r.path)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	r.at = server.Listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		r.stop()
		server.Close()
	})
	return r
}

// take asks for the next connection; the status is 0 if there was no answer.
func (r *rig) take() (net.Conn, *bufio.Reader, int) {
	conn, err := net.Dial("tcp", r.at)
	if err != nil {
		r.t.Error(err)
		return nil, nil, 0
	}
	buf := bufio.NewReader(conn)
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return conn, buf, 0
	}
	resp, err := http.ReadResponse(buf, nil) //nolint:bodyclose // it has none
	if err != nil {
		return conn, buf, 0
	}
	return conn, buf, resp.StatusCode
}

func (r *rig) job() net.Conn {
	r.t.Helper()
	conn, err := net.Dial("unix", r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// TestManyConnections carries many at once, each to who asked for it.
func TestManyConnections(t *testing.T) {
	r := newRig(t)
	var peers sync.WaitGroup
	for range 20 {
		peers.Go(func() {
			conn, buf, status := r.take()
			defer conn.Close()
			line, err := buf.ReadString('\n')
			if status != http.StatusSwitchingProtocols || err != nil {
				t.Errorf("%d, %v", status, err)
				return
			}
			if _, err := io.WriteString(conn, "you said "+line); err != nil {
				t.Error(err)
			}
		})
	}
	var jobs sync.WaitGroup
	for n := range 20 {
		jobs.Go(func() {
			conn := r.job()
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, "%d\n", n); err != nil {
				t.Error(err)
			}
			got, err := io.ReadAll(conn)
			if want := fmt.Sprintf("you said %d\n", n); err != nil || string(got) != want {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		})
	}
	jobs.Wait()
	peers.Wait()
}

// TestEnd cuts what is carried and what waits when the job has ended.
func TestEnd(t *testing.T) {
	r := newRig(t)
	job := r.job()
	defer job.Close()
	carried, buf, _ := r.take()
	defer carried.Close()
	r.stop()
	late, _, status := r.take()
	defer late.Close()
	if status != http.StatusGone {
		t.Errorf("who asks later is answered %d", status)
	}
	if _, err := buf.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the server's side: %v", err)
	}
	if n, err := job.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("the job's side: %d, %v", n, err)
	}
	if _, err := net.Dial("unix", r.path); err == nil {
		t.Error("the socket is still open")
	}
}

// TestLongPath: no client could connect to such a socket.
func TestLongPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 100), "server.sock")
	if _, err := serversock.Listen(path); err == nil || !strings.Contains(err.Error(), "a shorter folder") {
		t.Errorf("%v", err)
	}
}
