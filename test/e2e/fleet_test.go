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

// TestHostProblems applies fleets of hosts that cannot work and wants the
// reason and the remedy in the output of apply and in `dstack fleet -v`.
func TestHostProblems(t *testing.T) {
	noDocker, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{NoDocker: true})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, user, host, key string
		want                  []string
	}{
		{"no-docker", "ubuntu", noDocker.IP, noDocker.Key, []string{"Docker", "install"}},
		{"no-sudo", "plain", noDocker.IP, noDocker.Key, []string{"sudo", "plain"}},
		{"wrong-key", "ubuntu", noDocker.IP, shared.machines[0].Key, []string{"none of the keys", noDocker.IP}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "fleet.dstack.yml")
			text := fmt.Sprintf("type: fleet\nname: %s\nssh_config:\n  user: %s\n  identity_file: %s\n  hosts: [%s]\n", tt.name, tt.user, tt.key, tt.host)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			result, err := shared.server.CLI(t.Context(), t.TempDir(), "apply", "-f", file, "-y")
			if err != nil {
				t.Fatal(err)
			}
			if result.Exit != 1 {
				t.Errorf("apply exited with %d, want 1", result.Exit)
			}
			list, err := shared.server.CLI(t.Context(), t.TempDir(), "fleet", "-v")
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(strings.ToLower(result.Stdout+result.Stderr), strings.ToLower(want)) {
					t.Errorf("apply says %q, want %q in it", result.Stdout+result.Stderr, want)
				}
				if !strings.Contains(strings.ToLower(list.Stdout), strings.ToLower(want)) {
					t.Errorf("fleet -v says %q, want %q in it", list.Stdout, want)
				}
			}
			if result, err := shared.server.CLI(t.Context(), t.TempDir(), "fleet", "delete", "-y", tt.name); err != nil || result.Exit != 0 {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

// TestFleetDelete wants a host as it was before: no unit, binary, key or folder.
func TestFleetDelete(t *testing.T) {
	for name, opts := range map[string]lab.MachineOptions{
		"sftp":    {Images: []string{lab.Busybox}},
		"no-sftp": {Images: []string{lab.Busybox}, NoSFTP: true},
	} {
		t.Run(name, func(t *testing.T) {
			machine, err := shared.lab.NewMachine(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			if result, err := shared.server.ApplyFleet(t.Context(), name, machine); err != nil || result.Exit != 0 {
				t.Fatalf("%+v, %v", result, err)
			}
			task := map[string]any{"image": lab.Busybox, "commands": []string{"echo hello"}, "fleets": []string{name}}
			if _, err := shared.server.Submit(t.Context(), "on-"+name, task); err != nil {
				t.Fatal(err)
			}
			run, err := shared.server.Finish(t.Context(), "on-"+name, time.Minute)
			if err != nil || run.Status != api.RunDone {
				t.Fatalf("%s, %v", run.Status, err)
			}
			if result, err := shared.server.CLI(t.Context(), t.TempDir(), "fleet", "delete", "-y", name); err != nil || result.Exit != 0 {
				t.Fatalf("%+v, %v", result, err)
			}
			left, err := machine.Exec(t.Context(), `ls -d /root/.dstack /usr/local/bin/dstack-* /usr/local/lib/dstack /etc/systemd/system/dstack-shim.service 2>/dev/null
				systemctl list-units --all --plain --no-legend 'dstack*'; pgrep -a '^dstack-'; grep -l 'added by dstack' /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys; docker ps -aq; true`)
			if err != nil || left != "" {
				t.Errorf("left on the host: %q, %v", left, err)
			}
		})
	}
}

// TestHostOfAnotherServer applies a fleet with a host that runs a job of
// another server: it is refused, and the job goes on.
func TestHostOfAnotherServer(t *testing.T) {
	second := lab.ServerFor(t, nil)
	jobGoesOn(t, "first-come", func(m *lab.Machine) {
		result, err := second.ApplyFleet(t.Context(), "taken", m)
		if err != nil || result.Exit != 1 || !strings.Contains(result.Stdout+result.Stderr, "another dstack server") {
			t.Errorf("the second server says %+v, %v", result, err)
		}
		if result, err = second.CLI(t.Context(), t.TempDir(), "fleet", "delete", "-y", "taken"); err != nil || result.Exit != 0 {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

// TestShimRestartKeepsJob restarts the shim under a running job: the job goes on.
func TestShimRestartKeepsJob(t *testing.T) {
	jobGoesOn(t, "keeps", func(m *lab.Machine) {
		if _, err := m.Exec(t.Context(), "systemctl restart dstack-shim"); err != nil {
			t.Fatal(err)
		}
	})
}

// jobGoesOn lets a job count aloud while something happens to its host, and
// wants every number in the log.
func jobGoesOn(t *testing.T, name string, happens func(*lab.Machine)) {
	t.Helper()
	task := map[string]any{"image": lab.Busybox, "entrypoint": "/bin/sh -c", "commands": []string{"for i in $(seq 1 80); do echo $i; sleep 0.1; done"}}
	if _, err := shared.server.Submit(t.Context(), name, task); err != nil {
		t.Fatal(err)
	}
	run, err := shared.server.WaitRun(t.Context(), name, time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning })
	if err != nil {
		t.Fatal(err)
	}
	happens(machineOf(t, run))
	run, err = shared.server.Finish(t.Context(), name, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	log, err := shared.server.Logs(t.Context(), run)
	if err != nil || run.Status != api.RunDone || strings.Count(string(log), "\n") != 80 {
		t.Errorf("run is %s with %d lines, %v", run.Status, strings.Count(string(log), "\n"), err)
	}
}

// TestIsolation looks from inside a container, with host networking, for the
// shim's socket and for anything that listens.
func TestIsolation(t *testing.T) {
	command := `find / -xdev -name shim.sock 2>/dev/null; cat /proc/net/unix | grep -i dstack | grep -v '/dstack/.task/'; ls /root/.dstack 2>/dev/null; touch /usr/local/bin/dstack-agent 2>/dev/null && echo writable; true`
	if _, err := shared.server.Submit(t.Context(), "inside", map[string]any{"image": lab.Busybox, "entrypoint": "/bin/sh -c", "commands": []string{command}}); err != nil {
		t.Fatal(err)
	}
	run, err := shared.server.Finish(t.Context(), "inside", time.Minute)
	if err != nil || run.Status != api.RunDone {
		t.Fatalf("%s, %v", run.Status, err)
	}
	log, err := shared.server.Logs(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		// Names of sockets are seen under host networking; none can be opened.
		if !strings.Contains(line, "/root/.dstack/") {
			t.Errorf("the container sees %q", line)
		}
	}
}

// TestDemo runs `make demo`'s script on a machine with an engine and on one without.
func TestDemo(t *testing.T) {
	for name, opts := range map[string]lab.MachineOptions{"docker": {}, "process": {NoDocker: true}} {
		t.Run(name, func(t *testing.T) {
			machine, err := shared.lab.NewMachine(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			root := filepath.Dir(filepath.Dir(lab.Binary("dstack")))
			if err := machine.Copy(t.Context(), root, "/demo", "bin/dstack", "examples", "test/demo"); err != nil {
				t.Fatal(err)
			}
			out, err := machine.Exec(t.Context(), "cd /demo && test/demo/demo.sh 2>&1")
			if err != nil || !strings.Contains(out, "Hello") {
				t.Errorf("demo: %v\n%s", err, out)
			}
			if name == "process" && !strings.Contains(out, "no isolation") {
				t.Errorf("the plan does not say that there is no isolation:\n%s", out)
			}
			err = lab.Wait(t.Context(), 10*time.Second, "end of what the demo started", func(ctx context.Context) error {
				left, err := machine.Exec(ctx, "pgrep -af '[d]stack-(shim|agent)|[d]stack server'; ls -d /tmp/dstack-demo.* 2>/dev/null; true")
				if err == nil && left != "" {
					err = fmt.Errorf("left: %s", left)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
