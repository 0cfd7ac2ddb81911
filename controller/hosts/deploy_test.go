package hosts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/crypto/ssh"

	"dstack/controller/store"
	"dstack/protocol/hostapi"
	"dstack/sshlink/sshtest"
)

// shimMain is what this test's executable does when it is installed on a
// "host" as dstack-shim: the command line of the real one, with the fake inside.
func shimMain(self string, args []string) int {
	verb, home := args[0], args[2]
	socket, pidFile := filepath.Join(home, hostapi.SocketName), filepath.Join(home, hostapi.PIDName)
	switch verb {
	case "serve":
		s := newFakeShim()
		var err error
		if s.info.Digest, err = digest(self); err != nil {
			return 1
		}
		_ = os.Remove(socket)
		l, err := net.Listen("unix", socket)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		_ = h2cServer(s.handler()).Serve(l)
	case "supervise":
		if os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())), 0o600) != nil {
			return 1
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		for ctx.Err() == nil {
			_ = exec.CommandContext(ctx, self, append([]string{"serve"}, args[1:]...)...).Run()
		}
	case "dial":
		fmt.Fprintln(os.Stderr, "a warning")
		conn, err := net.Dial("unix", socket)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Print(hostapi.Magic)
		go func() {
			_, _ = io.Copy(conn, os.Stdin)
			_ = conn.(*net.UnixConn).CloseWrite()
		}()
		_, _ = io.Copy(os.Stdout, conn)
	case "uninstall":
		pid, err := os.ReadFile(pidFile)
		if err != nil {
			return 0
		}
		n, err := strconv.Atoi(string(pid))
		if err != nil {
			return 1
		}
		_ = syscall.Kill(n, syscall.SIGTERM)
		for alive(n) {
			time.Sleep(time.Millisecond)
		}
	}
	return 0
}

// alive says whether a process runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestMain(m *testing.M) {
	if installed := os.Getenv("FAKE_SHIM"); installed != "" {
		os.Exit(shimMain(installed, os.Args[1:]))
	}
	verifyTestMain(m)
}

func zstdEncoder() *zstd.Encoder {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		panic(err)
	}
	return z
}

// testPayload has a script as the shim that turns into this test's executable,
// which is too large to be sent around, and a text as the agent.
func testPayload(t *testing.T, agent string) Payload {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "dstack-shim")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	shim := "#!/bin/sh\nFAKE_SHIM=$0 exec " + link + " \"$@\"\n"
	suffix := "-linux-" + runtime.GOARCH
	files := fstest.MapFS{
		"dstack-shim" + suffix + ".zst":  &fstest.MapFile{Data: zstdEncoder().EncodeAll([]byte(shim), nil)},
		"dstack-agent" + suffix + ".zst": &fstest.MapFile{Data: zstdEncoder().EncodeAll([]byte(agent), nil)},
	}
	digests := fmt.Sprintf("%x dstack-shim%s\n%x dstack-agent%s\n", sha256.Sum256([]byte(shim)), suffix, sha256.Sum256([]byte(agent)), suffix)
	files[Digests] = &fstest.MapFile{Data: []byte(digests)}
	p, err := LoadPayload(files)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// machine is a "host": a folder of this machine behind an SSH server.
type machine struct {
	*sshtest.Server
	layout layout
	target Target
	bin    string // first on the PATH of commands
}

func newMachine(t *testing.T, opt sshtest.Options) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{bin: filepath.Join(dir, "path"), layout: layout{
		shim: dir + "/bin/dstack-shim", agentDir: dir + "/lib", unit: dir + "/dstack-shim.service", home: dir + "/home",
		uploads: "/tmp/dstack-upload.none",
	}}
	// The machine of the test may have systemd; the "host" has none.
	m.script(t, "sudo", `[ "$1" = -n ] && shift; exec "$@"`)
	key, signer := sshtest.NewKey(t)
	opt.Authorized = append(opt.Authorized, signer.PublicKey())
	opt.Env = append(opt.Env, "PATH="+m.bin+":"+os.Getenv("PATH"))
	m.Server = sshtest.Start(t, opt)
	m.target = Target{InstanceID: "i", Access: store.Access{
		Host: m.Host, Port: m.Port, User: "alice", Keys: []string{key}, Env: map[string]string{"A": `b "c" $d`},
	}}
	t.Cleanup(func() {
		if _, err := os.Stat(m.layout.shim); err == nil {
			_ = exec.Command(m.layout.shim, "uninstall", "--home", m.layout.home).Run()
		}
	})
	return m
}

// script puts a program in front of the real one.
func (m *machine) script(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(m.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) pool(t *testing.T, r *recorder, payload Payload) *Pool {
	t.Helper()
	return startPool(t, r, func(p *Pool) { p.layout, p.opt.Payload = m.layout, payload })
}

func TestDeploy(t *testing.T) {
	for name, opt := range map[string]sshtest.Options{
		"plain":          {},
		"noise":          {Noise: "Welcome to this host!\ndstack\n"},
		"no sftp":        {NoSFTP: true},
		"no sftp, noise": {NoSFTP: true, Noise: "Last login: today\n"},
		"no forwarding":  {NoForward: true},
	} {
		t.Run(name, func(t *testing.T) {
			m, r := newMachine(t, opt), newRecorder()
			p := m.pool(t, r, testPayload(t, "agent"))
			p.Ensure(m.target)
			r.await(t, "the host is up", func() bool { return len(r.ups) == 1 })
			if len(r.keys) != 1 || r.keys[0] != m.HostKeys[0] {
				t.Errorf("pinned keys = %q", r.keys)
			}
			if len(r.downs) > 0 {
				t.Errorf("downs = %v", r.downs)
			}
			if _, err := p.StartTask(t.Context(), "i", "a", hostapi.TaskSpec{}); err != nil {
				t.Error(err)
			}
			r.await(t, "the task is seen", func() bool { return len(r.states) == 1 })
			for path, mode := range map[string]os.FileMode{
				m.layout.shim: 0o755, m.layout.agent(): 0o755, m.layout.env(): 0o600, m.layout.home: os.ModeDir | 0o700,
			} {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode() != mode {
					t.Errorf("mode of %s = %v, want %v", path, info.Mode(), mode)
				}
			}
			if err := p.Uninstall(t.Context(), m.target); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{m.layout.shim, m.layout.agentDir, m.layout.home} {
				if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is left over: %v", path, err)
				}
			}
			if err := p.Uninstall(t.Context(), m.target); err != nil {
				t.Errorf("second uninstall: %v", err)
			}
		})
	}
}

func TestDeployIsDoneOnce(t *testing.T) {
	m, r := newMachine(t, sshtest.Options{}), newRecorder()
	p := m.pool(t, r, testPayload(t, "agent"))
	p.Ensure(m.target)
	r.await(t, "the host is up", func() bool { return len(r.ups) == 1 })
	before, err := os.Stat(m.layout.shim)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := os.ReadFile(filepath.Join(m.layout.home, hostapi.PIDName))
	if err != nil {
		t.Fatal(err)
	}
	m.Cut()
	r.await(t, "the host is up again", func() bool { return len(r.ups) == 2 })
	after, err := os.Stat(m.layout.shim)
	if err != nil {
		t.Fatal(err)
	}
	pidAfter, err := os.ReadFile(filepath.Join(m.layout.home, hostapi.PIDName))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) || string(pid) != string(pidAfter) {
		t.Error("a reconnect installed or started the shim again")
	}
	if len(r.downs) != 1 || r.downs[0].Code != "unreachable" || !strings.Contains(r.downs[0].Message, "alice@127.0.0.1") {
		t.Errorf("downs = %v", r.downs)
	}
}

func TestUpdateInPlace(t *testing.T) {
	m := newMachine(t, sshtest.Options{})
	r := newRecorder()
	ctx, cancel := context.WithCancel(t.Context())
	old := New(Options{Observer: r, Logs: r, Payload: testPayload(t, "old agent")})
	old.layout = m.layout
	ended := make(chan error)
	go func() { ended <- old.Run(ctx) }()
	old.Ensure(m.target)
	r.await(t, "the host is up", func() bool { return len(r.ups) == 1 })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	r2 := newRecorder()
	m.pool(t, r2, testPayload(t, "new agent")).Ensure(m.target)
	r2.await(t, "the host is up", func() bool { return len(r2.ups) == 1 })
	if got, err := os.ReadFile(m.layout.agent()); err != nil || string(got) != "new agent" {
		t.Errorf("agent = %q, %v", got, err)
	}
}

func TestDeployProblems(t *testing.T) {
	_, stranger := sshtest.NewKey(t)
	for name, c := range map[string]struct {
		prepare func(t *testing.T, m *machine)
		code    string
		message string
		remedy  string
	}{
		"auth failed": {func(t *testing.T, m *machine) {
			key, _ := sshtest.NewKey(t)
			m.target.Access.Keys = []string{key}
		}, "auth_failed", "alice", "authorized_keys"},
		"host key changed": {func(_ *testing.T, m *machine) {
			m.target.HostKeys = []string{string(ssh.MarshalAuthorizedKey(stranger.PublicKey()))}
		}, "host_key_changed", ssh.FingerprintSHA256(stranger.PublicKey()), "reinstalled"},
		"refused": {func(_ *testing.T, m *machine) { m.Close() }, "unreachable", "connection refused", "host is up"},
		"32 bit": {func(t *testing.T, m *machine) {
			m.script(t, "uname", `[ "$1" = -m ] && echo i686 || echo Linux`)
		}, "wrong_arch", "i686", "64-bit"},
		"not Linux": {func(t *testing.T, m *machine) {
			m.script(t, "uname", `[ "$1" = -m ] && echo arm64 || echo Darwin`)
		}, "wrong_arch", "Darwin arm64", "64-bit"},
		"no sudo": {func(t *testing.T, m *machine) {
			m.script(t, "id", `[ "$1" = -un ] && echo alice || echo 1000`)
			m.script(t, "sudo", `echo "sudo: a password is required" >&2; exit 1`)
		}, "no_sudo", "sudo: a password is required", "NOPASSWD"},
		"no space, seen before": {func(t *testing.T, m *machine) {
			m.script(t, "df", `echo Filesystem; echo /dev/sda1 1000 990 10 99% /`)
		}, "no_space", "No space left", "Free disk space"},
		"no space, seen while installing": {func(t *testing.T, m *machine) {
			m.script(t, "mv", `echo "mv: write error: No space left on device" >&2; exit 1`)
		}, "no_space", "No space left", "Free disk space"},
		"read-only": {func(t *testing.T, m *machine) {
			m.script(t, "mv", `echo "mv: cannot move: Read-only file system" >&2; exit 1`)
		}, "deploy_failed", "Read-only file system", "writable"},
		"damaged on the way": {func(t *testing.T, m *machine) {
			m.script(t, "gzip", `head -c 100 >/dev/null; echo damaged`)
		}, "deploy_failed", "checksum", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m, r := newMachine(t, sshtest.Options{}), newRecorder()
			c.prepare(t, m)
			p := m.pool(t, r, testPayload(t, "agent"))
			p.Ensure(m.target)
			r.await(t, "the host is down", func() bool { return len(r.downs) > 0 })
			p.Forget("i")
			got := r.downs[0]
			if got.Code != c.code || !strings.Contains(got.Message, c.message) || !strings.Contains(got.Remedy, c.remedy) {
				t.Errorf("problem = %+v, want code %s, %q in the message, %q in the remedy", got, c.code, c.message, c.remedy)
			}
			if !strings.Contains(got.Message, "alice") || !strings.Contains(got.Message, "127.0.0.1") {
				t.Errorf("message %q does not name user and host", got.Message)
			}
		})
	}
}

func TestBareBuild(t *testing.T) {
	m, r := newMachine(t, sshtest.Options{}), newRecorder()
	payload, err := LoadPayload(fstest.MapFS{})
	if err != nil {
		t.Fatal(err)
	}
	m.pool(t, r, payload).Ensure(m.target)
	r.await(t, "the host is down", func() bool { return len(r.downs) > 0 })
	if got := r.downs[0]; !got.Permanent || !strings.Contains(got.Remedy, "make build") {
		t.Errorf("problem = %+v", got)
	}
}

func TestLocal(t *testing.T) {
	dir, err := os.MkdirTemp("", "dl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	home := filepath.Join(dir, "local")
	payload := testPayload(t, "agent")
	tg := Target{InstanceID: "i", Access: store.Access{Local: true}}
	start := func(r *recorder) *Pool {
		return startPool(t, r, func(p *Pool) { p.opt.Payload, p.opt.LocalDir = payload, home })
	}
	r := newRecorder()
	first := start(r)
	first.Ensure(tg)
	r.await(t, "the shim is up", func() bool { return len(r.ups) == 1 })
	if _, err := first.StartTask(t.Context(), "i", "a", hostapi.TaskSpec{}); err != nil {
		t.Fatal(err)
	}
	first.Forget("i")

	// Another server finds the same shim, with its task.
	r2 := newRecorder()
	second := start(r2)
	second.Ensure(tg)
	r2.await(t, "the shim is found again", func() bool { return len(r2.ups) == 1 })
	if tasks := r2.ups[0].Tasks; len(tasks) != 1 || tasks[0].ID != "a" {
		t.Errorf("tasks = %v", tasks)
	}
	if err := second.Uninstall(t.Context(), tg); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(home); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("home is left over: %v", err)
	}
	if err := second.Uninstall(t.Context(), tg); err != nil {
		t.Errorf("second uninstall: %v", err)
	}
}
