//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// island is a network of its own that has no way to any host. What runs there
// reaches the server through a unix socket.
type island struct {
	t    *testing.T
	pid  string // of a process inside
	url  string
	home string
}

func newIsland(t *testing.T) *island {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "server.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go bridge(l, strings.TrimPrefix(shared.server.URL, "http://"))
	inside := exec.Command("unshare", "-n", "sh", "-c", "ip link set lo up && echo ready && exec sleep 3600")
	ready, err := inside.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := inside.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = inside.Process.Kill()
		_ = inside.Wait()
	})
	if _, err := io.ReadFull(ready, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	return &island{t, fmt.Sprint(inside.Process.Pid), "http+unix://" + url.PathEscape(socket), home}
}

// bridge passes connections on to a TCP address until the listener is closed.
func bridge(l net.Listener, to string) {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer near.Close()
			far, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer far.Close()
			go func() {
				_, _ = io.Copy(far, near)
				_ = far.Close()
			}()
			_, _ = io.Copy(near, far)
		}()
	}
}

// command is a program inside of the island.
func (i *island) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", i.pid, "-n"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+i.home, "COLUMNS=140")
	return cmd
}

func (i *island) run(args ...string) (string, error) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), time.Minute)
	defer cancel()
	out, err := i.command(ctx, args...).CombinedOutput()
	return string(out), err
}

// login makes a user who is a member of project main, and the configuration of
// the user's CLI.
func (i *island) login(name string) {
	i.t.Helper()
	if err := shared.server.Call(i.t.Context(), "users/create", map[string]any{"username": name, "global_role": "user"}, nil); err != nil {
		i.t.Fatal(err)
	}
	var user api.UserWithCreds
	if err := shared.server.Call(i.t.Context(), "users/get_user", map[string]any{"username": name}, &user); err != nil {
		i.t.Fatal(err)
	}
	members := map[string]any{"members": []map[string]any{{"username": name, "project_role": "user"}}}
	if err := shared.server.Call(i.t.Context(), "projects/main/add_members", members, nil); err != nil {
		i.t.Fatal(err)
	}
	if out, err := i.run(lab.Binary("dstack"), "project", "add", "--name", "main", "--url", i.url, "--token", user.Creds.Token, "-y"); err != nil {
		i.t.Fatalf("%v: %s", err, out)
	}
}

// transcript is what a program printed so far.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// TestRelay attaches to a service from where its host can't be reached: through
// the server, by itself. Nobody else may, and it ends with the right to it.
func TestRelay(t *testing.T) {
	island := newIsland(t)
	island.login("islander")
	file := filepath.Join(t.TempDir(), "service.dstack.yml")
	text := "type: service\nname: relayed\nimage: " + lab.Busybox + "\nport: 8000\ncommands:\n  - mkdir /www && echo hello from the job >/www/index.html\n" +
		"  - httpd -f -p 8000 -h /www\nresources: {cpu: 1.., memory: 0.1GB.., disk: 1GB..}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := island.run(lab.Binary("dstack"), "apply", "-f", file, "-y", "-d"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run, err := shared.server.WaitRun(t.Context(), "relayed", time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if result, err := shared.server.CLI(context.Background(), t.TempDir(), "stop", "-x", "-y", "relayed"); err != nil || result.Exit != 0 {
			t.Errorf("%+v, %v", result, err)
		}
	})

	var output transcript
	attach := island.command(t.Context(), lab.Binary("dstack"), "attach", "relayed")
	attach.Stdout, attach.Stderr = &output, &output
	if err := attach.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- attach.Wait() }()
	t.Cleanup(func() { _ = attach.Process.Signal(syscall.SIGTERM) })
	err = lab.Wait(t.Context(), 30*time.Second, "attached", func(context.Context) error {
		if !strings.Contains(output.String(), "Press Ctrl+C to detach") {
			return errNotReady
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v:\n%s", err, output.String())
	}
	if got := strings.Count(output.String(), "Connected through the dstack server"); got != 1 {
		t.Errorf("said %d times that it goes through the server:\n%s", got, output.String())
	}
	island.uses(t)
	island.events(t, run)

	stranger := newIsland(t)
	stranger.login("stranger")
	key := filepath.Join(t.TempDir(), "key")
	island.copyKey(t, key)
	if out, err := stranger.run(lab.Binary("dstack"), "attach", "relayed", "--via-server", "--ssh-identity", key); err == nil || !strings.Contains(out, "Run relayed not found") {
		t.Errorf("another member: %v, %s", err, out)
	}

	if err := shared.server.Call(t.Context(), "projects/main/remove_members", map[string]any{"usernames": []string{"islander"}}, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		var failed *exec.ExitError
		if !errors.As(err, &failed) || failed.ExitCode() != 1 {
			t.Errorf("attach of who was removed ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("attach goes on for who is no member any more:\n%s", output.String())
	}
}

// uses reaches the job over what attach made.
func (i *island) uses(t *testing.T) {
	t.Helper()
	if out, err := i.run("python3", "-c", "import urllib.request as u; print(u.urlopen('http://localhost:8000').read())"); err != nil || !strings.Contains(out, "hello from the job") {
		t.Errorf("forwarded port: %v, %s", err, out)
	}
	config := filepath.Join(i.home, ".dstack", "ssh", "config")
	if out, err := i.run("ssh", "-F", config, "-o", "LogLevel=ERROR", "relayed", "cat /www/index.html; exit 7"); out != "hello from the job\n" || exitOf(err) != 7 {
		t.Errorf("ssh: %v, %s", err, out)
	}
	if out, err := i.run(lab.Binary("dstack"), "exec", "--via-server", "relayed", "--", "cat", "/www/index.html"); out != "hello from the job\n" || err != nil {
		t.Errorf("exec: %v, %s", err, out)
	}
	if out, err := i.run("python3", "-c", "import urllib.request as u\ntry: u.urlopen('http://localhost:8000/x')\nexcept Exception as e: print(e.code)"); err != nil || out != "404\n" {
		t.Errorf("forwarded port: %v, %s", err, out)
	}
}

func exitOf(err error) int {
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return failed.ExitCode()
	}
	return 0
}

// events wants one for each connection.
func (i *island) events(t *testing.T, run api.Run) {
	t.Helper()
	var list []api.Event
	if err := shared.server.Call(t.Context(), "events/list", map[string]any{"within_runs": []string{run.ID}}, &list); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range list {
		if e.Message == "SSH connection through the server opened" && e.ActorUser != nil && *e.ActorUser == "islander" && len(e.Targets) == 2 {
			n++
		}
	}
	if n != 3 { // attach, ssh, exec
		t.Errorf("%d events of connections: %+v", n, list)
	}
}

// copyKey copies the user's SSH key, which attach took from the server.
func (i *island) copyKey(t *testing.T, to string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(i.home, ".dstack", "ssh", "????????.pub"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no key of the user: %v", err)
	}
	text, err := os.ReadFile(strings.TrimSuffix(files[0], ".pub"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
