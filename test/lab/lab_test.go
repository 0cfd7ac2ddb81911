//go:build e2e

package lab_test

import (
	"context"
	"testing"

	"dstack/test/lab"
)

// TestLab shows that the lab itself holds: a machine boots, takes SSH logins,
// runs a container of the registry's image, and comes back from a power cut.
func TestLab(t *testing.T) {
	ctx := context.Background()
	l := lab.OpenFor(t)
	m, err := l.NewMachine(ctx, lab.MachineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		out, err := m.Exec(ctx, "docker run --rm "+lab.Busybox+" echo hello")
		if err != nil || out != "hello" {
			t.Fatalf("run in machine: %q, %v", out, err)
		}
		out, err = lab.SSH(ctx, m, "ubuntu", "sudo -n id -u")
		if err != nil || out != "0" {
			t.Fatalf("ssh to machine: %q, %v", out, err)
		}
		if err := m.Reboot(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
