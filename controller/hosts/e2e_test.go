//go:build e2e

package hosts

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"dstack/controller/store"
	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
	"dstack/sshlink/sshtest"
)

// sshd runs Debian's OpenSSH server on a port of its own until the test ends.
func sshd(t *testing.T, options ...string) (port int, key string) {
	t.Helper()
	dir := t.TempDir()
	key, signer := sshtest.NewKey(t)
	_, hostKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	config := fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n%s\n",
		port, write("host_key", sshtest.Marshal(t, hostKey)),
		write("authorized_keys", string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), strings.Join(options, "\n"))
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", write("sshd_config", config))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return port, key
}

// built is a payload of the real shim and agent.
func built(t *testing.T) Payload {
	t.Helper()
	dir := t.TempDir()
	files := fstest.MapFS{}
	var digests string
	for _, name := range []string{"dstack-shim", "dstack-agent"} {
		path := filepath.Join(dir, name)
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "dstack/cmd/"+name)
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
		sum, err := digest(path)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name += "-linux-" + runtime.GOARCH
		files[name+".zst"] = &fstest.MapFile{Data: zstdEncoder().EncodeAll(data, nil)}
		digests += sum + " " + name + "\n"
	}
	files[Digests] = &fstest.MapFile{Data: []byte(digests)}
	p, err := LoadPayload(files)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func processSpec(id string, commands ...string) hostapi.TaskSpec {
	return hostapi.TaskSpec{Name: "job", NetworkMode: "host", PullStall: 60, Job: jobapi.Spec{
		ProjectName: "main", RunID: "run", RunName: "run", JobID: id, JobName: "run-0-0", Commands: commands,
		NodesIPs: []string{"127.0.0.1"}, MasterIP: "127.0.0.1", NodesNum: 1,
	}}
}

// The real shim, deployed through the real sshd, runs a job whose log arrives
// whole although the connection is cut and the shim is killed on the way.
func TestRealHost(t *testing.T) {
	payload := built(t)
	for name, options := range map[string][]string{
		"sftp":          {"Subsystem sftp internal-sftp"},
		"no sftp":       {},
		"no forwarding": {"DisableForwarding yes", "Subsystem sftp internal-sftp", "Banner /etc/issue"},
	} {
		t.Run(name, func(t *testing.T) { realHost(t, payload, options) })
	}
}

func realHost(t *testing.T, payload Payload, options []string) {
	port, key := sshd(t, options...)
	dir, err := os.MkdirTemp("", "dh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := layout{
		shim: dir + "/bin/dstack-shim", agentDir: dir + "/lib", unit: dir + "/dstack-shim.service", home: dir + "/home",
		uploads: "/tmp/dstack-upload.none",
	}
	tg := Target{InstanceID: "i", Access: store.Access{
		Host: "127.0.0.1", Port: port, User: "root", Keys: []string{key}, Env: map[string]string{"DSTACK_SHIM_RUNTIME": "process"},
	}}
	r := newRecorder()
	p := startPool(t, r, func(p *Pool) { p.layout, p.opt.Payload = l, payload })
	started := time.Now()
	p.Ensure(tg)
	r.await(t, "the host is up", func() bool { return len(r.ups) == 1 })
	t.Logf("deployed after %v", time.Since(started))
	if rt := r.ups[0].Info.Runtime; rt != hostapi.Process {
		t.Fatalf("runtime = %s: the fleet's environment did not arrive", rt)
	}

	const lines = 200_000
	started = time.Now()
	spec := processSpec("job-1", "/bin/sh", "-c", fmt.Sprintf("seq 1 %d; exit 3", lines))
	if _, err := p.StartTask(t.Context(), "i", "job-1", spec); err != nil {
		t.Fatal(err)
	}
	r.await(t, "a part of the log is there", func() bool { return len(r.logs["job-1"]) > 0 })
	t.Logf("first log after %v", time.Since(started))
	kill(t, filepath.Join(l.home, hostapi.PIDName))
	r.await(t, "the job has ended", func() bool { return len(r.final) == 1 })
	task := r.final["job-1"]
	if task.ExitStatus == nil || *task.ExitStatus != 3 {
		t.Errorf("task = %+v", task)
	}
	var want strings.Builder
	for i := 1; i <= lines; i++ {
		fmt.Fprintf(&want, "%d\r\n", i)
	}
	if got := string(r.logs["job-1"]); strings.ReplaceAll(got, "\r", "") != strings.ReplaceAll(want.String(), "\r", "") || len(r.early) > 0 {
		t.Errorf("log of %d bytes is not what was printed (%d)", len(got), want.Len())
	}
	if err := p.RemoveTask(t.Context(), "i", "job-1"); err != nil {
		t.Error(err)
	}
	if err := p.Uninstall(t.Context(), tg); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(dir + "/*/*")
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// kill ends the shim hard, with what keeps it alive.
func kill(t *testing.T, pidFile string) {
	t.Helper()
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// The shim of this machine outlives the pool that started it, and its job with it.
func TestRealLocal(t *testing.T) {
	payload := built(t)
	dir, err := os.MkdirTemp("", "dl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	tg := Target{InstanceID: "i", Access: store.Access{Local: true, Env: map[string]string{"DSTACK_SHIM_RUNTIME": "process"}}}
	start := func(r *recorder) *Pool {
		return startPool(t, r, func(p *Pool) { p.opt.Payload, p.opt.LocalDir = payload, filepath.Join(dir, "local") })
	}
	r := newRecorder()
	first := start(r)
	first.Ensure(tg)
	r.await(t, "the shim is up", func() bool { return len(r.ups) == 1 })
	if _, err := first.StartTask(t.Context(), "i", "job-1", processSpec("job-1", "/bin/sh", "-c", "echo one; sleep 2; echo two")); err != nil {
		t.Fatal(err)
	}
	r.await(t, "the job has begun", func() bool { return len(r.logs["job-1"]) > 0 })
	first.Forget("i")
	second := start(r)
	tg.HostID, tg.Seq = r.ups[0].Info.HostID, r.seq
	second.Ensure(tg)
	r.await(t, "the job has ended", func() bool { return len(r.final) == 1 })
	if got := strings.ReplaceAll(string(r.logs["job-1"]), "\r", ""); got != "one\ntwo\n" {
		t.Errorf("log = %q", got)
	}
	if err := second.Uninstall(t.Context(), tg); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}
