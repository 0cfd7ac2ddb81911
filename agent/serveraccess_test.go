package agent_test

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/protocol/jobapi"
)

// visitor is a job that asks its server.
func visitor(t *testing.T) jobapi.Spec {
	t.Helper()
	spec := script(t, `echo "at $DSTACK_SERVER_URL"; path=$(echo "${DSTACK_SERVER_URL#http+unix://}" | sed s,%2F,/,g); curl -s --unix-socket "$path" http://localhost/healthcheck`)
	spec.Env = map[string]string{jobapi.ServerURL: jobapi.DefaultServerURL}
	spec.ServerAccess = true
	return spec
}

// answer is the server: it takes one connection of the job and answers one
// request on it.
func (r *run) answer(text string) {
	r.t.Helper()
	conn, err := r.dial(r.t.Context(), "", "")
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /v1/server HTTP/1.1\r\nHost: agent\r\nContent-Length: 0\r\n\r\n"); err != nil {
		r.t.Fatal(err)
	}
	buf := bufio.NewReader(conn)
	resp, err := http.ReadResponse(buf, nil) //nolint:bodyclose // it has none
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != jobapi.ServerUpgrade {
		r.t.Fatalf("%+v, %v", resp, err)
	}
	req, err := http.ReadRequest(buf)
	if err != nil || req.URL.Path != "/healthcheck" {
		r.t.Fatalf("%+v, %v", req, err)
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"+text); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, buf); err != nil {
		r.t.Error(err)
	}
}

func TestJobReachesItsServer(t *testing.T) {
	t.Parallel()
	for name, isolated := range map[string]bool{"in a container": true, "as a process": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config(t)
			var err error
			if c.Root, err = os.MkdirTemp("", "root"); err != nil {
				t.Fatal(err)
			}
			if c.Dir, err = os.MkdirTemp("", "task"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _, _ = os.RemoveAll(c.Root), os.RemoveAll(c.Dir) })
			spec := visitor(t)
			spec.Isolated = isolated
			socket := filepath.Join(c.Dir, "server.sock")
			if isolated {
				socket = filepath.Join(c.Root, jobapi.ServerSocket)
			}
			r := start(t, c, spec)
			r.events(func(e jobapi.Event) bool { return e.Status != nil })
			info, err := os.Stat(socket)
			if err != nil || info.Mode() != os.ModeSocket|0o666 {
				t.Errorf("socket: %v, %v", info, err)
			}
			if log := r.file(jobapi.PlainLog); log != "" {
				t.Errorf("the job started before its server was there: %q", log)
			}
			r.answer("ok")
			check(t, r.end(), jobapi.Status{State: jobapi.Done, Reason: "done_by_runner", ExitStatus: exitOf(0)})
			want := "at http+unix://" + strings.ReplaceAll(socket, "/", "%2F") + "\nok"
			if got := strings.ReplaceAll(r.file(jobapi.PlainLog), "\r", ""); got != want {
				t.Errorf("log %q, want %q", got, want)
			}
		})
	}
}

// TestNoServer is appendix 72: the job does not start, and the reason is
// 0.22.5's.
func TestNoServer(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.ServerLimit = 50 * time.Millisecond
	dir, err := os.MkdirTemp("", "task")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c.Dir = dir
	check(t, start(t, c, visitor(t)).end(), jobapi.Status{
		State: jobapi.Terminated, Reason: "terminated_by_server", Message: "Could not establish dstack server access",
	})

	c = config(t)
	spec := visitor(t)
	spec.Isolated = true
	if err := os.WriteFile(filepath.Join(c.Root, "run"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	status := start(t, c, spec).end()
	if !strings.HasPrefix(status.Message, "Could not establish dstack server access (make folder of socket: ") {
		t.Errorf("%+v", status)
	}
}

// TestStopWhileServerIsAwaited ends a job that waits for its server.
func TestStopWhileServerIsAwaited(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.ServerLimit = time.Hour
	dir, err := os.MkdirTemp("", "task")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c.Dir = dir
	r := start(t, c, visitor(t))
	r.events(func(e jobapi.Event) bool { return e.Status != nil })
	r.stop(jobapi.StopRequest{Reason: "terminated_by_user"})
	check(t, r.end(), jobapi.Status{State: jobapi.Terminated, Reason: "terminated_by_user"})
}
