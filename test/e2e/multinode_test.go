//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// withClient puts Debian's SSH client and the program of the tests for nodes
// into the folder $1, for an image.
const withClient = `set -e
mkdir -p "$1/usr/bin"
cp -L /usr/bin/ssh "$1/usr/bin/"
for lib in $(ldd /usr/bin/ssh | grep -o '/[^ ]*'); do mkdir -p "$1$(dirname "$lib")"; cp -L "$lib" "$1$lib"; done
CGO_ENABLED=0 go build -o "$1/usr/bin/ring" ./ring
`

const (
	nodes     = 4
	nodeImage = lab.Registry + "/nodes:1"
)

// cluster applies a fleet of hosts in one network.
func cluster(t *testing.T, name string) []*lab.Machine {
	t.Helper()
	root := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", withClient, "sh", root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := shared.lab.Derive(t.Context(), lab.Busybox, root, nodeImage); err != nil {
		t.Fatal(err)
	}
	var hosts strings.Builder
	var machines []*lab.Machine
	for range nodes {
		m, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{Images: []string{nodeImage}})
		if err != nil {
			t.Fatal(err)
		}
		machines = append(machines, m)
		fmt.Fprintf(&hosts, "    - {hostname: %s, identity_file: %s}\n", m.IP, m.Key)
	}
	file := filepath.Join(t.TempDir(), "fleet.dstack.yml")
	text := "type: fleet\nname: " + name + "\nplacement: cluster\nssh_config:\n  user: ubuntu\n  hosts:\n" + hosts.String()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	result, err := shared.server.CLI(t.Context(), t.TempDir(), "apply", "-f", file, "-y")
	if err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	return machines
}

// ends submits a task of all nodes and waits for its end.
func ends(t *testing.T, name string, task map[string]any) api.Run {
	t.Helper()
	submitNodes(t, name, task)
	run, err := shared.server.Finish(t.Context(), name, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func submitNodes(t *testing.T, name string, task map[string]any) {
	t.Helper()
	all := map[string]any{"image": nodeImage, "nodes": nodes, "fleets": []string{"cluster"}}
	maps.Copy(all, task)
	if _, err := shared.server.Submit(t.Context(), name, all); err != nil {
		t.Fatal(err)
	}
}

// of is the run as if the node were its only one.
func of(run api.Run, rank int) api.Run {
	list := run.Jobs[rank].JobSubmissions
	run.LatestJobSubmission = &list[len(list)-1]
	return run
}

// hostOf is the machine of a node.
func hostOf(run api.Run, rank int, machines []*lab.Machine) *lab.Machine {
	host := of(run, rank).LatestJobSubmission.JobProvisioningData.Hostname
	return machines[slices.IndexFunc(machines, func(m *lab.Machine) bool { return m.IP == *host })]
}

func nodeLog(t *testing.T, run api.Run, rank int) string {
	t.Helper()
	log, err := shared.server.Logs(t.Context(), of(run, rank))
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

// nodeEnds says how each node ended.
func nodeEnds(run api.Run) []string {
	var out []string
	for rank := range run.Jobs {
		job := of(run, rank).LatestJobSubmission
		out = append(out, string(job.Status)+" "+text(job.TerminationReason))
	}
	return out
}

// TestMultinode runs tasks of four nodes on four hosts.
func TestMultinode(t *testing.T) {
	machines := cluster(t, "cluster")
	t.Run("all-reduce", func(t *testing.T) { allAgree(t, "all-reduce", "ring reduce") })
	t.Run("rendezvous", func(t *testing.T) { allAgree(t, "rendezvous", "ring meet") })
	t.Run("launch", launch)
	t.Run("killed", func(t *testing.T) { killed(t, machines) })
	for fleet, want := range map[string]string{"lab": "a multi-node run needs a fleet with `placement: cluster`", "cluster": "its hosts are busy"} {
		t.Run("too many for "+fleet, func(t *testing.T) {
			run := ends(t, "too-many", map[string]any{"commands": []string{"true"}, "nodes": nodes + 1, "fleets": []string{fleet}})
			message := text(of(run, 0).LatestJobSubmission.TerminationReasonMessage)
			if run.Status != api.RunFailed || !strings.Contains(message, want) {
				t.Errorf("run is %s: %q, want %q in it", run.Status, message, want)
			}
		})
	}
}

// allAgree wants every node to know the sum of what all nodes brought.
func allAgree(t *testing.T, name, command string) {
	run := ends(t, name, map[string]any{"commands": []string{command}})
	if run.Status != api.RunDone {
		t.Errorf("run is %s, its nodes %q", run.Status, nodeEnds(run))
	}
	for rank := range nodes {
		if want, log := fmt.Sprintf("rank %d of 4: sum 10\r\n", rank), nodeLog(t, run, rank); !strings.HasSuffix(log, want) {
			t.Errorf("node %d says %q, want %q at its end", rank, log, want)
		}
	}
}

// launch starts a program on every node from the master, over SSH, by the
// host file, as mpirun does: the workers are there before the master, and end
// with it.
func launch(t *testing.T) {
	run := ends(t, "launch", map[string]any{
		"user": "worker", "startup_order": "workers-first", "stop_criteria": "master-done",
		"commands": []string{
			"echo up $(cat /proc/uptime)",
			`if [ "$DSTACK_NODE_RANK" != 0 ]; then sleep 600; exit 1; fi`,
			`while read host; do ssh -n -o BatchMode=yes $host 'echo $DSTACK_RUN_NAME $DSTACK_NODE_RANK $(id -un); ring meet' & done <$DSTACK_MPI_HOSTFILE; wait`,
		},
	})
	if ends := nodeEnds(run); run.Status != api.RunDone || slices.ContainsFunc(ends, func(s string) bool { return s != "done done_by_runner" }) {
		t.Errorf("run is %s, its nodes %q", run.Status, ends)
	}
	log := nodeLog(t, run, 0)
	var last float64
	for rank := range nodes {
		for _, want := range []string{fmt.Sprintf("launch %d worker\r\n", rank), fmt.Sprintf("rank %d of 4: sum 10\r\n", rank)} {
			if !strings.Contains(log, want) {
				t.Errorf("the master says %q, want %q in it", log, want)
			}
		}
		if rank > 0 {
			last = max(last, upAt(t, nodeLog(t, run, rank)))
		}
	}
	if first := upAt(t, log); first < last {
		t.Errorf("the master was up at %g, a worker at %g", first, last)
	}
}

// upAt is when a node was up; all hosts of the lab have one clock.
func upAt(t *testing.T, log string) float64 {
	t.Helper()
	_, rest, _ := strings.Cut(log, "\nup ")
	number, _, _ := strings.Cut(rest, " ")
	at, err := strconv.ParseFloat(number, 64)
	if err != nil {
		t.Fatalf("log is %q: %v", log, err)
	}
	return at
}

// killed kills the container of a node of a task at work: the others end with
// it, and all hosts are free.
func killed(t *testing.T, machines []*lab.Machine) {
	submitNodes(t, "killed", map[string]any{"commands": []string{"ring forever"}})
	run, err := shared.server.WaitRun(t.Context(), "killed", time.Minute, "sum of all nodes", func(r api.Run) bool {
		for rank := range r.Jobs {
			if of(r, rank).LatestJobSubmission.Status != api.JobRunning || !strings.Contains(nodeLog(t, r, rank), "sum 10") {
				return false
			}
		}
		return len(r.Jobs) == nodes
	})
	if err != nil {
		t.Fatal(err)
	}
	if code, out, errs := tool(t, t.TempDir(), nil, "exec", "killed", "--job", "3", "--", "sh", "-c", "echo node $DSTACK_NODE_RANK"); code != 0 || out != "node 3\n" {
		t.Errorf("a user in node 3: %d, %q, %q", code, out, errs)
	}
	if _, err := hostOf(run, 2, machines).Exec(t.Context(), "docker kill $(docker ps -q)"); err != nil {
		t.Fatal(err)
	}
	if run, err = shared.server.Finish(t.Context(), "killed", time.Minute); err != nil {
		t.Fatal(err)
	}
	want := slices.Repeat([]string{"terminated terminated_by_server"}, nodes)
	want[2] = "failed executor_error" // its agent is gone
	if ends := nodeEnds(run); run.Status != api.RunFailed || text(run.TerminationReason) != string(api.ReasonJobFailed) || !slices.Equal(ends, want) {
		t.Errorf("run is %s because of %s, its nodes %q", run.Status, text(run.TerminationReason), ends)
	}
	for _, m := range machines {
		err := lab.Wait(t.Context(), 20*time.Second, "free host", func(ctx context.Context) error {
			left, err := m.Containers(ctx)
			if err == nil && len(left) > 0 {
				err = fmt.Errorf("%s has %q: %w", m.Name, left, errNotReady)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
