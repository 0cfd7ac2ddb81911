//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/test/lab"
)

// venv makes (once) a virtual environment with the Python client 0.22.5.
func venv(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(lab.Home, "python-0.22.5")
	if _, err := os.Stat(filepath.Join(dir, "bin", "dstack")); err == nil {
		return dir
	}
	script := `python3 -m venv --clear "$1" && "$1/bin/pip" install -q "dstack==0.22.5"`
	if out, err := exec.Command("sh", "-c", script, "sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("install the Python client: %v: %s", err, out)
	}
	return dir
}

// TestPythonCLI uses the unchanged CLI of dstack 0.22.5 against our server.
func TestPythonCLI(t *testing.T) {
	client, s := venv(t), shared.server
	machine, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{Images: []string{lab.Busybox}})
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	python := func(want int, args ...string) string {
		t.Helper()
		r, err := s.Python(t.Context(), home, client, args...)
		if err != nil || r.Exit != want {
			t.Fatalf("dstack %s: exit %d, %v\n%s%s", strings.Join(args, " "), r.Exit, err, r.Stdout, r.Stderr)
		}
		return r.Stdout
	}
	write := func(name, text string) string {
		file := filepath.Join(home, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	python(0, "project", "add", "--name", "main", "--url", s.URL, "--token", lab.Token, "-y")
	fleet := write("fleet.dstack.yml", fmt.Sprintf("type: fleet\nname: python\nssh_config: {user: ubuntu, identity_file: %s, hosts: [%s]}\n", machine.Key, machine.IP))
	python(0, "apply", "-y", "-d", "-f", fleet)
	err = lab.Wait(t.Context(), time.Minute, "idle host in `dstack fleet`", func(context.Context) error {
		if out := python(0, "fleet"); !strings.Contains(out, "idle") {
			return fmt.Errorf("fleet says %s: %w", out, errNotReady)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	task := write("task.dstack.yml", "type: task\nname: python-task\nimage: "+lab.Busybox+"\nfleets: [python]\ncommands:\n  - echo from python\n  - sleep 600\nresources: {cpu: 1.., memory: 0.1.., disk: 1GB..}\n")
	python(0, "apply", "-y", "-d", "-f", task)
	err = lab.Wait(t.Context(), time.Minute, "running task in `dstack ps`", func(context.Context) error {
		if out := python(0, "ps"); !strings.Contains(out, "running") {
			return fmt.Errorf("ps says %s: %w", out, errNotReady)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = lab.Wait(t.Context(), time.Minute, "line in `dstack logs`", func(context.Context) error {
		if out := python(0, "logs", "python-task"); !strings.Contains(out, "from python") {
			return fmt.Errorf("logs say %q: %w", out, errNotReady)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	python(0, "stop", "-y", "python-task")
	err = lab.Wait(t.Context(), time.Minute, "stopped task in `dstack ps -a`", func(context.Context) error {
		if out := python(0, "ps", "-a"); !strings.Contains(out, "stopped") && !strings.Contains(out, "terminated") {
			return fmt.Errorf("ps -a says %s: %w", out, errNotReady)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	python(0, "event")
	python(0, "fleet", "delete", "-y", "python")
}
