package sshd_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func newSession(t *testing.T, client *ssh.Client) *ssh.Session {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func TestExitSignal(t *testing.T) {
	t.Parallel()
	client := serve(t).connected("root")
	for command, want := range map[string]string{"kill -TERM $$": "TERM", "kill -16 $$": "STKFLT@openssh.com", "kill -KILL $$": "KILL"} {
		var exit *ssh.ExitError
		if err := newSession(t, client).Run(command); !errors.As(err, &exit) || exit.Signal() != want {
			t.Errorf("%s: %v", command, err)
		}
	}
}

// reader reads lines of a session's output as they come.
type reader struct {
	t   *testing.T
	out io.Reader
	got strings.Builder
}

// until reads until text has come.
func (r *reader) until(text string) {
	r.t.Helper()
	buf := make([]byte, 4096)
	for !strings.Contains(r.got.String(), text) {
		n, err := r.out.Read(buf)
		r.got.Write(buf[:n])
		if err != nil {
			r.t.Fatalf("%q instead of %q: %v", r.got.String(), text, err)
		}
	}
}

func output(t *testing.T, session *ssh.Session) *reader {
	t.Helper()
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return &reader{t: t, out: out}
}

func TestSignal(t *testing.T) {
	t.Parallel()
	session := newSession(t, serve(t).connected("root"))
	out := output(t, session)
	if err := session.Start("trap 'echo caught; exit 7' USR1; echo ready; while :; do sleep 0.02; done"); err != nil {
		t.Fatal(err)
	}
	out.until("ready")
	if err := session.Signal(ssh.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	out.until("caught")
	var exit *ssh.ExitError
	if err := session.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("%v", err)
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
	session := newSession(t, serve(t).connected("root"))
	if err := session.RequestPty("vt220", 24, 80, ssh.TerminalModes{ssh.ECHO: 0, ssh.VINTR: 24, ssh.IUTF8: 1}); err != nil {
		t.Fatal(err)
	}
	out := output(t, session)
	if err := session.Start("trap 'stty size; exit' WINCH; echo $TERM; stty size; stty -a; echo ready; while :; do sleep 0.02; done"); err != nil {
		t.Fatal(err)
	}
	out.until("ready")
	for _, want := range []string{"vt220\r\n", "24 80\r\n", "intr = ^X", " -echo ", " iutf8"} {
		if !strings.Contains(out.got.String(), want) {
			t.Errorf("%q is missing in %q", want, out.got.String())
		}
	}
	if err := session.WindowChange(50, 132); err != nil {
		t.Fatal(err)
	}
	out.until("50 132\r\n")
}

// TestClientGone: a program on a terminal gets HUP, another one goes on.
func TestClientGone(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, terminal := range []bool{true, false} {
		client := s.connected("root")
		session := newSession(t, client)
		if terminal {
			if err := session.RequestPty("xterm", 24, 80, nil); err != nil {
				t.Fatal(err)
			}
		}
		out := output(t, session)
		name, went := fmt.Sprintf("end-%t", terminal), fmt.Sprintf("went-%t", terminal)
		script := fmt.Sprintf("trap 'echo hup >%s; exit' HUP; echo ready; while [ ! -e %s ]; do sleep 0.02; done; echo on >%s", name, went, name)
		if err := session.Start(script); err != nil {
			t.Fatal(err)
		}
		out.until("ready")
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		want := "hup\n"
		if !terminal {
			want = "on\n"
			if err := os.WriteFile(filepath.Join(s.home, went), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := awaitFile(t, filepath.Join(s.home, name)); got != want {
			t.Errorf("terminal %t: %q", terminal, got)
		}
	}
}

// awaitFile returns what is in a file once something is.
func awaitFile(t *testing.T, path string) string {
	t.Helper()
	for end := time.Now().Add(limit); ; {
		if data, err := os.ReadFile(path); err == nil && len(data) > 0 {
			return string(data)
		}
		if time.Now().After(end) {
			t.Fatalf("no %s", path)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestOddRequests: what makes no sense is refused, and the connection lives on.
func TestOddRequests(t *testing.T) {
	t.Parallel()
	client := serve(t).connected("root")
	for _, kind := range []string{"tcpip-forward", "cancel-tcpip-forward", "streamlocal-forward@openssh.com", "keepalive@openssh.com", "x"} {
		for _, payload := range [][]byte{nil, []byte("\xff\xff\xff\xff")} {
			if ok, _, err := client.SendRequest(kind, true, payload); ok || err != nil {
				t.Errorf("%s: %t, %v", kind, ok, err)
			}
		}
	}
	for _, kind := range []string{"direct-tcpip", "direct-streamlocal@openssh.com", "x11", "x"} {
		if _, _, err := client.OpenChannel(kind, []byte{0}); err == nil {
			t.Errorf("%s: opened", kind)
		}
	}
	session := newSession(t, client)
	for _, kind := range []string{"pty-req", "env", "exec", "subsystem", "signal", "window-change", "x11-req", "x"} {
		if ok, err := session.SendRequest(kind, true, []byte{0, 0}); ok || err != nil {
			t.Errorf("%s: %t, %v", kind, ok, err)
		}
	}
	if out, err := session.Output("echo fine"); err != nil || string(out) != "fine\n" {
		t.Errorf("%q, %v", out, err)
	}
	if ok, err := session.SendRequest("shell", true, nil); ok || err == nil && ok {
		t.Errorf("second program: %t, %v", ok, err)
	}
}

// TestManyConnections keeps 200 clients logged in at once.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const n = 200
	clients := make([]*ssh.Client, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			client, err := s.connect("root", ssh.PublicKeys(s.key))
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			clients[i] = client
		})
	}
	wg.Wait()
	for i, client := range clients {
		if client == nil {
			continue
		}
		wg.Go(func() {
			session, err := client.NewSession()
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			if out, err := session.Output(fmt.Sprintf("echo %d", i)); err != nil || string(out) != fmt.Sprintf("%d\n", i) {
				t.Errorf("client %d: %q, %v", i, out, err)
			}
		})
	}
	wg.Wait()
}
