//go:build e2e

package bench

import (
	"bufio"
	"context"
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

// TestFootprint prints start-up time, memory at rest and sizes on disk.
func TestFootprint(t *testing.T) {
	ctx := t.Context()
	l := lab.OpenFor(t)
	var machines []*lab.Machine
	for range 2 {
		m, err := l.NewMachine(ctx, lab.MachineOptions{Images: []string{lab.Busybox}})
		if err != nil {
			t.Fatal(err)
		}
		machines = append(machines, m)
	}
	s := lab.ServerFor(t, nil)
	if result, err := s.ApplyFleet(ctx, "lab", machines...); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := s.Submit(ctx, "resident", map[string]any{"image": lab.Busybox, "commands": []string{"sleep 600"}}); err != nil {
		t.Fatal(err)
	}
	run, err := s.WaitRun(ctx, "resident", time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning })
	if err != nil {
		t.Fatal(err)
	}
	machine := machines[0]
	if *run.LatestJobSubmission.JobProvisioningData.Hostname == machines[1].IP {
		machine = machines[1]
	}
	var report strings.Builder
	var starts []time.Duration
	for range 5 {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := s.StartQuick(ctx); err != nil {
			t.Fatal(err)
		}
		starts = append(starts, time.Since(begin))
	}
	fmt.Fprintf(&report, "server ready after start:  median %s\n", round(median(starts)))
	err = lab.Wait(ctx, time.Minute, "both hosts connected", func(ctx context.Context) error {
		var instances []api.Instance
		if err := s.Call(ctx, "instances/list", map[string]any{"only_active": true}, &instances); err != nil {
			return err
		}
		if len(instances) != 2 || instances[0].Unreachable || instances[1].Unreachable {
			return fmt.Errorf("%d instances", len(instances))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(15 * time.Second) // at rest, not in the middle of its start
	fmt.Fprintf(&report, "server memory, 2 hosts:    %s\n", rss(t, "/proc", fmt.Sprint(s.PID())))
	for _, name := range []string{"dstack-shim serve", "dstack-agent run", "dstack-agent init"} {
		pids, err := machine.Exec(ctx, "pgrep -f '^[^ ]*"+name+"'")
		if err != nil {
			t.Fatal(err)
		}
		root, err := machine.Path(ctx, "/proc")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&report, "%-26s %s\n", name+" memory:", rss(t, root, strings.Fields(pids)[0]))
	}
	for _, name := range []string{"dstack", "dstack-shim", "dstack-agent"} {
		info, err := os.Stat(lab.Binary(name))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&report, "%-26s %.1f MB\n", name+" on disk:", float64(info.Size())/1e6)
	}
	for _, args := range [][]string{{"--version"}, {"ps"}} {
		var times []time.Duration
		for range 10 {
			begin := time.Now()
			cmd := exec.Command(lab.Binary("dstack"), args...)
			cmd.Env = append(os.Environ(), "HOME="+filepath.Join(s.Dir, "home"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			times = append(times, time.Since(begin))
		}
		fmt.Fprintf(&report, "%-26s median %s\n", "dstack "+args[0]+":", round(median(times)))
	}
	t.Log("\n" + report.String())
}

// rss reads resident memory from a proc file system.
func rss(t *testing.T, proc, pid string) string {
	t.Helper()
	file, err := os.Open(filepath.Join(proc, pid, "status"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no VmRSS in %s", file.Name())
	return ""
}
