package jobenv_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dstack/agent/jobenv"
	"dstack/protocol/jobapi"
)

func TestBuild(t *testing.T) {
	t.Parallel()
	base := []string{
		"PATH=/bin", "HOME=/image", "DSTACK_RUN_NAME=image", "A=image", "EMPTY=", "=x", "novalue",
		"BASH_FUNC_f%%=() { :; }", "BASH_FUNC_g()=() { :; }", "EQ=a=b",
	}
	spec := &jobapi.Spec{
		RunID: "run-id", JobID: "job-id", RunName: "run", RepoID: "repo",
		NodesIPs: []string{"10.0.0.1", "10.0.0.2"}, MasterIP: "10.0.0.1",
		NodeRank: 1, NodesNum: 2, GPUsPerNode: 4, GPUsNum: 8,
		Env: map[string]string{"A": "job", "DSTACK_REPO_ID": "mine"},
	}
	got := jobenv.Build(base, spec, jobenv.Places{
		Home: "/home/ml", WorkingDir: "/w", RepoDir: "/w/repo", Hostfile: "/dstack/mpi/hostfile",
	})
	want := []string{
		"A=job", "DSTACK_GPUS_NUM=8", "DSTACK_GPUS_PER_NODE=4", "DSTACK_JOB_ID=job-id",
		"DSTACK_MASTER_NODE_IP=10.0.0.1", "DSTACK_MPI_HOSTFILE=/dstack/mpi/hostfile",
		"DSTACK_NODES_IPS=10.0.0.1\n10.0.0.2", "DSTACK_NODES_NUM=2", "DSTACK_NODE_RANK=1",
		"DSTACK_REPO_DIR=/w/repo", "DSTACK_REPO_ID=mine", "DSTACK_RUN_ID=run-id", "DSTACK_RUN_NAME=run",
		"DSTACK_WORKING_DIR=/w", "EMPTY=", "EQ=a=b", "HOME=/home/ml", "PATH=/bin",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHostfile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		spec jobapi.Spec
		want string
	}{
		{"GPU nodes", jobapi.Spec{NodesIPs: []string{"a", "b"}, GPUsPerNode: 2}, "a slots=2\nb slots=2\n"},
		{"unequal nodes", jobapi.Spec{NodesIPs: []string{"a", "b", "c"}, GPUsPerNode: 2, NodesGPUs: []int{2, 0, 4}}, "a slots=2\nb\nc slots=4\n"},
		{"CPU nodes", jobapi.Spec{NodesIPs: []string{"a", "b"}}, "a\nb\n"},
		{"an address is unknown", jobapi.Spec{NodesIPs: []string{"a", ""}}, ""},
		{"no nodes", jobapi.Spec{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := jobenv.Hostfile(&tt.spec); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestProfileInARealShell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		value := rapid.StringMatching("[ -~\n\u00e4]*").Draw(rt, "value")
		path := filepath.Join(dir, "profile")
		script := jobenv.Profile([]string{
			"DSTACK_WORKING_DIR=" + dir, "HOME=/no", "PWD=/no", "X=" + value, "not-a-name=1", "1A=1", "_=x",
		})
		if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
			rt.Fatal(err)
		}
		out, err := exec.Command("/bin/sh", "-c", `. "$0" && printf '%s|' "$X" "$HOME" && pwd`, path).CombinedOutput()
		if err != nil {
			rt.Fatalf("%v: %s", err, out)
		}
		if want := value + "|" + os.Getenv("HOME") + "|" + dir + "\n"; string(out) != want {
			rt.Fatalf("the shell has %q, want %q", out, want)
		}
	})
}

func TestAddToProfileIsIdempotent(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"", "PATH=/bin\n", "no new line at the end"} {
		once, changed := jobenv.AddToProfile(before, "/dstack/profile")
		if !changed || !strings.HasPrefix(once, before) || strings.Count(once, "/dstack/profile") != 2 {
			t.Errorf("from %q: %q", before, once)
		}
		if twice, changed := jobenv.AddToProfile(once, "/dstack/profile"); changed || twice != once {
			t.Errorf("the second time: %q", twice)
		}
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	env := []string{"A=1", "PATH=/a=b"}
	got := []string{jobenv.Lookup(env, "PATH"), jobenv.Lookup(env, "P")}
	if !slices.Equal(got, []string{"/a=b", ""}) {
		t.Errorf("got %q", got)
	}
}
