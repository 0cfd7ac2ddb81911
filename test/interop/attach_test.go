//go:build e2e

package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dstack/test/lab"
)

// web is a task with an HTTP server.
const web = `type: task
name: web
image: ` + lab.Busybox + `
env: [WHO=the job]
ports: ["%d:8000"]
commands:
  - mkdir /www
  - echo hello from $WHO > /www/index.html
  - httpd -p 8000 -h /www
  - echo serving at http://0.0.0.0:8000/index.html
  - sleep 600
resources: {cpu: 1.., memory: 0.1.., disk: 1GB..}
`

// TestAttach is the Python command line and SDK inside a job: attached, with a
// forwarded port, the log, and the user's own ssh.
func TestAttach(t *testing.T) {
	l := lab.OpenFor(t)
	machine, err := l.NewMachine(t.Context(), lab.MachineOptions{Images: []string{lab.Busybox}})
	if err != nil {
		t.Fatal(err)
	}
	s := lab.ServerFor(t, nil)
	u := newUser(t, s)
	port := freePort(t)
	u.write(t, "fleet.dstack.yml", fmt.Sprintf("type: fleet\nname: lab\nssh_config: {user: ubuntu, identity_file: %s, hosts: [%s]}\n", machine.Key, machine.IP))
	u.write(t, "web.dstack.yml", fmt.Sprintf(web, port))
	u.write(t, "short.dstack.yml", "type: task\nname: short\nimage: "+lab.Busybox+"\ncommands: ['echo first', 'sleep 2', 'echo last', 'exit 3']\nresources: {cpu: 1.., memory: 0.1.., disk: 1GB..}\n")
	u.run(t, []step{
		{args: "project add --name main --url URL --token " + lab.Token + " -y"},
		{args: "apply -f fleet.dstack.yml -y", want: []string{`lab .*active .*`}},
		{args: "apply -f short.dstack.yml -y", exit: 1, want: []string{`short provisioning completed \(running\)`, `first`, `last`, `Exited \(3\)`, `Check dstack logs -d short for more details\.`}},
		{args: "apply -f web.dstack.yml -y -d", want: []string{`Run web submitted, detaching\.\.\.`}},
		{args: "ps", until: true, want: []string{`web .*running .*`}},
	})
	if t.Failed() {
		t.Fatal(s.Log())
	}
	t.Run("command line", func(t *testing.T) { attachAndDetach(t, u, port) })
	t.Run("SDK", func(t *testing.T) {
		sdk := s.Command(t.Context(), ".", filepath.Join(u.venv, "bin", "python"), "sdk_attach.py", s.URL, lab.Token)
		if out, err := sdk.CombinedOutput(); err != nil {
			t.Errorf("sdk_attach.py: %v\n%s", err, out)
		}
	})
	u.run(t, []step{
		{args: "stop web -y", want: []string{`Stopped`}},
		{args: "ps -a", until: true, want: []string{`web .*stopped .*`}},
		{args: "attach web", exit: 1, want: []string{`Run web is terminated`}},
	})
	if t.Failed() {
		t.Log(s.Log())
	}
}

// attachAndDetach attaches, reaches the job in each way, and presses Ctrl-C.
func attachAndDetach(t *testing.T, u *user, port int) {
	a := u.attach(t, "attach", "web", "--logs")
	a.until(t, `Attached to run web \(replica=0 job=0\)`)
	a.until(t, fmt.Sprintf(`  - localhost:%d -> 8000`, port))
	a.until(t, "To connect to the run via SSH, use `ssh web`.")
	a.until(t, fmt.Sprintf(`serving at http://127\.0\.0\.1:%d/index\.html`, port))
	if got := get(t, port); got != "hello from the job\n" {
		t.Errorf("the forwarded port answers %q", got)
	}
	for _, tt := range []struct{ host, command, want string }{
		{"web", "echo $WHO; id -un", "the job\nroot\n"},
		{"web-host", "id -un", "ubuntu\n"},
	} {
		ssh := u.s.Command(t.Context(), u.dir, "ssh", "-F", u.home(".ssh/config"), tt.host, tt.command)
		if out, err := ssh.Output(); err != nil || string(out) != tt.want {
			t.Errorf("ssh %s: %q, %v, want %q", tt.host, out, err, tt.want)
		}
	}
	if err := a.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	a.until(t, `Detached`)
	if err := a.cmd.Wait(); err != nil {
		t.Errorf("attach ended with %v", err)
	}
	if left, err := os.ReadFile(u.home(".dstack/ssh/config")); err != nil || strings.Contains(string(left), "web") {
		t.Errorf("left in the configuration of ssh: %q, %v", left, err)
	}
}

// home is a file in the user's home.
func (u *user) home(path string) string { return filepath.Join(u.s.Dir, "home", path) }

// attached is a command of the Python client that goes on until it is told to end.
type attached struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	seen  strings.Builder
}

func (u *user) attach(t *testing.T, args ...string) *attached {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	a := &attached{cmd: u.s.Command(ctx, u.dir, filepath.Join(u.venv, "bin", "dstack"), args...)}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.cmd.Stderr = &a.seen
	a.lines = bufio.NewScanner(out)
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return a
}

// until reads lines until one matches the pattern.
func (a *attached) until(t *testing.T, pattern string) {
	t.Helper()
	line := regexp.MustCompile(`^` + pattern + `\s*$`)
	for a.lines.Scan() {
		a.seen.WriteString(a.lines.Text() + "\n")
		if line.MatchString(a.lines.Text()) {
			return
		}
	}
	t.Fatalf("no line %q in\n%s", pattern, a.seen.String())
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("not TCP")
	}
	return address.Port
}

// get reads the job's page through the forwarded port.
func get(t *testing.T, port int) string {
	t.Helper()
	response, err := http.Get(fmt.Sprintf("http://localhost:%d/index.html", port))
	if err != nil {
		t.Error(err)
		return ""
	}
	text, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Error(err)
	}
	return string(text)
}
