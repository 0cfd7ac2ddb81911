//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// login is a running task with the files of an OpenSSH client that knows it
// as "job": through its host, as the command line makes it.
type login struct {
	t           *testing.T
	dir, config string
	machine     *lab.Machine
	port        int // of the job on its host
	run         api.Run
	key         string
}

// logIn starts a task and waits until it runs.
func logIn(t *testing.T, name string, task map[string]any) *login {
	t.Helper()
	l := &login{t: t, dir: t.TempDir()}
	l.key = filepath.Join(l.dir, "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", l.key).CombinedOutput(); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	public, err := os.ReadFile(l.key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	configuration := map[string]any{
		"type": "task", "name": name, "resources": map[string]any{"cpu": "1..", "memory": "0.1..", "disk": "1GB.."},
		"retry": map[string]any{"on_events": []string{"no-capacity"}, "duration": "10m"}, "env": map[string]any{"JOB_VARIABLE": "from job"},
	}
	for k, v := range task {
		configuration[k] = v
	}
	if err := shared.server.Call(t.Context(), "project/main/runs/apply", map[string]any{"force": false, "plan": map[string]any{
		"run_spec": map[string]any{"run_name": name, "configuration": configuration, "ssh_key_pub": string(public)}, "current_resource": nil,
	}}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop := map[string]any{"runs_names": []string{name}, "abort": false}
		if err := shared.server.Call(context.Background(), "project/main/runs/stop", stop, nil); err != nil {
			t.Error(err)
		}
		if _, err := shared.server.Finish(context.Background(), name, time.Minute); err != nil {
			t.Error(err)
		}
	})
	l.run, err = shared.server.WaitRun(t.Context(), name, 3*time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning })
	if err != nil {
		t.Fatal(err)
	}
	job := l.run.LatestJobSubmission
	l.port = job.JobRuntimeData.Ports["10022"]
	for _, m := range shared.machines {
		if m.IP == *job.JobProvisioningData.Hostname {
			l.machine = m
		}
	}
	if l.port == 0 || l.machine == nil {
		t.Fatalf("no way to the job: %+v", job)
	}
	l.config = filepath.Join(l.dir, "config")
	const common = "IdentityFile %[1]s\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"
	text := fmt.Sprintf("Host host\nHostName %[2]s\nUser ubuntu\n"+common+"Host job\nHostName localhost\nPort %[3]d\nUser root\nProxyJump host\n"+common, l.key, l.machine.IP, l.port)
	if err := os.WriteFile(l.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

// command is an OpenSSH program that reads our configuration.
func (l *login) command(name string, args ...string) *exec.Cmd {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	l.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, append([]string{"-F", l.config}, args...)...)
	if name == "rsync" {
		cmd = exec.CommandContext(ctx, name, append([]string{"-e", "ssh -F " + l.config}, args...)...)
	}
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK=")
	return cmd
}

// ssh runs ssh and returns what it wrote to both outputs, and its exit status.
func (l *login) ssh(stdin string, args ...string) (string, int) {
	l.t.Helper()
	return l.done(l.command("ssh", args...), stdin)
}

func (l *login) done(cmd *exec.Cmd, stdin string) (string, int) {
	l.t.Helper()
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		l.t.Errorf("%s: %v", cmd, err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func (l *login) expect(stdin, want string, status int, args ...string) {
	l.t.Helper()
	if out, code := l.ssh(stdin, args...); out != want || code != status {
		l.t.Errorf("ssh %q: %q, %d, want %q, %d", args, out, code, want, status)
	}
}

// background runs ssh until the test ends.
func (l *login) background(args ...string) {
	l.t.Helper()
	cmd := l.command("ssh", append([]string{"-o", "ExitOnForwardFailure=yes"}, args...)...)
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// dial connects as soon as somebody listens.
func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial(network, address)
		if err == nil {
			return conn
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// echoes waits until what is sent to an address comes back: who is behind a
// forward may still start.
func echoes(t *testing.T, network, address string) {
	t.Helper()
	text := strings.Repeat("hello ", 10_000)
	once := func() error {
		conn := dial(t, network, address)
		defer conn.Close()
		go func() { _, _ = io.WriteString(conn, text) }()
		got := make([]byte, len(text))
		_, err := io.ReadFull(conn, got)
		if err == nil && string(got) != text {
			err = fmt.Errorf("%.20q came back", got)
		}
		return err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := once()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", address, err)
		}
	}
}

// echoServer sends back what it gets.
func echoServer(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := strings.Cut(l.Addr().String(), ":")
	return port
}

// bigFile makes a file of SSH_MB megabytes (default 64) and returns its SHA-256.
func (l *login) bigFile() (path, sum string) {
	l.t.Helper()
	size, err := strconv.Atoi(os.Getenv("SSH_MB"))
	if err != nil {
		size = 64
	}
	path = filepath.Join(l.dir, "big")
	file, err := os.Create(path)
	if err != nil {
		l.t.Fatal(err)
	}
	hash := sha256.New()
	random := rand.NewChaCha8([32]byte{byte(size)})
	if _, err := io.CopyN(io.MultiWriter(file, hash), random, int64(size)<<20); err != nil {
		l.t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		l.t.Fatal(err)
	}
	return path, hex.EncodeToString(hash.Sum(nil))
}

func sumOf(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		t.Error(err)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// TestSSHDebian does what people do over SSH in an image that has everything.
func TestSSHDebian(t *testing.T) {
	l := logIn(t, "ssh-debian", map[string]any{"image": lab.Debian, "commands": []string{"sleep infinity"}})
	t.Run("programs", l.programs)
	t.Run("copies", l.copies)
	t.Run("forwards", l.forwards)
	t.Run("multiplexing", l.multiplexing)
	t.Run("editor", l.editor)
	t.Run("connections", l.connections)
	t.Run("agent", l.agentForwarding)
}

func (l *login) programs(t *testing.T) {
	l.expect("", "out\n", 7, "job", "echo out; exit 7")
	l.expect("", "from job /root root\n", 0, "job", "echo $JOB_VARIABLE $HOME $USER")
	l.expect("", "", 255, "job", "kill -TERM $$")
	l.expect("echo $JOB_VARIABLE $DSTACK_RUN_NAME; pwd; exit 3\n", "from job ssh-debian\n"+*l.run.LatestJobSubmission.JobRuntimeData.WorkingDir+"\n", 3, "-T", "job")
	l.expect("", "1234\n/home/worker\n", 0, "-l", "worker", "job", "id -u; pwd")
	l.expect("", "C.UTF-8\n", 0, "-o", "SetEnv=LANG=C.UTF-8", "job", "echo $LANG")
	if out, code := l.ssh("", "-tt", "job", "stty size; tty; exit 4"); code != 4 || !strings.Contains(out, "/dev/pts/") {
		t.Errorf("terminal: %q, %d", out, code)
	}
	cmd := l.command("ssh", "-tt", "job", `trap "echo caught; exit 9" INT; echo ready; while :; do sleep 0.05; done`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	buf := make([]byte, 100)
	for !strings.Contains(got.String(), "ready") {
		n, err := out.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("%q, %v", got.String(), err)
		}
	}
	if _, err := io.WriteString(in, "\x03"); err != nil {
		t.Error(err)
	}
	rest, _ := io.ReadAll(out)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 9 || !strings.Contains(string(rest), "caught") {
		t.Errorf("Ctrl-C: %q, %v", rest, err)
	}
}

// copies takes a file there and back with each tool; it must stay the same.
func (l *login) copies(t *testing.T) {
	big, sum := l.bigFile()
	for name, steps := range map[string][]*exec.Cmd{
		"scp":   {l.command("scp", "-q", big, "job:scp"), l.command("scp", "-q", "job:scp", "scp")},
		"old":   {l.command("scp", "-q", "-O", big, "job:old"), l.command("scp", "-q", "-O", "job:old", "old")},
		"sftp":  {l.command("sftp", "-q", "-b", "-", "job"), nil},
		"rsync": {l.command("rsync", big, "job:rsync"), l.command("rsync", "job:rsync", "rsync")},
	} {
		for _, cmd := range steps {
			if cmd == nil {
				continue
			}
			if out, code := l.done(cmd, "put "+big+" sftp\nget sftp\n"); code != 0 {
				t.Errorf("%s: %q, %d", name, out, code)
			}
		}
		l.expect("", sum+"  "+name+"\n", 0, "job", "sha256sum "+name+"; rm "+name)
		if got := sumOf(t, filepath.Join(l.dir, name)); got != sum {
			t.Errorf("%s: the file came back as %s, not %s", name, got, sum)
		}
		if err := os.Remove(filepath.Join(l.dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func (l *login) forwards(t *testing.T) {
	there := "cd /tmp && exec busybox nc -ll -p 7000 -e cat"
	l.background("job", there)
	target := echoServer(t, "tcp", "127.0.0.1:0").Addr().String()
	local, dynamic := freePort(t), freePort(t)
	here, back := filepath.Join(l.dir, "here"), filepath.Join(l.dir, "back")
	echoServer(t, "unix", back)
	l.background("-N", "-L", local+":localhost:7000", "-D", dynamic, "-R", "7001:"+target, "-R", "/tmp/socket:"+back, "job")
	l.background("-N", "-L", here+":/tmp/socket", "-L", here+"-r:localhost:7001", "job")
	echoes(t, "tcp", "127.0.0.1:"+local)
	echoes(t, "unix", here)
	echoes(t, "unix", here+"-r")
	socks(t, dynamic, "localhost", 7000)
}

// socks echoes through a SOCKS5 proxy on loopback.
func socks(t *testing.T, proxy, host string, port int) {
	t.Helper()
	conn := dial(t, "tcp", "127.0.0.1:"+proxy)
	defer conn.Close()
	hello := append([]byte{5, 1, 0, 5, 1, 0, 3, byte(len(host))}, host...)
	if _, err := conn.Write(append(hello, byte(port>>8), byte(port))); err != nil {
		t.Error(err)
	}
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil || answer[3] != 0 {
		t.Errorf("socks: %v, %v", answer, err)
		return
	}
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Error(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("socks: %q, %v", got, err)
	}
}

// multiplexing has 200 channels at once through the jump, over one connection.
func (l *login) multiplexing(t *testing.T) {
	control := []string{"-o", "ControlPath=" + filepath.Join(l.dir, "c")}
	l.background(append(control, "-M", "-N", "job")...)
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, code := l.ssh("", append(control, "-O", "check", "job")...); code == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no master")
		}
	}
	l.expect("", "", 0, "job", "rm -rf /tmp/mux && mkdir /tmp/mux")
	const n = 200
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			command := fmt.Sprintf("touch /tmp/mux/%d; while [ ! -e /tmp/mux/go ]; do sleep 0.2; done; cat; exit %d", i, i%100)
			if out, code := l.ssh(fmt.Sprint(i), append(control, "job", command)...); out != fmt.Sprint(i) || code != i%100 {
				t.Errorf("channel %d: %q, %d", i, out, code)
			}
		})
	}
	l.expect("", "200\n", 0, append(control, "job", "until [ $(ls /tmp/mux | wc -l) = 200 ]; do sleep 0.1; done; ls /tmp/mux | wc -l; touch /tmp/mux/go")...)
	wg.Wait()
	if _, code := l.ssh("", append(control, "-O", "exit", "job")...); code != 0 {
		t.Errorf("exit: %d", code)
	}
}

// editor does what VS Code Remote-SSH does, by its public description: a
// script on the standard input of a shell starts a server in the background
// and tells its port, then one connection with -D stays and carries many
// channels to it at once. A second window finds the same server.
func (l *login) editor(t *testing.T) {
	const bootstrap = `set -e
mkdir -p ~/.editor-server
if ! [ -e ~/.editor-server/pid ]; then
	setsid busybox nc -ll -p 7100 -e cat </dev/null >~/.editor-server/log 2>&1 &
	echo $! >~/.editor-server/pid
fi
kill -0 $(cat ~/.editor-server/pid)
echo "listeningOn==7100==$(uname -m)"
`
	// A server that takes many connections at once; that of busybox does not.
	l.background("-N", "-R", "7101:"+echoServer(t, "tcp", "127.0.0.1:0").Addr().String(), "job")
	l.expect("", "", 0, "job", "until : </dev/tcp/localhost/7101; do sleep 0.05; done 2>/dev/null")
	for window := range 2 {
		dynamic := freePort(t)
		cmd := l.command("ssh", "-T", "-D", dynamic, "job", "bash")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(in, bootstrap); err != nil {
			t.Error(err)
		}
		buf := make([]byte, 100)
		n, err := out.Read(buf)
		if err != nil || !strings.Contains(string(buf[:n]), "listeningOn==7100==") {
			t.Errorf("window %d: %q, %v", window, buf[:n], err)
		}
		socks(t, dynamic, "127.0.0.1", 7100)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { socks(t, dynamic, "localhost", 7101) })
		}
		wg.Wait()
		// The window is closed; the server stays for the next one.
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Errorf("window %d: %v", window, err)
		}
	}
}

// connections has 200 clients logged in at once, straight at the agent.
func (l *login) connections(t *testing.T) {
	if err := l.machine.Copy(t.Context(), l.dir, "/root/ssh", "key"); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`cd /root/ssh && rm -f out.* && chmod 600 key && for i in $(seq 200); do
	ssh -i key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=60 -p %d root@127.0.0.1 \
		"touch /tmp/conn-$i; while [ ! -e /tmp/conn-go ]; do sleep 0.2; done; echo $i" >out.$i </dev/null &
done
ssh -i key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -p %[1]d root@127.0.0.1 \
	'until [ $(ls /tmp/conn-* | wc -l) = 200 ]; do sleep 0.2; done; touch /tmp/conn-go'
wait; cat out.* | sort -n | sha256sum; seq 200 | sha256sum`, l.port)
	out, err := l.machine.Exec(t.Context(), script)
	if sums := strings.Fields(out); err != nil || len(sums) != 4 || sums[0] != sums[2] {
		t.Errorf("%q, %v", out, err)
	}
}

func (l *login) agentForwarding(t *testing.T) {
	socket := filepath.Join(l.dir, "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = agent.Process.Kill()
		_ = agent.Wait()
	})
	_ = dial(t, "unix", socket).Close()
	for _, name := range []string{"ssh-add", "ssh"} {
		cmd := exec.Command("ssh-add", "-q", l.key)
		if name == "ssh" {
			cmd = l.command("ssh", "-A", "job", "ssh-add -L")
		}
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		out, code := l.done(cmd, "")
		if code != 0 || name == "ssh" && !strings.HasPrefix(out, "ssh-ed25519 ") {
			t.Errorf("%s: %q, %d", name, out, code)
		}
	}
}

// TestSSHBusybox does it in an image with a shell and little else.
func TestSSHBusybox(t *testing.T) {
	l := logIn(t, "ssh-busybox", map[string]any{"image": lab.Busybox, "user": "worker", "commands": []string{"busybox nc -ll -p 7000 -e cat"}})
	if user := l.run.LatestJobSubmission.JobRuntimeData.Username; user == nil || *user != "worker" {
		t.Errorf("user %v", user)
	}
	l.expect("", "1234 from job /home/worker\n", 6, "-l", "worker", "job", "echo $(id -u) $JOB_VARIABLE $HOME; exit 6")
	l.expect("", "0 from job\n", 0, "job", "echo $(id -u) $JOB_VARIABLE")
	l.expect("echo $JOB_VARIABLE $0; exit 2\n", "from job -sh\n", 2, "-T", "-l", "worker", "job")
	l.roundTrip("worker")
	local := freePort(t)
	l.background("-N", "-l", "worker", "-L", local+":localhost:7000", "job")
	echoes(t, "tcp", "127.0.0.1:"+local)
}

// roundTrip copies a file there and back with scp, which uses SFTP, and sftp.
func (l *login) roundTrip(user string) {
	l.t.Helper()
	text := strings.Repeat("0123456789", 100_000)
	if err := os.WriteFile(filepath.Join(l.dir, "from"), []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	if out, code := l.done(l.command("scp", "-q", "from", user+"@job:/tmp/there"), ""); code != 0 {
		l.t.Errorf("scp: %q, %d", out, code)
	}
	if out, code := l.done(l.command("sftp", "-q", "-b", "-", user+"@job"), "get /tmp/there back\nls -l /tmp\n"); code != 0 {
		l.t.Errorf("sftp: %q, %d", out, code)
	}
	if got, err := os.ReadFile(filepath.Join(l.dir, "back")); err != nil || string(got) != text {
		l.t.Errorf("%d bytes came back, %v", len(got), err)
	}
}

// TestSSHDistroless does it in an image with one program and no shell.
func TestSSHDistroless(t *testing.T) {
	l := logIn(t, "ssh-distroless", map[string]any{"image": lab.Distroless, "entrypoint": "/busybox nc -ll -p 7000 -e /busybox", "commands": []string{"cat"}})
	l.expect("", "from  distroless\n", 0, "job", "/busybox echo 'from  distroless'")
	l.expect("", "", 5, "job", "/busybox sh -c 'exit 5'")
	out, code := l.ssh("", "-T", "job")
	if code != 127 || !strings.Contains(out, "there is no shell in this image") || strings.Count(out, "\n") != 1 {
		t.Errorf("shell: %q, %d", out, code)
	}
	if out, code := l.ssh("", "job", "missing --flag"); code != 127 || !strings.Contains(out, "missing") {
		t.Errorf("missing program: %q, %d", out, code)
	}
	l.expect("", "", 0, "job", "/busybox mkdir -p /tmp")
	l.roundTrip("root")
	local := freePort(t)
	l.background("-N", "-L", local+":localhost:7000", "job")
	echoes(t, "tcp", "127.0.0.1:"+local)
}
