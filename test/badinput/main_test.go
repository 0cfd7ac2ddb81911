//go:build e2e

// Package badinput runs the real binaries on bad input and in bad places.
// Each time the user gets one clear sentence with the place and the remedy and
// the right exit code, and nothing has changed. It needs root: small disks and
// read-only disks are mounted.
package badinput

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// shared is a server that offers this machine, without Docker.
var shared *lab.Server

// processes keeps Docker out of it: jobs are plain processes.
const processes = "DSTACK_SHIM_RUNTIME=process"

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "badinput")
	if err != nil {
		return complain(err)
	}
	defer os.RemoveAll(dir)
	if shared, err = lab.StartServer(ctx, dir, []string{processes}, "--local"); err != nil {
		return complain(err)
	}
	defer func() {
		if err := dismiss(ctx, shared); err != nil {
			code = complain(err)
		}
	}()
	if err := waitForHost(ctx, shared); err != nil {
		return complain(err)
	}
	return m.Run()
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// dismiss removes the local host and stops the server.
func dismiss(ctx context.Context, s *lab.Server) error {
	removed, err := s.CLI(ctx, s.Dir, "fleet", "delete", "local", "-y")
	if err == nil && removed.Exit != 0 {
		err = fmt.Errorf("fleet delete local: %+v\n%s", removed, s.Log())
	}
	return errors.Join(err, s.Stop(), undumped(s.Log()))
}

func waitForHost(ctx context.Context, s *lab.Server) error {
	return lab.Wait(ctx, 20*time.Second, "the local host", func(ctx context.Context) error {
		var fleets []api.Fleet
		if err := s.Call(ctx, "project/main/fleets/list", nil, &fleets); err != nil {
			return err
		}
		for _, f := range fleets {
			if f.Name == "local" && len(f.Instances) == 1 && f.Instances[0].Status == "idle" {
				return nil
			}
		}
		return errors.New("not idle yet")
	})
}

// undumped fails on what the Go runtime or a crash prints.
func undumped(output string) error {
	for _, word := range []string{"panic", "goroutine ", "runtime error", "request crashed", "SIGSEGV", ".go:"} {
		if strings.Contains(output, word) {
			return fmt.Errorf("a dump reached the user (%q):\n%s", word, output)
		}
	}
	return nil
}

// call is one run of a program.
type call struct {
	dir string
	// env is added to that of the test.
	env []string
	// stdout, if set, gets the output instead of the result.
	stdout *os.File
}

// dstack runs bin/dstack and fails the test on a dump in its output.
func (c call) dstack(t *testing.T, args ...string) lab.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, lab.Binary("dstack"), args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if c.stdout != nil {
		cmd.Stdout = c.stdout
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	got := lab.Result{Stdout: stdout.String(), Stderr: stderr.String(), Exit: cmd.ProcessState.ExitCode()}
	if err := undumped(got.Stdout + got.Stderr); err != nil {
		t.Error(err)
	}
	return got
}

// user is a call of somebody who has the shared server's project.
func user(t *testing.T) call {
	t.Helper()
	return call{dir: t.TempDir(), env: []string{
		"HOME=" + t.TempDir(), "DSTACK_SERVER_URL=" + shared.URL, "DSTACK_TOKEN=" + lab.Token, "DSTACK_PROJECT=main",
	}}
}

// refuses checks that a call said this on standard error and nothing else,
// and failed. It reads "~" as the end of what has to be equal.
func refuses(t *testing.T, got lab.Result, want string) {
	t.Helper()
	prefix, open := strings.CutSuffix(want, "~")
	said := strings.TrimSuffix(got.Stderr, "\n")
	fits := said == want || open && strings.HasPrefix(said, prefix)
	if got.Exit != 1 || got.Stdout != "" || !fits {
		t.Errorf("exit %d, stdout %q, stderr:\n%s\nwant exit 1 and:\n%s", got.Exit, got.Stdout, said, want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
