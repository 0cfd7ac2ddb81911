//go:build e2e

package interop

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"dstack/cli/sshconfig"
	"dstack/test/lab"
)

// TestSharedFiles: our command line and the Python one write the files of the
// user's ssh at the same time. Neither loses what the other wrote, and what
// the user has there stays.
func TestSharedFiles(t *testing.T) {
	home := t.TempDir()
	config := filepath.Join(home, ".dstack", "ssh", "config")
	const mine = "# mine\nHost mine\n    Port 7\n"
	for _, path := range []string{config, filepath.Join(home, ".ssh", "config")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(mine), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	python := exec.CommandContext(t.Context(), filepath.Join(lab.Home, "python-0.22.5", "bin", "python"), "sshconfig.py")
	python.Env = append(os.Environ(), "HOME="+home)
	ended := make(chan error, 1)
	go func() {
		out, err := python.CombinedOutput()
		if err != nil {
			err = errors.Join(err, errors.New(string(out)))
		}
		ended <- err
	}()
	for range 300 { // about twice as long as Python needs to begin
		files, err := sshconfig.Open(home)
		if err != nil {
			t.Fatal(err)
		}
		host := sshconfig.Host{Alias: "run", HostName: "localhost", Port: 10022, User: "root", IdentityFile: filepath.Join(home, "key")}
		if err := errors.Join(files.Add("x", []sshconfig.Host{host}), files.Close()); err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{
		config:                                mine + "Host python\n    HostName 1.1.1.1\n    Port 29\n",
		filepath.Join(home, ".ssh", "config"): "Include " + config + "\n" + mine,
	} {
		if text, err := os.ReadFile(path); err != nil || string(text) != want {
			t.Errorf("%s is %q, %v, want %q", path, text, err, want)
		}
	}
}
