//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// fakeNVIDIA makes a machine look as if it had eight GPUs. nvidia-smi says
// what a file next to it says of their health; inside of containers it lists
// those that the container was given, at work for 3 %. The hook stands for the
// nvidia-container-toolkit: with it the Docker Engine takes requests for GPUs
// and tells each container by its environment which it has.
const fakeNVIDIA = `set -e
mkdir -p /opt/nvidia
cat >/opt/nvidia/nvidia-smi <<'END'
#!/bin/sh
case "$1" in
--query-gpu=name,*) for i in 0 1 2 3 4 5 6 7; do echo "NVIDIA H100 80GB HBM3, 81559, GPU-$i, 550.1"; done ;;
--query-gpu=index,*) for i in 0 1 2 3 4 5 6 7; do echo "$i, GPU-$i, $(cat /opt/nvidia/failed 2>/dev/null || echo No), No, No, 0"; done ;;
--query-gpu=memory.used,*) for id in $(echo $NVIDIA_VISIBLE_DEVICES | tr , ' '); do echo "1024, 3"; done ;;
*) exit 2 ;;
esac
END
chmod 755 /opt/nvidia/nvidia-smi
ln -sf /opt/nvidia/nvidia-smi /usr/bin/nvidia-smi
printf '#!/bin/sh\nexit 0\n' >/usr/bin/nvidia-container-runtime-hook
chmod 755 /usr/bin/nvidia-container-runtime-hook
touch /dev/nvidiactl
systemctl reset-failed docker
systemctl restart docker
`

// limits prints what the container may use, with control groups of version 1 or 2.
const limits = `echo gpus $NVIDIA_VISIBLE_DEVICES
if [ -f /sys/fs/cgroup/cpu.max ]; then echo cpu $(cat /sys/fs/cgroup/cpu.max); echo memory $(cat /sys/fs/cgroup/memory.max)
else echo cpu $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us) $(cat /sys/fs/cgroup/cpu/cpu.cfs_period_us); echo memory $(cat /sys/fs/cgroup/memory/memory.limit_in_bytes); fi
sleep 600`

const blocks = 4

// gpuFleet applies a fleet of one machine with eight GPUs in four blocks.
func gpuFleet(t *testing.T, name string) *lab.Machine {
	t.Helper()
	machine, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{Images: []string{lab.Busybox}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := machine.Exec(t.Context(), fakeNVIDIA); err != nil {
		t.Fatal(err)
	}
	// A machine of the lab may have fewer CPUs than blocks.
	text := fmt.Sprintf("type: fleet\nname: %s\nblocks: %d\nenv:\n  DSTACK_SHIM_CPUS: '8'\nssh_config:\n  user: ubuntu\n  hosts: [{hostname: %s, identity_file: %s, blocks: %d}]\n",
		name, blocks, machine.IP, machine.Key, blocks)
	file := filepath.Join(t.TempDir(), "fleet.dstack.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if result, err := shared.server.CLI(t.Context(), t.TempDir(), "apply", "-f", file, "-y"); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	return machine
}

// onGPUs is a task for two of the eight GPUs. Its container gets the fake
// nvidia-smi, as the toolkit would give it the real one.
func onGPUs(fleet, command string) map[string]any {
	return map[string]any{
		"image": lab.Busybox, "commands": []string{command}, "fleets": []string{fleet},
		"volumes":   []string{"/opt/nvidia/nvidia-smi:/usr/bin/nvidia-smi", "/dev/nvidiactl:/dev/nvidiactl"},
		"resources": map[string]any{"cpu": "1..", "memory": "0.1..", "disk": "1GB..", "shm_size": "32MB", "gpu": map[string]any{"name": "H100", "count": 2}},
	}
}

// said waits until a run's log has all lines with these first words, and
// returns what follows each.
func said(t *testing.T, run api.Run, words ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := lab.Wait(t.Context(), time.Minute, "log of "+*run.RunSpec.RunName, func(ctx context.Context) error {
		log, err := shared.server.Logs(ctx, run)
		for line := range strings.Lines(string(log)) {
			if word, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				found[word] = rest
			}
		}
		for _, w := range words {
			if found[w] == "" {
				return fmt.Errorf("log is %q, %w: %w", log, err, errNotReady)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestBlocks runs four jobs at once on one host, each in its share: CPU and
// memory as its control group says from inside, and GPUs that no other has.
// A fifth finds no place; a GPU that fails keeps new jobs away and lets the
// others go on.
func TestBlocks(t *testing.T) {
	machine := gpuFleet(t, "blocks")
	var runs []api.Run
	for i := range blocks {
		name := fmt.Sprint("block-", i)
		if _, err := shared.server.Submit(t.Context(), name, onGPUs("blocks", limits)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range blocks {
		run, err := shared.server.WaitRun(t.Context(), fmt.Sprint("block-", i), time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning })
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run)
	}
	var given, memory []string
	for _, run := range runs {
		has := said(t, run, "gpus", "cpu", "memory")
		if has["cpu"] != "200000 100000" {
			t.Errorf("%s may use CPUs for %s µs", *run.RunSpec.RunName, has["cpu"])
		}
		memory = append(memory, has["memory"])
		own := strings.Split(has["gpus"], ",")
		if len(own) != 2 {
			t.Errorf("%s has GPUs %v", *run.RunSpec.RunName, own)
		}
		given = append(given, own...)
	}
	slices.Sort(given)
	if want := "GPU-0 GPU-1 GPU-2 GPU-3 GPU-4 GPU-5 GPU-6 GPU-7"; strings.Join(given, " ") != want {
		t.Errorf("given: %v", given)
	}
	share := runs[0].LatestJobSubmission.JobRuntimeData.Offer.Instance.Resources.MemoryMiB
	if want := fmt.Sprint(int64(share) << 20); slices.Contains(memory, "max") || strings.Count(strings.Join(memory, " "), want) != blocks {
		t.Errorf("memory limits are %v, want %s", memory, want)
	}
	list, err := shared.server.CLI(t.Context(), t.TempDir(), "fleet", "-v")
	if err != nil || !strings.Contains(list.Stdout, "busy") || !strings.Contains(list.Stdout, "H100") {
		t.Errorf("%+v, %v", list, err)
	}

	if _, err := shared.server.Submit(t.Context(), "block-4", onGPUs("blocks", limits)); err != nil {
		t.Fatal(err)
	}
	if run, err := shared.server.Finish(t.Context(), "block-4", time.Minute); err != nil || run.Status != api.RunFailed ||
		*run.LatestJobSubmission.TerminationReason != string(api.ReasonNoCapacity) {
		t.Errorf("one too many: %s, %v", run.Status, err)
	}
	gpuMetrics(t, "block-0")
	gpuFails(t, machine, runs[1:])
	for _, run := range runs {
		if result, err := shared.server.CLI(t.Context(), t.TempDir(), "stop", "-y", "-x", *run.RunSpec.RunName); err != nil || result.Exit != 0 {
			t.Errorf("%+v, %v", result, err)
		}
	}
	for _, run := range runs {
		if _, err := shared.server.Finish(t.Context(), *run.RunSpec.RunName, time.Minute); err != nil {
			t.Error(err)
		}
	}
	if result, err := shared.server.CLI(t.Context(), t.TempDir(), "fleet", "delete", "-y", "blocks"); err != nil || result.Exit != 0 {
		t.Errorf("%+v, %v", result, err)
	}
}

// gpuMetrics wants the use of a job's own two GPUs.
func gpuMetrics(t *testing.T, name string) {
	t.Helper()
	err := lab.Wait(t.Context(), 30*time.Second, "use of GPUs", func(ctx context.Context) error {
		body, err := get(ctx, "/api/project/main/metrics/job/"+name)
		if err != nil {
			return err
		}
		var m api.JobMetrics
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			return err
		}
		seen := map[string]float64{}
		for _, s := range m.Metrics {
			seen[s.Name] = s.Values[0]
		}
		if seen["gpus_detected_num"] != 2 || seen["gpu_util_percent_gpu1"] != 3 || seen["gpu_memory_usage_bytes_gpu0"] != 1<<30 {
			return fmt.Errorf("metrics are %v: %w", seen, errNotReady)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// gpuFails lets a GPU of the host fail.
func gpuFails(t *testing.T, machine *lab.Machine, still []api.Run) {
	t.Helper()
	// A shim that starts looks at once; else it would in a minute.
	if _, err := machine.Exec(t.Context(), "echo Yes >/opt/nvidia/failed && systemctl restart dstack-shim"); err != nil {
		t.Fatal(err)
	}
	var checks api.HealthChecks
	err := lab.Wait(t.Context(), time.Minute, "health", func(ctx context.Context) error {
		err := shared.server.Call(ctx, "project/main/instances/get_instance_health_checks", map[string]any{"fleet_name": "blocks", "instance_num": 0}, &checks)
		if err == nil && (len(checks.HealthChecks) == 0 || checks.HealthChecks[0].Status != api.HealthFailure) {
			err = fmt.Errorf("%+v: %w", checks, errNotReady)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if events := checks.HealthChecks[0].Events; len(events) != 8 || !strings.Contains(events[0].Message, "GPU 0 (GPU-0): a row of its memory could not be replaced") {
		t.Errorf("events are %+v", events)
	}
	var fleet api.Fleet
	if err := shared.server.Call(t.Context(), "project/main/fleets/get", map[string]any{"name": "blocks"}, &fleet); err != nil || fleet.Instances[0].HealthStatus != "failure" {
		t.Errorf("health is %q, %v", fleet.Instances[0].HealthStatus, err)
	}
	for _, run := range still {
		now, err := shared.server.Run(t.Context(), *run.RunSpec.RunName)
		if err != nil || now.Status != api.RunRunning {
			t.Errorf("%s is %s, %v", *run.RunSpec.RunName, now.Status, err)
		}
	}
}

// TestUtilizationPolicy ends a job whose GPUs work for 3 % only. The shortest
// window is five minutes: `make long`.
func TestUtilizationPolicy(t *testing.T) {
	if os.Getenv("E2E_LONG") == "" {
		t.Skip("takes five minutes; set E2E_LONG=1")
	}
	gpuFleet(t, "lazy")
	task := onGPUs("lazy", "sleep 900")
	task["utilization_policy"] = map[string]any{"min_gpu_utilization": 10, "time_window": "5m"}
	if _, err := shared.server.Submit(t.Context(), "lazy", task); err != nil {
		t.Fatal(err)
	}
	run, err := shared.server.Finish(t.Context(), "lazy", 8*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if reason := run.LatestJobSubmission.TerminationReason; run.Status != api.RunTerminated && run.Status != api.RunFailed || *reason != string(api.ReasonUtilization) {
		t.Errorf("run is %s, reason %s", run.Status, *reason)
	}
}
