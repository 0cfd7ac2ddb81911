//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/test/lab"
)

// TestHostOfPredecessor adds a host on which a job of dstack 0.22 runs, or
// seems to: it is left alone, and comes into the fleet once the job is gone.
func TestHostOfPredecessor(t *testing.T) {
	machine, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{Images: []string{lab.Busybox}})
	if err != nil {
		t.Fatal(err)
	}
	const old = `cd /usr/local/bin && printf '#!/bin/sh\ntouch /ran\n' >dstack-shim && cp dstack-shim dstack-runner && chmod 755 dstack-shim dstack-runner
		docker run -d --name train-0-0-1a2b3c4d --label ai.dstack.shim.is-task=true --label ai.dstack.shim.task-id=t ` + lab.Busybox + ` sleep 600`
	if _, err := machine.Exec(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "fleet.dstack.yml")
	text := fmt.Sprintf("type: fleet\nname: inherited\nssh_config: {user: ubuntu, identity_file: %s, hosts: [%s]}\n", machine.Key, machine.IP)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	apply := shared.server.Command(t.Context(), t.TempDir(), lab.Binary("dstack"), "apply", "-f", file, "-y")
	var said strings.Builder
	apply.Stdout, apply.Stderr = &said, &said
	if err := apply.Start(); err != nil {
		t.Fatal(err)
	}
	err = lab.Wait(t.Context(), 30*time.Second, "the host is left alone", func(ctx context.Context) error {
		list, err := shared.server.CLI(ctx, t.TempDir(), "fleet", "-v")
		if text := strings.Join(strings.Fields(list.Stdout), " "); err == nil && !strings.Contains(text, "train-0-0-1a2b3c4d") {
			err = fmt.Errorf("%s: %w", text, errNotReady)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	left, err := machine.Exec(t.Context(), "docker ps --format '{{.Names}}'; ls /ran 2>/dev/null; grep -c touch /usr/local/bin/dstack-shim; docker rm -f train-0-0-1a2b3c4d >/dev/null")
	if want := "train-0-0-1a2b3c4d\n1"; err != nil || strings.TrimSpace(left) != want {
		t.Errorf("on the host: %q, want %q, %v", left, want, err)
	}
	if err := apply.Wait(); err != nil {
		t.Errorf("apply: %v\n%s", err, said.String())
	}
	if gone, err := machine.Exec(t.Context(), "ls /ran /usr/local/bin/dstack-runner 2>/dev/null; true"); err != nil || gone != "" {
		t.Errorf("of 0.22 there is %q, %v", gone, err)
	}
	if result, err := shared.server.CLI(t.Context(), t.TempDir(), "fleet", "delete", "-y", "inherited"); err != nil || result.Exit != 0 {
		t.Errorf("%+v, %v", result, err)
	}
}
