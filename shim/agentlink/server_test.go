package agentlink

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/protocol/jobapi"
)

// TestServerOfAHostileAgent takes a connection, and nothing that is none.
func TestServerOfAHostileAgent(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		says string
		ok   bool
	}{
		"a connection":    {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\nGET / HTTP/1.1\r\n", true},
		"gone":            {"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", false},
		"garbage":         {"nonsense\r\n\r\n", false},
		"a head for ever": {"HTTP/1.1 101 X\r\nA: " + strings.Repeat("a", 2*maxHead), false},
		"nothing":         {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := shortDir(t)
			l, err := net.Listen("unix", filepath.Join(dir, jobapi.Socket))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
					return
				}
				_, _ = io.WriteString(conn, tt.says)
			}()
			folder, err := OpenFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer folder.Close()
			conn, err := folder.Server(t.Context())
			if (err == nil) != tt.ok {
				t.Fatal(err)
			}
			if err == nil {
				if line, err := bufio.NewReader(conn).ReadString('\n'); line != "GET / HTTP/1.1\r\n" {
					t.Errorf("%q, %v", line, err)
				}
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestServerStopsWaiting ends with its context.
func TestServerStopsWaiting(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	l, err := net.Listen("unix", filepath.Join(dir, jobapi.Socket))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	folder, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if conn, err := folder.Server(ctx); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%v, %v", conn, err)
	}
}

// shortDir is a folder whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "link")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
