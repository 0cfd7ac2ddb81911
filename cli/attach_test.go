package cli

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/sshlink/sshtest"
)

func taskSpec(t *testing.T, name, command string) api.RunSpec {
	t.Helper()
	conf, err := config.DecodeApply("t.yml", []byte("type: task\nname: "+name+"\ncommands: ["+command+"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	return api.RunSpec{RunName: &name, Configuration: *conf.Run}
}

// attachLab is a server with a serving run, and dstack's home.
type attachLab struct {
	*fakeServer

	t         *testing.T
	web       *httptest.Server
	url, home string
}

func newAttachLab(t *testing.T) *attachLab {
	t.Helper()
	fake := newFakeServer()
	fake.ssh = newFakeSSH(t)
	lab := &attachLab{fakeServer: fake, t: t, home: t.TempDir()}
	lab.web = httptest.NewServer(fake)
	t.Cleanup(func() {
		lab.web.CloseClientConnections()
		lab.web.Close()
	})
	lab.url = lab.web.URL
	fake.serving(t, "run")
	return lab
}

func (l *attachLab) dstack(args ...string) *terminal {
	l.t.Helper()
	return openPTY(l.t, l.home, l.url, func() {}, args...)
}

// clean checks that nothing is left in the files of ssh.
func (l *attachLab) clean() {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.home, ".dstack", "ssh", "config"))
	if err == nil && strings.Contains(string(text), "Host run") {
		l.t.Errorf("left in ~/.dstack/ssh/config:\n%s", text)
	}
	left, err := os.ReadDir(filepath.Join(l.home, ".dstack", "ssh", "forwards"))
	if err == nil && len(left) > 0 {
		l.t.Errorf("left in forwards: %v", left)
	}
}

func (l *attachLab) fetch() {
	l.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(l.ssh.url())
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || string(text) != "hello from the job" {
		l.t.Errorf("answer %q, %v", text, err)
	}
}

func (l *attachLab) greeted(x *terminal) {
	l.t.Helper()
	x.expect("Attached to run run (replica=0 job=0)\r\n" +
		"Forwarded ports (local -> remote):\r\n" +
		"  - localhost:" + strconv.Itoa(l.ssh.local) + " -> 8000\r\n" +
		"To connect to the run via SSH, use `ssh run`.\r\n" +
		"Press Ctrl+C to detach...\r\n")
}

// colouredLog is the log on a terminal, with the forwarded port.
func (l *attachLab) colouredLog() string {
	return "\x1b[32mserving\x1b[0m at " + l.ssh.url() + "/x\r\r\n"
}

func TestAttach(t *testing.T) {
	t.Parallel()
	for name, talk := range map[string]func(*attachLab){
		"logs to the run's end": func(l *attachLab) {
			x := l.dstack("attach", "run", "--logs")
			l.greeted(x)
			x.expect(l.colouredLog())
			l.fetch()
			text, err := os.ReadFile(filepath.Join(l.home, ".dstack", "ssh", "config"))
			if err != nil || !strings.Contains(string(text), "Host run-host\n") || !strings.Contains(string(text), "ProxyJump run-host\n") {
				l.t.Errorf("ssh files: %v\n%s", err, text)
			}
			l.ssh.finishLog()
			l.ends("run", 3)
			x.expect("Exited (3)")
			x.exits(3)
		},
		"without logs the run's end is noticed": func(l *attachLab) {
			x := l.dstack("attach", "run")
			l.greeted(x)
			l.fetch()
			l.ends("run", 0)
			x.expect("Exited (0)")
			if strings.Contains(x.passed, "serving") {
				l.t.Error("log was shown")
			}
			x.exits(0)
		},
		"detach": func(l *attachLab) {
			x := l.dstack("attach", "run")
			l.greeted(x)
			x.send(ctrlC)
			x.expect("Detach from the run run, stop it, or abort it? [d/s/a]: ")
			x.send("d\n")
			x.expect("Detached\r\n")
			x.exits(0)
		},
		"ctrl-c twice detaches": func(l *attachLab) {
			x := l.dstack("attach", "run")
			l.greeted(x)
			x.send(ctrlC)
			x.expect("[d/s/a]: ")
			x.send(ctrlC)
			x.expect("Detached\r\n")
			x.exits(0)
		},
		"stop": func(l *attachLab) {
			x := l.dstack("attach", "run")
			l.greeted(x)
			x.send(ctrlC)
			x.expect("[d/s/a]: ")
			x.send("s\n")
			x.expect("Stopped")
			x.exits(0)
		},
		"port taken": func(l *attachLab) {
			taken, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(l.ssh.local))
			if err != nil {
				l.t.Fatal(err)
			}
			defer taken.Close()
			x := l.dstack("attach", "run")
			x.expect("Failed to attach: port " + strconv.Itoa(l.ssh.local) + " is already in use. Use -p in dstack attach to override the local port mapping, e.g. -p " +
				strconv.Itoa(l.ssh.local+1) + ":8000.\r\n")
			x.exits(1)
		},
		"another port": func(l *attachLab) {
			free := freePort(l.t)
			x := l.dstack("attach", "run", "--logs", "-p", strconv.Itoa(free)+":8000")
			x.expect("  - localhost:" + strconv.Itoa(free) + " -> 8000\r\n")
			l.ssh.local = free
			x.expect(l.colouredLog())
			l.fetch()
			x.send(ctrlC)
			x.expect("[d/s/a]: ")
			x.send(ctrlC)
			x.exits(0)
		},
		"a port that the run does not have": func(l *attachLab) {
			x := l.dstack("attach", "run", "-p", "9000:7777")
			x.expect("Cannot override port 7777 not exposed by the run\r\n")
			x.exits(1)
		},
		"a replica that is not there": func(l *attachLab) {
			x := l.dstack("attach", "run", "--replica", "3")
			x.expect("Failed to find replica=3 job=0\r\n")
			x.exits(1)
		},
		"a run that has failed": func(l *attachLab) {
			l.ends("run", 1)
			x := l.dstack("attach", "run")
			x.expect("Run run is failed\r\n")
			x.exits(1)
		},
		"another key": func(l *attachLab) {
			_, other := sshtest.NewKey(l.t)
			public := string(ssh.MarshalAuthorizedKey(other.PublicKey()))
			l.mu.Lock()
			l.find("run").RunSpec.SSHKeyPub = &public
			l.mu.Unlock()
			x := l.dstack("attach", "run")
			x.expect("User SSH key doesn't match; default SSH key (" + filepath.Join(l.home, ".dstack", "ssh", "id_rsa") + ") doesn't exist.")
			x.exits(1)
		},
		"since": func(l *attachLab) {
			x := l.dstack("attach", "run", "--logs", "--since", "1d")
			l.greeted(x)
			x.expect("serving at " + l.ssh.url() + "/x\r\r\n") // the server's copy
			l.ends("run", 0)
			x.exits(0)
		},
		"the host is gone": func(l *attachLab) {
			l.ssh.host.Close()
			x := l.dstack("attach", "run")
			x.expect("Can't connect to the remote host: connect to jump host 127.0.0.1:" + strconv.Itoa(l.ssh.host.Port) + ": connection refused")
			x.exits(1)
		},
		"a key that the job refuses": func(l *attachLab) {
			key, _ := sshtest.NewKey(l.t)
			file := filepath.Join(l.home, "key")
			if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
				l.t.Fatal(err)
			}
			x := l.dstack("attach", "run", "--ssh-identity", file)
			x.expect("refuses to log in ubuntu with the SSH key " + file)
			x.exits(1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newAttachLab(t)
			talk(l)
			l.clean()
		})
	}
}

// TestAttachHeals breaks connections while dstack is attached.
func TestAttachHeals(t *testing.T) {
	t.Parallel()
	l := newAttachLab(t)
	x := l.dstack("attach", "run", "--logs")
	l.greeted(x)
	x.expect(l.colouredLog())
	for _, cut := range []func(){l.ssh.host.Cut, l.ssh.agent.Cut} {
		cut()
		x.expect("The connection to the run run broke (")
		x.expect(") and was made again.")
		l.fetch()
	}
	addr := l.web.Listener.Addr().String()
	l.web.CloseClientConnections()
	l.web.Close()
	l.fetch() // does not need the server
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	l.web = httptest.NewUnstartedServer(l.fakeServer)
	_ = l.web.Listener.Close()
	l.web.Listener = listener
	l.web.Start()
	l.ssh.finishLog()
	l.ends("run", 3)
	x.expect("Exited (3)")
	if strings.Contains(x.passed, "serving") {
		t.Errorf("the log was shown twice: %q", x.passed)
	}
	x.exits(3)
	l.clean()
}

// TestAttachFollowsARetry: the log and the port lead to the new submission.
func TestAttachFollowsARetry(t *testing.T) {
	t.Parallel()
	l := newAttachLab(t)
	x := l.dstack("attach", "run", "--logs")
	l.greeted(x)
	x.expect(l.colouredLog())
	l.again("run")
	l.greeted(x)
	x.expect(l.colouredLog())
	l.fetch()
	l.ssh.finishLog()
	l.ends("run", 0)
	x.expect("Exited (0)")
	x.exits(0)
	l.clean()
}

// TestContainerGoneWhileAttached: nobody answers any more, and then the
// server says why.
func TestContainerGoneWhileAttached(t *testing.T) {
	t.Parallel()
	l := newAttachLab(t)
	x := l.dstack("attach", "run", "--logs")
	l.greeted(x)
	x.expect(l.colouredLog())
	l.ssh.agent.Close()
	x.expect("Lost the connection to the run run: ")
	x.expect(". Connecting again...")
	l.mu.Lock()
	l.find("run").log += "the rest\r\n"
	l.mu.Unlock()
	l.ends("run", 137)
	x.expect("\nthe rest\r\r\n")
	x.expect("Exited (137)")
	x.exits(137)
	l.clean()
}

// TestTwoAttachesToOneRun: the second shares the port of the first, and has
// it when the first is gone.
func TestTwoAttachesToOneRun(t *testing.T) {
	t.Parallel()
	l := newAttachLab(t)
	first := l.dstack("attach", "run")
	l.greeted(first)
	second := l.dstack("attach", "run")
	l.greeted(second)
	l.fetch()
	first.send(ctrlC)
	first.expect("[d/s/a]: ")
	first.send("d\n")
	first.exits(0)
	text, err := os.ReadFile(filepath.Join(l.home, ".dstack", "ssh", "config"))
	if err != nil || !strings.Contains(string(text), "Host run\n") {
		t.Errorf("the second's entries are gone: %v\n%s", err, text)
	}
	waitForPort(t, l.ssh.local)
	l.fetch()
	l.ends("run", 0)
	second.expect("Exited (0)")
	second.exits(0)
	l.clean()
}

// TestTwoRunsOfOneName: runs of the same name on two servers, attached to by
// one user, keep their own ports and files.
func TestTwoRunsOfOneName(t *testing.T) {
	t.Parallel()
	one, other := newAttachLab(t), newAttachLab(t)
	other.home = one.home
	other.fakeServer.ssh.key, other.fakeServer.ssh.public = one.ssh.key, one.ssh.public
	other.ssh.signer = one.ssh.signer
	other.ssh.host.Close()
	other.ssh.agent.Close()
	other.ssh.host = sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{one.ssh.signer.PublicKey()}})
	other.ssh.startAgent("")
	other.serving(t, "run")
	first := one.dstack("attach", "run")
	one.greeted(first)
	second := other.dstack("attach", "run")
	other.greeted(second)
	one.fetch()
	other.fetch()
	other.ends("run", 0)
	second.exits(0)
	text, err := os.ReadFile(filepath.Join(one.home, ".dstack", "ssh", "config"))
	if err != nil || strings.Count(string(text), "Host run\n") != 1 || !strings.Contains(string(text), "Port "+strconv.Itoa(one.ssh.host.Port)+"\n") {
		t.Errorf("the first's entries are not what is left: %v\n%s", err, text)
	}
	one.fetch()
	one.ends("run", 0)
	first.exits(0)
	one.clean()
}

// waitForPort waits until somebody listens.
func waitForPort(t *testing.T, port int) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for ; t.Context().Err() == nil; <-again.C {
		conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			_ = conn.Close()
			return
		}
	}
	t.Fatal("nobody took the port over")
}

// TestAttachCleansUpOnSignals: a closed terminal and a shutdown leave nothing.
func TestAttachCleansUpOnSignals(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		l := newAttachLab(t)
		x := l.dstack("attach", "run")
		l.greeted(x)
		entries, err := os.ReadDir(filepath.Join(l.home, ".dstack", "ssh", "forwards"))
		if err != nil || len(entries) != 1 {
			t.Fatalf("state files: %v, %v", entries, err)
		}
		pid, err := strconv.Atoi(strings.TrimSuffix(entries[0].Name(), ".json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
		x.exits(128 + int(signal))
		l.clean()
	}
}

// TestApplyAttaches: apply forwards the ports, too, and shows the job's own
// output.
func TestApplyAttaches(t *testing.T) {
	t.Parallel()
	l := newAttachLab(t)
	file := filepath.Join(l.home, "new.yml")
	if err := os.WriteFile(file, []byte("type: task\nname: new\ncommands: [serve]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	x := l.dstack("apply", "-y", "-f", "new.yml")
	x.expect("new provisioning completed (running)\r\n")
	x.expect("serving")
	x.expect("/x\r\r\n")
	waitForPort(t, l.ssh.local)
	l.fetch()
	l.ssh.finishLog()
	l.ends("new", 42)
	x.expect("Exited (42)")
	x.exits(42)
	l.clean()
}
