//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dstack/test/lab"
)

// attached is a running `dstack` that is attached to a run.
type attached struct {
	t    *testing.T
	cmd  *exec.Cmd
	file string
	home string
}

// attachWith starts dstack and leaves it running.
func attachWith(t *testing.T, dir string, args ...string) *attached {
	t.Helper()
	x := &attached{t: t, file: filepath.Join(t.TempDir(), "out"), home: filepath.Join(shared.server.Dir, "home")}
	out, err := os.Create(x.file)
	if err != nil {
		t.Fatal(err)
	}
	x.cmd = exec.Command(lab.Binary("dstack"), args...)
	x.cmd.Dir, x.cmd.Stdout, x.cmd.Stderr = dir, out, out
	x.cmd.Env = append(os.Environ(), "HOME="+x.home)
	if err := errors.Join(x.cmd.Start(), out.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill() // it has ended, or the test has failed
	})
	return x
}

func (x *attached) output() string {
	text, err := os.ReadFile(x.file)
	if err != nil {
		x.t.Fatal(err)
	}
	return string(text)
}

// prints waits until dstack has printed a text.
func (x *attached) prints(text string) {
	x.t.Helper()
	err := lab.Wait(x.t.Context(), time.Minute, text, func(context.Context) error {
		if got := x.output(); !strings.Contains(got, text) {
			return fmt.Errorf("printed so far: %s", got)
		}
		return nil
	})
	if err != nil {
		x.t.Fatal(err)
	}
}

// exits waits for the end and wants an exit code.
func (x *attached) exits(code int) {
	x.t.Helper()
	_ = x.cmd.Wait() // the code says all
	if got := x.cmd.ProcessState.ExitCode(); got != code {
		x.t.Errorf("exit code %d, want %d:\n%s", got, code, x.output())
	}
}

// ssh runs the system's ssh with the files that dstack wrote for it.
func (x *attached) ssh(host string, command ...string) (string, error) {
	args := append([]string{"-F", filepath.Join(x.home, ".ssh", "config"), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", host}, command...)
	cmd := exec.CommandContext(x.t.Context(), "ssh", args...)
	out, err := cmd.Output()
	return string(out), err
}

// fetches waits until a local port answers with the page of the job.
func fetches(t *testing.T, port int) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	err := lab.Wait(t.Context(), time.Minute, "answer on the forwarded port", func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost:"+strconv.Itoa(port)+"/index.html", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(request)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err == nil && string(text) != "hello\n" {
			err = fmt.Errorf("answer %q", text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// localPort finds a free port.
func localPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestAttach lives in a job: apply attaches, a web server in the job and
// the system's ssh are used, the connections and the server go away and come
// back, and at last the container is killed.
func TestAttach(t *testing.T) {
	dir, port := t.TempDir(), localPort(t)
	conf := fmt.Sprintf(`{type: task, name: web, image: %q, ports: ["%d:8000"], resources: {cpu: 1.., memory: 0.1.., disk: 1GB..},
commands: ["mkdir /www", "echo hello >/www/index.html", "printf '\\033[32mgreen\\033[0m at http://localhost:8000/\\n'", "httpd -f -p 8000 -h /www"]}`, lab.Busybox, port)
	if err := os.WriteFile(filepath.Join(dir, "web.yml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	x := attachWith(t, dir, "apply", "-y", "-f", "web.yml")
	x.prints(fmt.Sprintf("\x1b[32mgreen\x1b[0m at http://127.0.0.1:%d/", port))
	fetches(t, port)
	for host, want := range map[string]string{"web": "hello\n", "web-host": "Linux\n"} {
		command := map[string]string{"web": "cat /www/index.html", "web-host": "uname"}[host]
		if out, err := x.ssh(host, command); err != nil || out != want {
			t.Errorf("ssh %s: %q, %v", host, out, err)
		}
	}
	run, err := shared.server.Run(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	machine := machineOf(t, run)

	// Also those without a session, which lab.CutConnections leaves.
	if _, err := machine.Exec(t.Context(), "pkill -KILL -f '^sshd: [a-z]'"); err != nil {
		t.Fatal(err)
	}
	x.prints("The connection to the run web broke")
	fetches(t, port)

	for _, step := range [][]string{{"network", "disconnect", "lab", machine.Name}, {"network", "connect", "--ip", machine.IP, "lab", machine.Name}} {
		if _, err := shared.lab.Docker(t.Context(), step...); err != nil {
			t.Fatal(err)
		}
		if step[1] == "disconnect" {
			x.prints("Lost the connection to the run web: the host stopped answering. Connecting again...")
		}
	}
	x.prints("Connected to the run web again.")
	fetches(t, port)

	if err := shared.server.Kill(); err != nil {
		t.Fatal(err)
	}
	fetches(t, port)
	if err := shared.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}

	second := attachWith(t, dir, "attach", "web", "--logs")
	second.prints(fmt.Sprintf("Forwarded ports (local -> remote):\n  - localhost:%d -> 8000\n", port))
	second.prints("green")
	if err := second.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	second.exits(0)

	if _, err := machine.Exec(t.Context(), "docker kill $(docker ps -q)"); err != nil {
		t.Fatal(err)
	}
	x.prints("The agent that ran the job was killed")
	x.exits(1)
	if text := x.output(); strings.Count(text, "green") != 1 {
		t.Errorf("the log has gaps or repeats:\n%s", text)
	}
	text, err := os.ReadFile(filepath.Join(x.home, ".dstack", "ssh", "config"))
	if err == nil && strings.Contains(string(text), "Host web") {
		t.Errorf("left for ssh:\n%s", text)
	}
}
