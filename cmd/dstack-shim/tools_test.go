package main

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestTools(t *testing.T) {
	tools := newTools(200 * time.Millisecond)
	if out, err := tools.run(t.Context(), "echo", "x"); err != nil || string(out) != "x\n" {
		t.Errorf("echo: %q, %v", out, err)
	}
	if _, err := tools.run(t.Context(), "no-such-tool"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("a missing tool: %v", err)
	}
	out, err := tools.run(t.Context(), "sh", "-c", "echo why; echo because >&2; exit 3")
	var exit *exec.ExitError
	if string(out) != "why\n" || !errors.As(err, &exit) || string(exit.Stderr) != "because\n" {
		t.Errorf("one that fails: %q, %v", out, err)
	}
	if _, err := tools.run(t.Context(), "sh", "-c", "sleep 60"); err == nil || !strings.Contains(err.Error(), "did not answer within") {
		t.Errorf("one that takes long: %v", err)
	}
	tools.hang("sh", true)
	if _, err := tools.run(t.Context(), "sh", "-c", "true"); err == nil || !strings.Contains(err.Error(), "still hangs") {
		t.Errorf("one that hangs: %v", err)
	}
	tools.hang("sh", false)
	if _, err := tools.run(t.Context(), "sh", "-c", "true"); err != nil {
		t.Errorf("one that hung: %v", err)
	}
}
