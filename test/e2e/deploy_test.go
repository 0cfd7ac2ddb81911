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

	"dstack/protocol/api"
	"dstack/test/lab"
)

// TestUpdateShim changes the installed shim under a running job, as an older
// version would differ: the next connection brings this build's shim, and the
// job goes on.
func TestUpdateShim(t *testing.T) {
	jobGoesOn(t, "updates", func(machine *lab.Machine) {
		digest := "sha256sum /usr/local/bin/dstack-shim | cut -c1-64"
		want, err := machine.Exec(t.Context(), digest)
		if err != nil {
			t.Fatal(err)
		}
		script := `cd /usr/local/bin && cp dstack-shim old && printf old >>old && mv old dstack-shim && systemctl restart dstack-shim`
		if _, err := machine.Exec(t.Context(), script); err != nil {
			t.Fatal(err)
		}
		err = lab.Wait(t.Context(), 30*time.Second, "this build's shim", func(ctx context.Context) error {
			got, err := machine.Exec(ctx, digest)
			if err == nil && got != want {
				err = fmt.Errorf("digest %s: %w", got, errNotReady)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestOtherWays deploys where the usual way does not work: through a jump host
// with an override of the user, and where nothing but sshd runs.
func TestOtherWays(t *testing.T) {
	bare, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{NoSystemd: true})
	if err != nil {
		t.Fatal(err)
	}
	target, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{Images: []string{lab.Busybox}})
	if err != nil {
		t.Fatal(err)
	}
	jump := shared.machines[0]
	tests := []struct{ name, fleet, restart string }{
		{"jump", fmt.Sprintf("ssh_config:\n  user: nobody-here\n  hosts:\n    - hostname: %s\n      user: root\n      identity_file: %s\n      proxy_jump: {hostname: %s, user: ubuntu, identity_file: %s}\n",
			target.IP, target.Key, jump.IP, jump.Key), ""},
		{"bare", fmt.Sprintf("env: [DSTACK_SHIM_RUNTIME=process]\nssh_config: {user: ubuntu, identity_file: %s, hosts: [%s]}\n", bare.Key, bare.IP),
			"dstack-shim serve"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "fleet.dstack.yml")
			if err := os.WriteFile(file, []byte("type: fleet\nname: "+tt.name+"\n"+tt.fleet), 0o600); err != nil {
				t.Fatal(err)
			}
			if result, err := shared.server.CLI(t.Context(), t.TempDir(), "apply", "-f", file, "-y"); err != nil || result.Exit != 0 {
				t.Fatalf("%+v, %v", result, err)
			}
			task := map[string]any{"image": lab.Busybox, "commands": []string{"sleep 3", "echo way " + tt.name}, "fleets": []string{tt.name}}
			if _, err := shared.server.Submit(t.Context(), "way-"+tt.name, task); err != nil {
				t.Fatal(err)
			}
			if tt.restart != "" {
				_, err := shared.server.WaitRun(t.Context(), "way-"+tt.name, time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning })
				if err != nil {
					t.Fatal(err)
				}
				if err := bare.KillProcess(t.Context(), tt.restart); err != nil {
					t.Fatal(err)
				}
			}
			run, err := shared.server.Finish(t.Context(), "way-"+tt.name, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			log, err := shared.server.Logs(t.Context(), run)
			if err != nil || run.Status != api.RunDone || !strings.Contains(string(log), "way "+tt.name) {
				t.Errorf("run is %s (%s), log %q, %v", run.Status, text(run.LatestJobSubmission.TerminationReasonMessage), log, err)
			}
			if result, err := shared.server.CLI(t.Context(), t.TempDir(), "fleet", "delete", "-y", tt.name); err != nil || result.Exit != 0 {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}
