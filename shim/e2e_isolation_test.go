//go:build e2e

package shim

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dstack/protocol/hostapi"
)

func TestE2EIsolation(t *testing.T) {
	s, e := dockerShim(t, false)
	attack := filepath.Join(t.TempDir(), "attack")
	cmd := exec.Command("go", "build", "-o", attack, "./testdata/attack")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build attack: %v: %s", err, out)
	}
	for _, network := range []string{"bridge", "host"} {
		t.Run(network, func(t *testing.T) {
			victim, attacker := "victim-"+network, "attacker-"+network
			s.Put(victim, withID(victim, shell(`sleep 60`)))
			s.Await(victim, hostapi.TaskRunning)
			spec := withID(attacker, shell(`/attack/attack `+filepath.Join(s.home, hostapi.SocketName)+` `+
				filepath.Join(s.home, "tasks", victim, "run", "agent.sock")+` `+filepath.Join(e.dir, "docker.sock")))
			spec.NetworkMode = network
			spec.Mounts = []hostapi.InstanceMount{{Source: filepath.Dir(attack), Target: "/attack"}}
			s.Put(attacker, spec)
			if got := s.Await(attacker, hostapi.TaskTerminated); got.Reason != reasonDone {
				t.Errorf("end = %+v, log %q", got, s.Log(attacker))
			}
			var reached []string
			for line := range strings.Lines(strings.ReplaceAll(s.Log(attacker), "\r", "")) {
				if name, ok := strings.CutPrefix(strings.TrimSpace(line), "reached "); ok {
					reached = append(reached, name)
				}
			}
			ours := 0
			for _, name := range reached {
				switch {
				case name == "@attack-control", name == "/dstack/.task/agent.sock":
					ours++ // its own, which shows that the attack works
				case strings.HasPrefix(name, "@") && !strings.Contains(name, "dstack"):
					t.Logf("abstract socket of the host, not ours: %s", name)
				default:
					t.Errorf("reached %s", name)
				}
			}
			if ours < 2 {
				t.Errorf("the attack did not work: %q", s.Log(attacker))
			}
			s.Remove(victim)
			s.Remove(attacker)
		})
	}
}
