package sshd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExec(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.expect("", "hello\n", "", 0, "job", "echo hello")
	s.expect("", "out\n", "err\n", 3, "job", "echo out; echo err >&2; exit 3")
	s.expect("some input", "some input", "", 0, "job", "cat")
	s.expect("", s.home+"\n", "", 0, "job", "pwd")
	s.expect("", "from job "+s.home+" root root /bin/sh\n", "", 0, "job", "echo $JOB_VARIABLE $HOME $USER $LOGNAME $SHELL")
	s.expect("", "", "", 255, "job", "kill -9 $$") // as ssh reports any signal
	out, _, code := s.ssh("", "job", "echo $SSH_CLIENT / $SSH_CONNECTION; test -z \"$SSH_TTY$TERM\"")
	if code != 0 || !strings.HasSuffix(strings.TrimSpace(out), "127.0.0.1 "+s.port) {
		t.Errorf("connection: %q, %d", out, code)
	}
}

func TestShell(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.expect("echo $0; exit 4\n", "-sh\n", "", 4, "-T", "job")
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	s := serve(t)
	out, _, code := s.ssh("", "-tt", "job", "tty; echo $SSH_TTY $TERM; stty -a; exit 5")
	lines := strings.Split(out, "\r\n")
	if code != 5 || len(lines) < 3 || !strings.HasPrefix(lines[0], "/dev/pts/") || !strings.HasPrefix(lines[1], lines[0]+" ") {
		t.Errorf("%q, %d", out, code)
	}
}

// TestTerminalLeftOpen: a login with a terminal is over with its shell, though a
// job in the background still has the terminal, and its output is complete.
func TestTerminalLeftOpen(t *testing.T) {
	t.Parallel()
	s := serve(t)
	stop := filepath.Join(s.home, "stop")
	t.Cleanup(func() { _ = os.WriteFile(stop, nil, 0o600) })
	const script = `(until [ -e stop ]; do sleep 0.1; done) & head -c 300000 /dev/zero | tr '\0' q; exit 3`
	for range 5 {
		out, _, code := s.ssh("", "-tt", "job", `bash --norc -ic "`+script+`"`)
		if n := strings.Count(out, "q"); n != 300_000 || code != 3 {
			t.Errorf("%d bytes, %d", n, code)
		}
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.expect("", "de_DE C truecolor 1\n", "", 0, "-o", "SetEnv=LANG=de_DE LC_ALL=C COLORTERM=truecolor NO_COLOR=1 LD_PRELOAD=/x.so",
		"job", "echo $LANG $LC_ALL $COLORTERM $NO_COLOR $LD_PRELOAD")
}

// TestWithoutShell runs programs directly in an image that has no shell.
func TestWithoutShell(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(c *config) { c.Shell = "/no/shell" })
	s.expect("", "a b\n", "", 0, "job", "echo 'a b'") // there is /bin/sh
}

func TestSFTP(t *testing.T) {
	t.Parallel()
	s := serve(t)
	text := strings.Repeat("0123456789", 100_000)
	from := s.file("from", text)
	if out, errs, code := s.result(s.command("scp", from, "job:to"), ""); code != 0 {
		t.Fatalf("scp: %q %q %d", out, errs, code)
	}
	if got, err := os.ReadFile(filepath.Join(s.home, "to")); err != nil || string(got) != text {
		t.Errorf("%d bytes arrived, %v", len(got), err)
	}
	if out, errs, code := s.result(s.command("sftp", "-b", "-", "job"), "pwd\nget to back\n"); code != 0 {
		t.Fatalf("sftp: %q %q %d", out, errs, code)
	}
	if got, err := os.ReadFile(filepath.Join(s.dir, "back")); err != nil || string(got) != text {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
}
