//go:build e2e

package badinput

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// TestBrokenCLIConfig has config files with a fault: every command says
// where, and none of them ever overwrites the file.
func TestBrokenCLIConfig(t *testing.T) {
	faults := map[string]struct{ text, want string }{
		"syntax":        {"projects: [\n", ":1:1: YAML syntax error: did not find expected node content"},
		"unknown field": {"projcts: []\n", ":1:1: projcts: unknown field, did you mean `projects`?"},
		"wrong type":    {"projects: 5\n", ":1:11: projects: must be a list, found 5"},
		"missing field": {"projects:\n- name: main\n  url: http://x\n", ":2:3: projects.0.token: required"},
		"no text":       {"\x00\x01", ":1:1: YAML syntax error: control characters are not allowed"},
	}
	commands := [][]string{
		{"ps"}, {"project", "list"},
		{"project", "add", "--name", "q", "--url", shared.URL, "--token", lab.Token, "-y"},
		{"project", "delete", "--name", "main", "-y"},
		{"project", "set-default", "main"},
		{"apply", "-y"},
	}
	for name, tt := range faults {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			path := filepath.Join(home, ".dstack", "config.yml")
			c := call{dir: t.TempDir(), env: []string{"HOME=" + home}}
			write(t, filepath.Join(c.dir, ".dstack.yml"), "type: task\ncommands: [echo]\n")
			write(t, path, tt.text)
			for _, args := range commands {
				refuses(t, c.dstack(t, args...), path+tt.want+
					"\nCorrect the file, or move it away and add your projects again with: dstack project add")
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != tt.text {
				t.Errorf("the file is now %q, %v", text, err)
			}
		})
	}
}

// TestServerKeepsBrokenCLIConfig shows that a server starts beside a broken
// configuration of the CLI, says so and leaves it.
func TestServerKeepsBrokenCLIConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "home", ".dstack", "config.yml")
	const text = "projects: [\n"
	write(t, path, text)
	s, err := lab.StartServer(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	waitForLog(t, s, "is running at")
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(s.Log(), path+":1:1: YAML syntax error") {
		t.Errorf("no warning in the log:\n%s", s.Log())
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != text {
		t.Errorf("the file is now %q, %v", now, err)
	}
}

// TestUnusableHome has a home folder in which nothing can be written.
func TestUnusableHome(t *testing.T) {
	home := t.TempDir()
	disk(t, home, 1)
	remount(t, home, unix.MS_RDONLY, "")
	c := call{dir: t.TempDir(), env: []string{"HOME=" + home}}
	got := c.dstack(t, "project", "add", "--name", "main", "--url", shared.URL, "--token", lab.Token, "-y")
	want := "cannot write the CLI's configuration: mkdir " + home + "/.dstack: read-only file system; make " + home +
		"/.dstack writable for you, or free some space\n"
	if got.Exit != 1 || !strings.HasPrefix(got.Stderr, want) {
		t.Errorf("%+v, want %q", got, want)
	}
	c.env = append(c.env, user(t).env[1:]...)
	if got := c.dstack(t, "ps"); got.Exit != 0 || got.Stderr != "" {
		t.Errorf("ps needs no home: %+v", got)
	}
}

// TestUnknownThings names what is not there.
func TestUnknownThings(t *testing.T) {
	c := user(t)
	tests := map[string]string{
		"logs nope":                "Run nope not found",
		"stop nope -y":             "Run nope not found",
		"run get nope":             "Run nope not found",
		"fleet get nope":           "Fleet nope not found",
		"fleet delete nope -y":     "Fleet nope does not exist",
		"project set-default nope": "Project 'nope' not found",
		"ps --nope":                "Unrecognized arguments: --nope",
	}
	for args, want := range tests {
		refuses(t, c.dstack(t, strings.Fields(args)...), want)
	}
}

// TestClosedInput has a question that nobody can answer.
func TestClosedInput(t *testing.T) {
	c := user(t)
	write(t, filepath.Join(c.dir, "a.yml"), "type: task\nname: asked\ncommands: [echo]\n"+small)
	check := quiet(t, shared)
	got := c.dstack(t, "apply", "-f", "a.yml")
	const want = "Standard input is closed, so the question can't be answered: pass -y to answer yes.\n"
	if got.Exit != 2 || got.Stderr != want {
		t.Errorf("%+v, want exit 2 and %q", got, want)
	}
	check()
}

// TestInterrupt presses Ctrl-C at a question, and while a run is followed
// without a terminal.
func TestInterrupt(t *testing.T) {
	c := user(t)
	write(t, filepath.Join(c.dir, "a.yml"), "type: task\nname: cut\ncommands: [echo started, sleep 1000]\n"+small)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	check := quiet(t, shared)
	cmd := exec.CommandContext(ctx, lab.Binary("dstack"), "apply", "-f", "a.yml")
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), c.env...)
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	shown := readUntil(t, terminal, "[y/n]: ")
	if _, err := terminal.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("Ctrl-C at the question: exit %d, %v; want 1\n%s", code, err, shown)
	}
	check()

	cmd = exec.CommandContext(ctx, lab.Binary("dstack"), "apply", "-f", "a.yml", "-y")
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), c.env...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shown = readUntil(t, stdout, "started")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, _ := bufio.NewReader(stdout).ReadString(0)
	err = cmd.Wait()
	if err := undumped(shown + rest + stderr.String()); err != nil {
		t.Error(err)
	}
	const detached = "Detached. The run cut goes on; stop it with: dstack stop cut"
	if err != nil || !strings.Contains(rest, detached) || stderr.Len() > 0 {
		t.Errorf("Ctrl-C while following: %v, %q, %q; want %q", err, rest, stderr.String(), detached)
	}
	run, err := shared.Run(t.Context(), "cut")
	if err != nil || run.Status != api.RunRunning {
		t.Errorf("run is %v, %v; want running", run.Status, err)
	}
	if got := c.dstack(t, "stop", "cut", "-x", "-y"); got.Exit != 0 {
		t.Errorf("stop: %+v", got)
	}
}

// readUntil reads until a text came.
func readUntil(t *testing.T, from interface{ Read([]byte) (int, error) }, text string) string {
	t.Helper()
	var all strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(all.String(), text) {
		n, err := from.Read(buf)
		all.Write(buf[:n])
		if err != nil {
			t.Fatalf("no %q in %q: %v", text, all.String(), err)
		}
	}
	return all.String()
}

// TestFullOutput loses the output of commands: that is no success.
func TestFullOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	c := user(t)
	c.stdout = full
	for _, command := range []string{"ps", "fleet", "version"} {
		refuses(t, c.dstack(t, command), "Couldn't write to standard output: no space left on device")
	}
	refuses(t, c.dstack(t, "ps", "--json"), `{"error":{"code":"error","msg":"write JSON to standard output: write /dev/stdout: no space left on device"}}`)
}

// TestInterruptServer ends a server with Ctrl-C.
func TestInterruptServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, lab.Binary("dstack"), "server", "-n", "--port", freePort(t))
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "DSTACK_SERVER_DIR="+t.TempDir())
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shown := readUntil(t, stdout, "is running at")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest := readUntil(t, stdout, "The server stops; running jobs go on\n")
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v\n%s%s", err, shown, rest)
	}
	if err := undumped(shown + rest); err != nil {
		t.Error(err)
	}
}
