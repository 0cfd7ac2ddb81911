package cli

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"dstack/client/userconfig"
	"dstack/protocol/api"
)

const ctrlC = "\x03"

// shell runs dstack on the terminal and stays until all output was read: when
// the leader of a terminal's session ends, the kernel drops what nobody read.
const shell = `trap : INT; "$@"; echo "[exit $?]"; read -r _`

// terminal is dstack on a pseudo-terminal.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	// unread is what it printed and no expect has passed yet; passed is what
	// the last one passed.
	unread, passed string
}

func startOnPTY(t *testing.T, url string, args ...string) *terminal {
	t.Helper()
	home := t.TempDir()
	return openPTY(t, home, url, func() {
		for _, command := range []string{"hang", "stubborn", "stuck", "exit 3"} {
			name := strings.ReplaceAll(command, " ", "")
			text := "type: task\nname: " + name + "\ncommands: [" + command + "]\n"
			if err := os.WriteFile(filepath.Join(home, name+".yml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}, args...)
}

// openPTY starts dstack in a home folder that prepare fills. Without url no
// server is set.
func openPTY(t *testing.T, home, url string, prepare func(), args ...string) *terminal {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	prepare()
	cmd := exec.Command("/bin/sh", append([]string{"-c", shell, "sh", self}, args...)...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "TEST_AS_DSTACK=1", "HOME="+home, "TERM=xterm-256color", "NO_COLOR=1")
	if url != "" {
		cmd.Env = append(cmd.Env, "DSTACK_SERVER_URL="+url, "DSTACK_TOKEN="+fakeToken, "DSTACK_PROJECT="+fakeProject)
	}
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120})
	if err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		kill.Stop()
		_ = cmd.Process.Kill()
		_ = master.Close()
	})
	return &terminal{t: t, cmd: cmd, master: master}
}

// expect reads until a text was printed.
func (x *terminal) expect(text string) {
	x.t.Helper()
	buf := make([]byte, 4096)
	for !strings.Contains(x.unread, text) {
		n, err := x.master.Read(buf)
		x.unread += string(buf[:n])
		if err != nil && !strings.Contains(x.unread, text) {
			x.t.Fatalf("ended (%v) without printing %q; the last of it:\n%s", err, text, x.unread)
		}
	}
	before, after, _ := strings.Cut(x.unread, text)
	x.passed, x.unread = before+text, after
}

func (x *terminal) send(keys string) {
	x.t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// exits waits for the end and wants an exit code.
func (x *terminal) exits(want int) {
	x.t.Helper()
	x.expect("[exit ")
	x.expect("]")
	if got := x.passed; got != strconv.Itoa(want)+"]" {
		x.t.Errorf("exit code %s, want %d", got, want)
	}
	x.send("\n")
	if err := x.cmd.Wait(); err != nil {
		x.t.Errorf("shell: %v", err)
	}
}

func TestInterrupts(t *testing.T) {
	t.Parallel()
	const menu = "stop it, or abort it? [d/s/a]: "
	tests := []struct {
		name string
		args []string
		talk func(*terminal)
		exit int
		run  api.RunStatus // of run 0 afterwards
	}{
		{"detach", []string{"apply", "-f", "hang.yml"}, func(x *terminal) {
			x.expect("Submit the run hang? [y/n]: ")
			x.send("y\n")
			x.expect("provisioning completed (running)")
			x.expect("hang\r\n")
			x.send(ctrlC)
			x.expect("Detach from the run hang, " + menu)
			x.send("what\n")
			x.expect("Please enter d (detach), s (stop) or a (abort)")
			x.expect(menu)
			x.send("d\n")
			x.expect("Detached. The run hang goes on; stop it with: dstack stop hang")
		}, 0, api.RunRunning},
		{"stop", []string{"apply", "-f", "hang.yml"}, func(x *terminal) {
			x.send("y\n")
			x.expect("completed (running)")
			x.send(ctrlC)
			x.expect(menu)
			x.send("s\n")
			x.expect("Stopping...")
			x.expect("Stopped")
		}, 0, api.RunTerminated},
		{"abort", []string{"apply", "-f", "hang.yml"}, func(x *terminal) {
			x.send("y\n")
			x.expect("completed (running)")
			x.send(ctrlC)
			x.expect(menu)
			x.send("a\n")
			x.expect("Aborting...")
			x.expect("Aborted")
		}, 0, api.RunTerminated},
		{"ctrl-c while stopping aborts", []string{"apply", "-f", "stubborn.yml"}, func(x *terminal) {
			x.send("y\n")
			x.expect("completed (running)")
			x.send(ctrlC)
			x.expect(menu)
			x.send("s\n")
			x.expect("Stopping...")
			x.send(ctrlC)
			x.expect("Aborting...")
			x.expect("Aborted")
		}, 0, api.RunTerminated},
		{"ctrl-c at the menu", []string{"apply", "-f", "hang.yml"}, func(x *terminal) {
			x.send("y\n")
			x.expect("completed (running)")
			x.send(ctrlC)
			x.expect(menu)
			x.send(ctrlC)
			x.expect("Cancelled by user. The run hang goes on")
		}, 1, api.RunRunning},
		{"ctrl-c with -y", []string{"apply", "-y", "-f", "hang.yml"}, func(x *terminal) {
			x.expect("completed (running)")
			x.send(ctrlC)
			x.expect("Detached. The run hang goes on; stop it with: dstack stop hang")
		}, 0, api.RunRunning},
		{"ctrl-c while launching", []string{"apply", "-y", "-f", "stuck.yml"}, func(x *terminal) {
			x.expect("Launching stuck...")
			x.send(ctrlC)
			x.expect("Detached. The run stuck goes on")
		}, 0, api.RunSubmitted},
		{"ctrl-c at the plan", []string{"apply", "-f", "hang.yml"}, func(x *terminal) {
			x.expect("Submit the run hang? [y/n]: ")
			x.send(ctrlC)
			x.expect("Cancelled by user")
		}, 1, ""},
		{"no ctrl-c: the job's exit code", []string{"apply", "-y", "-f", "exit3.yml"}, func(x *terminal) {
			x.expect("Exited (3)")
		}, 3, api.RunFailed},
		{"ps -w", []string{"ps", "-w"}, func(x *terminal) {
			x.expect("SUBMITTED")
			x.send(ctrlC)
		}, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fake := newFakeServer()
			server := httptest.NewServer(fake)
			defer server.Close()
			x := startOnPTY(t, server.URL, tt.args...)
			tt.talk(x)
			x.exits(tt.exit)
			fake.mu.Lock()
			defer fake.mu.Unlock()
			if tt.run == "" {
				if len(fake.runs) > 0 {
					t.Errorf("a run was submitted")
				}
			} else if got := fake.runs[0].Status; got != tt.run {
				t.Errorf("run is %s, want %s", got, tt.run)
			}
		})
	}
}

func TestLogsFollowUntilInterrupted(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newFakeServer())
	defer server.Close()
	x := startOnPTY(t, server.URL, "apply", "-y", "-f", "hang.yml")
	x.expect("completed (running)")
	x.send(ctrlC)
	x.exits(0)
	x = startOnPTY(t, server.URL, "logs", "-f", "hang")
	x.expect("hang\r\n")
	x.send(ctrlC)
	x.exits(0)
}

// TestProjectMenu chooses the default project with the arrow keys.
func TestProjectMenu(t *testing.T) {
	t.Parallel()
	const file = "projects:\n- {name: main, url: 'http://one', token: t, default: true}\n- {name: other, url: 'http://two', token: t}\n"
	tests := []struct {
		name string
		args []string
		talk func(*terminal)
		want string // the default project afterwards
	}{
		{"enter", []string{"project"}, func(x *terminal) {
			x.expect("Select the default project: (↑↓ Enter)")
			x.expect("» main (http://one)")
			x.send("\x1b[B")
			x.expect("» other (http://two)")
			x.send("\r")
			x.expect("Select the default project: other (http://two)\r\n")
			x.expect("OK")
		}, "other"},
		{"ctrl-c", []string{"project"}, func(x *terminal) {
			x.expect("» main (http://one)")
			x.send("\x1b[B")
			x.expect("» other (http://two)")
			x.send(ctrlC)
			x.expect("Cancelled by user")
		}, "main"},
		{"set-default", []string{"project", "set-default"}, func(x *terminal) {
			x.expect("» main")
			x.send("\x1b[A\r")
			x.expect("OK")
		}, "other"},
		{"list", []string{"project", "-v"}, func(x *terminal) { x.expect("DEFAULT") }, "main"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			x := openPTY(t, home, "", func() {
				if err := os.MkdirAll(filepath.Join(home, ".dstack"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(home, ".dstack", "config.yml"), []byte(file), 0o600); err != nil {
					t.Fatal(err)
				}
			}, tt.args...)
			tt.talk(x)
			x.exits(0)
			projects, err := userconfig.Load(userconfig.Path(home))
			if err != nil {
				t.Fatal(err)
			}
			if p, _ := projects.Project(""); p.Name != tt.want {
				t.Errorf("default project %s, want %s", p.Name, tt.want)
			}
		})
	}
}

// resize makes the terminal another size.
func (x *terminal) resize(rows, columns uint16) {
	x.t.Helper()
	if err := pty.Setsize(x.master, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		x.t.Fatal(err)
	}
}
