package process

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"dstack/shim/facts"
	"dstack/shim/workload"
)

func table(lines map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for pid, line := range lines {
		uid, rest := line[:1], line[2:]
		root["proc/"+pid+"/stat"] = &fstest.MapFile{Data: []byte(pid + " (x y) z) " + rest + " 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 77")}
		root["proc/"+pid+"/status"] = &fstest.MapFile{Data: []byte("Name:\tx\nUid:\t" + uid + "\t" + uid + "\n")}
		root["proc/"+pid+"/environ"] = &fstest.MapFile{}
	}
	return root
}

func TestMembers(t *testing.T) {
	// uid, state, parent, group, session
	root := table(map[string]string{
		"1": "0 S 0 1 1", "10": "0 S 1 10 10", // init, the shim
		"20": "5 S 10 20 20", "21": "5 S 20 21 21", "22": "5 S 21 21 21", // agent, job, child
		"23": "5 S 1 21 21",                       // an orphan in the job's session
		"24": "5 S 1 24 24", "25": "5 Z 20 20 20", // a daemon, a zombie
		"30": "6 S 10 30 30",
	})
	root["proc/24/environ"] = &fstest.MapFile{Data: []byte("A=b\x00DSTACK_JOB_ID=job\x00")}
	root["proc/sys/kernel/random/boot_id"] = &fstest.MapFile{Data: []byte("b")}
	boot, err := facts.BootID(root)
	if err != nil {
		t.Fatal(err)
	}
	agent := identity{PID: 20, Start: "77", Boot: boot}
	for name, tt := range map[string]struct {
		in   target
		want []int
	}{
		"own user":         {target{owner: 5}, []int{20, 21, 22, 23, 24}},
		"shared user":      {target{agent: agent, jobID: "job"}, []int{20, 21, 22, 23, 24}},
		"agent gone":       {target{agent: identity{PID: 20, Start: "76", Boot: boot}, jobID: "job"}, []int{24}},
		"agent of before":  {target{agent: identity{PID: 20, Start: "77", Boot: "old"}}, nil},
		"nothing is known": {target{}, nil},
	} {
		if diff := cmp.Diff(tt.want, members(root, tt.in, 10)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("1 (a b) c) S 0 1 1", "Uid:\t0\t0")
	f.Fuzz(func(_ *testing.T, stat, status string) {
		parseStat(stat)
		parseUID(status)
	})
}

func TestOnlyOneLauncherClaims(t *testing.T) {
	dir := t.TempDir()
	if err := claim(dir); err != nil {
		t.Fatal(err)
	}
	if err := claim(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second claim = %v", err)
	}
	id, err := readIdentity(dir)
	if err != nil || id.PID != os.Getpid() || !id.alive(os.DirFS("/")) {
		t.Errorf("identity = %+v, %v", id, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestWaitReapsItsChild(t *testing.T) {
	cmd := exec.Command("sh", "-c", "exit 7")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	root := os.DirFS("/")
	boot, err := facts.BootID(root)
	if err != nil {
		t.Fatal(err)
	}
	start, err := facts.StartTime(root, cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	id := identity{PID: cmd.Process.Pid, Start: start, Boot: boot}
	if code, err := id.wait(t.Context()); code != 7 || err != nil {
		t.Errorf("wait = %d, %v", code, err)
	}
	if code, err := id.wait(t.Context()); code != -1 || err != nil {
		t.Errorf("wait for one that is gone = %d, %v", code, err)
	}
	_ = cmd.Process.Release()
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root := os.DirFS("/")
	boot, err := facts.BootID(root)
	if err != nil {
		t.Fatal(err)
	}
	start, err := facts.StartTime(root, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (identity{PID: os.Getpid(), Start: start, Boot: boot}).wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait = %v", err)
	}
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGroupsV2(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The kernel makes a group's files; here they lie there before.
	dir := filepath.Join(root, "dstack", "t1")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cpu.max", "memory.max", "cgroup.kill"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "memory.events"), []byte("low 0\noom_kill 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := findGroups(root)
	if got := g.create("t1", 1.5, 1<<30); !cmp.Equal(got, []string{dir}) {
		t.Errorf("create = %v", got)
	}
	if cpu, mem := read(t, dir, "cpu.max"), read(t, dir, "memory.max"); cpu != "150000 100000" || mem != "1073741824" {
		t.Errorf("limits: %q, %q", cpu, mem)
	}
	g.kill("t1")
	if got := read(t, dir, "cgroup.kill"); got != "1" {
		t.Errorf("kill: %q", got)
	}
	if !g.oomKilled("t1") || g.oomKilled("t2") {
		t.Error("OOM is not seen as it is")
	}
}

func TestGroupsV1(t *testing.T) {
	root := t.TempDir()
	for _, c := range []string{"pids", "memory", "cpu"} {
		if err := os.MkdirAll(filepath.Join(root, c, "dstack", "t1"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, c, "cgroup.procs"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"memory/dstack/t1/memory.limit_in_bytes", "cpu/dstack/t1/cpu.cfs_quota_us", "cpu/dstack/t1/cpu.cfs_period_us"} {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := findGroups(root)
	if got := g.create("t1", 2, 1<<20); len(got) != 3 {
		t.Errorf("create = %v", got)
	}
	if mem, cpu := read(t, root, "memory/dstack/t1/memory.limit_in_bytes"), read(t, root, "cpu/dstack/t1/cpu.cfs_quota_us"); mem != "1048576" || cpu != "200000" {
		t.Errorf("limits: %q, %q", mem, cpu)
	}
}

func TestJobIsAdaptedToTheHost(t *testing.T) {
	task := workload.Task{ID: "t", Owner: 7, GPUs: []string{"GPU-a"}, GPUVendor: "nvidia"}
	task.Spec.Job.SSHListen, task.Spec.Job.Isolated, task.Spec.Job.User = ":10022", true, "root"
	task.Spec.Job.Env = map[string]string{"HOME": "/own"}
	adapt(&task, "/w")
	job := task.Spec.Job
	if job.Isolated || job.User != "7:7" || job.SSHListen != "127.0.0.1:0" || job.WorkingDir != "/w" ||
		!cmp.Equal(job.Env, map[string]string{"HOME": "/own", "CUDA_VISIBLE_DEVICES": "GPU-a"}) {
		t.Errorf("job = %+v", job)
	}
}
