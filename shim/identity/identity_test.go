package identity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, name, args...).CombinedOutput()
}

// server is Debian's OpenSSH server on a port of its own.
type server struct {
	key    *Key
	config string
	addr   string
	pid    int
	// crash says that the shim dies when the key is installed.
	crash   bool
	reloads int
}

func startServer(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{config: filepath.Join(dir, "sshd_config")}
	s.key = &Key{Path: filepath.Join(dir, "host_key"), Next: filepath.Join(dir, "next"), Server: s}
	s.key.Run = func(ctx context.Context, name string, args ...string) ([]byte, error) {
		if name == "sshd" {
			name, args = "/usr/sbin/sshd", append(args, "-f", s.config)
		}
		return run(ctx, name, args...)
	}
	if out, err := run(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "first", "-f", s.key.Path); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	_ = l.Close()
	text := fmt.Sprintf("ListenAddress %s\nHostKey %s\nPidFile none\nUsePAM no\n", s.addr, s.key.Path)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", s.config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return s
}

func (s *server) Shows(ctx context.Context) (string, error) {
	if s.crash {
		return "", errCrash
	}
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return "", err
	}
	return (&OpenSSH{Run: run, Address: host, Port: port}).Shows(ctx)
}

func (s *server) Reload(context.Context) error {
	s.reloads++
	if s.crash {
		return errCrash
	}
	return syscall.Kill(s.pid, syscall.SIGHUP)
}

func (s *server) Restart(context.Context) error { return errCrash }

var errCrash = errors.New("crash")

// shows is the host key with which the server proves itself.
func (s *server) shows() string {
	var seen string
	_, err := ssh.Dial("tcp", s.addr, &ssh.ClientConfig{User: "nobody", Timeout: 5 * time.Second,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			seen = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
			return errors.New("seen")
		}})
	if err == nil {
		return "logged in"
	}
	return seen
}

func (s *server) await(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if s.shows() == want {
			return
		}
	}
	t.Fatalf("the server shows %q, want %q", s.shows(), want)
}

func (s *server) first(t *testing.T) string {
	t.Helper()
	first, err := s.key.public(t.Context(), s.key.Path)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

func TestKeyIsReplaced(t *testing.T) {
	s := startServer(t)
	first := s.first(t)
	s.await(t, first)
	next, err := s.key.Make(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.key.Make(t.Context()); err != nil || again != next || next == first {
		t.Fatalf("made again: %q, want %q, %v; first %q", again, next, err, first)
	}
	if got := s.shows(); got != first {
		t.Fatalf("the server shows %q before the new key is used", got)
	}
	for range 2 { // it may be repeated
		if err := s.key.Use(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		s.await(t, next)
	}
	for path, mode := range map[string]os.FileMode{s.key.Path: 0o600, s.key.Next: 0o600, s.key.Path + ".pub": 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want mode %v", path, info.Mode(), err, mode)
		}
	}
	if public, err := os.ReadFile(s.key.Path + ".pub"); err != nil || strings.TrimSpace(string(public)) != next {
		t.Errorf("public file %q, %v", public, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.key.Next), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A crash after the key was installed and before the server read it.
func TestUseGoesOnAfterACrash(t *testing.T) {
	s := startServer(t)
	first := s.first(t)
	s.await(t, first)
	next, err := s.key.Make(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.crash = true
	if err := s.key.Use(t.Context(), next); !errors.Is(err, errCrash) {
		t.Fatalf("err = %v", err)
	}
	// Some versions of OpenSSH read the file at each connection, others keep
	// what they had: it is one of the two in any case.
	if got := s.shows(); got != first && got != next {
		t.Fatalf("the server shows %q", got)
	}
	s.crash = false
	if again, err := s.key.Make(t.Context()); err != nil || again != next {
		t.Fatalf("made again: %q, %v", again, err)
	}
	if err := s.key.Use(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	s.await(t, next)
}

func TestUseRefuses(t *testing.T) {
	s := startServer(t)
	first := s.first(t)
	s.await(t, first)
	if err := s.key.Use(t.Context(), first); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("nothing was made: %v", err)
	}
	next, err := s.key.Make(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.key.Use(t.Context(), first); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("another key: %v", err)
	}
	// A configuration that the server would not start with keeps the old key.
	good, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.config, append(good, "NoSuchOption yes\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.key.Use(t.Context(), next); err == nil {
		t.Error("used with a broken configuration")
	}
	if got := s.first(t); got != first {
		t.Errorf("installed is %q, want the old %q", got, first)
	}
	if got := s.shows(); got != first {
		t.Errorf("the server shows %q", got)
	}
}

// fakeServer shows a key only after some steps.
type fakeServer struct {
	key   string
	needs int // steps
	steps []string
}

func (f *fakeServer) Shows(context.Context) (string, error) {
	if len(f.steps) < f.needs {
		return "ssh-ed25519 old", nil
	}
	return f.key, nil
}

func (f *fakeServer) Reload(context.Context) error {
	f.steps = append(f.steps, "reload")
	return nil
}

func (f *fakeServer) Restart(context.Context) error {
	f.steps = append(f.steps, "restart")
	return nil
}

// A server that shows the key is left alone.
func TestServerIsDisturbedAsLittleAsPossible(t *testing.T) {
	for needs, want := range []string{"", "reload", "reload restart", "reload restart"} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeServer{key: "ssh-ed25519 new", needs: needs}
			err := (&Key{Server: f}).shown(t.Context(), f.key)
			if got := strings.Join(f.steps, " "); got != want || (err != nil) != (needs > 2) {
				t.Errorf("needs %d: %q, %v", needs, got, err)
			}
		})
	}
}

func TestOpenSSH(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "sshd.pid")
	for _, c := range []struct {
		name, active, pid string
		fails             bool
		calls, again      []string
		hups              string
	}{
		{name: "Debian", active: "ssh.service", calls: []string{"reload ssh.service"}, again: []string{"restart ssh.service"}},
		{name: "Fedora", active: "sshd.service", calls: []string{"reload sshd.service"}, again: []string{"restart sshd.service"}},
		{name: "fails", active: "ssh.service", fails: true, calls: []string{"reload ssh.service"},
			again: []string{"restart ssh.service", "restart ssh.service", "restart sshd.service"}},
		{name: "no systemd", pid: "77\n", hups: "77", again: []string{"restart ssh.service"}},
		{name: "for each connection", again: []string{"restart ssh.service"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_ = os.Remove(pidFile)
			if c.pid != "" {
				if err := os.WriteFile(pidFile, []byte(c.pid), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var calls []string
			var hups string
			o := &OpenSSH{PIDFile: pidFile, Hangup: func(pid string) error { hups = pid; return nil }}
			o.Run = func(_ context.Context, _ string, args ...string) ([]byte, error) {
				if args[0] == "is-active" {
					if args[2] != c.active {
						return nil, errors.New("inactive")
					}
					return nil, nil
				}
				calls = append(calls, strings.Join(args, " "))
				if c.fails {
					return []byte("no"), errors.New("exit status 1")
				}
				return nil, nil
			}
			if err := o.Reload(t.Context()); (err != nil) != c.fails || !slices.Equal(calls, c.calls) || hups != c.hups {
				t.Errorf("reload: calls %q, hups %q, err %v", calls, hups, err)
			}
			calls = nil
			if err := o.Restart(t.Context()); (err != nil) != c.fails || !slices.Equal(calls, c.again) {
				t.Errorf("restart: calls %q, err %v", calls, err)
			}
		})
	}
}
