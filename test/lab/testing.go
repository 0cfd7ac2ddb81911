//go:build e2e

package lab

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// OpenFor opens the lab for a test and closes it at the test's end.
func OpenFor(t *testing.T) *Lab {
	t.Helper()
	l, err := Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// ServerFor starts a server of its own for a test and stops it at the test's end.
func ServerFor(t *testing.T, env []string, args ...string) *Server {
	t.Helper()
	s, err := StartServer(t.Context(), t.TempDir(), env, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Refused starts a server that must not start, and returns the only line that
// it prints to standard error.
func Refused(t *testing.T, dir string, env []string) string {
	t.Helper()
	began := time.Now()
	cmd := exec.CommandContext(t.Context(), Binary("dstack"), "server", "--port", "1", "-n")
	cmd.Env = append(cmd.Environ(), env...)
	cmd.Env = append(cmd.Env, "HOME="+dir, "DSTACK_SERVER_DIR="+filepath.Join(dir, "server"), "COLUMNS=500")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("ended after %s", took)
	}
	text := strings.TrimSpace(stderr.String())
	if strings.Contains(text, "\n") {
		t.Errorf("more than a sentence: %s", text)
	}
	return text
}
