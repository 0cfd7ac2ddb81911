//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// TestMultinodeLong is what takes minutes: `make long`.
func TestMultinodeLong(t *testing.T) {
	if os.Getenv("E2E_LONG") == "" {
		t.Skip("takes six minutes; set E2E_LONG=1")
	}
	machines := cluster(t, "long-cluster")
	t.Run("mpirun", mpirun)
	t.Run("retried", retried)
	t.Run("powerless", func(t *testing.T) { powerless(t, machines) })
}

// withMPI is Debian with OpenMPI, which starts what it runs over SSH.
const withMPI = `ARG MACHINE
FROM ${MACHINE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends openmpi-bin openssh-client >/dev/null
COPY ring /usr/bin/ring
`

const mpiImage = lab.Registry + "/mpi:1"

func buildMPI(t *testing.T) {
	t.Helper()
	t.Setenv("DOCKER_BUILDKIT", "0") // what Engine 20.10 has by itself
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(withMPI), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "ring"), "./ring")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	images, err := shared.lab.Docker(t.Context(), "images", "--format", "{{.Repository}}:{{.Tag}}", "lab-machine")
	if err != nil {
		t.Fatal(err)
	}
	newest, _, _ := strings.Cut(images, "\n")
	for _, args := range [][]string{
		{"build", "-q", "--network", "host", "--build-arg", "MACHINE=" + newest, "-t", mpiImage, dir},
		{"push", mpiImage},
	} {
		if out, err := shared.lab.Docker(t.Context(), args...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// mpirun starts a program on all nodes with the real mpirun, as the
// documentation of 0.22.5 tells users to.
func mpirun(t *testing.T) {
	buildMPI(t)
	submitNodes(t, "mpirun", map[string]any{
		"image": mpiImage, "fleets": []string{"long-cluster"}, "startup_order": "workers-first", "stop_criteria": "master-done",
		"commands": []string{
			`if [ "$DSTACK_NODE_RANK" = 0 ]; then
  mpirun --allow-run-as-root --hostfile $DSTACK_MPI_HOSTFILE -n $DSTACK_NODES_NUM --map-by node --mca oob_tcp_if_include 172.30.99.0/24 ring reduce
else
  sleep infinity
fi`,
		},
	})
	run, err := shared.server.Finish(t.Context(), "mpirun", 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	log := nodeLog(t, run, 0)
	if run.Status != api.RunDone || strings.Count(log, "of 4: sum 10") != nodes {
		t.Errorf("run is %s, its nodes %q\n%s", run.Status, nodeEnds(run), log)
	}
}

// retried lets a node fail at the first attempt: all are started again.
func retried(t *testing.T) {
	submitNodes(t, "retried", map[string]any{
		"fleets": []string{"long-cluster"}, "retry": map[string]any{"on_events": []string{"error"}, "duration": "10m"},
		"volumes": []string{"/var/tmp/mark:/mark"},
		"commands": []string{
			"if [ -e /mark/again ]; then ring reduce; exit; fi",
			"touch /mark/again && ring meet", // then all hosts have the mark
			`if [ "$DSTACK_NODE_RANK" = 2 ]; then exit 3; fi`,
			"sleep 600",
		},
	})
	run, err := shared.server.Finish(t.Context(), "retried", 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if run.Status != api.RunDone {
		t.Errorf("run is %s, its nodes %q", run.Status, nodeEnds(run))
	}
	for rank, job := range run.Jobs {
		if n := len(job.JobSubmissions); n != 2 {
			t.Errorf("node %d was submitted %d times", rank, n)
		}
		if first := job.JobSubmissions[0].TerminationReason; rank != 2 && text(first) != string(api.ReasonTerminatedByServer) {
			t.Errorf("node %d ended at first by %s", rank, text(first))
		}
	}
}

// powerless cuts the power of a node's host: after two minutes the run is over.
func powerless(t *testing.T, machines []*lab.Machine) {
	submitNodes(t, "powerless", map[string]any{"fleets": []string{"long-cluster"}, "commands": []string{"ring forever"}})
	run, err := shared.server.WaitRun(t.Context(), "powerless", time.Minute, "start of all nodes", func(r api.Run) bool {
		return len(r.Jobs) == nodes && !slices.ContainsFunc([]int{0, 1, 2, 3}, func(n int) bool { return of(r, n).LatestJobSubmission.Status != api.JobRunning })
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := hostOf(run, 1, machines).Crash(t.Context()); err != nil {
		t.Fatal(err)
	}
	if run, err = shared.server.Finish(t.Context(), "powerless", 4*time.Minute); err != nil {
		t.Fatal(err)
	}
	want := slices.Repeat([]string{"terminated terminated_by_server"}, nodes)
	want[1] = "failed instance_unreachable"
	if ends := nodeEnds(run); run.Status != api.RunFailed || text(run.TerminationReason) != string(api.ReasonJobFailed) || !slices.Equal(ends, want) {
		t.Errorf("run is %s because of %s, its nodes %q", run.Status, text(run.TerminationReason), ends)
	}
}
