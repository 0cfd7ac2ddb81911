package sshd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"dstack/agent/account"
	"dstack/agent/reap"
	"dstack/agent/sftpserver"
	"dstack/agent/sshd"
)

// configVar makes the test binary a server with the configuration it holds:
// the tests' own process has children of its own to wait for.
const configVar = "SSHD_TEST_CONFIG"

func TestMain(m *testing.M) {
	// As the agent does: under nohup programs would ignore HUP, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	if text := os.Getenv(configVar); text != "" {
		if err := asServer(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == sftpserver.Command {
		if err := sftpserver.Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// config describes a server.
type config struct {
	Keys []string
	Home string
	// Shell is that of every user; UID and GID, if not 0, are of every user.
	Shell    string
	UID, GID uint32
	Groups   []uint32
	Env      []string
}

const ownPort = 10999

// asServer serves until its standard input ends, and fails if anything stays.
func asServer(text string) error {
	var c config
	if err := errors.Join(json.Unmarshal([]byte(text), &c), os.Unsetenv(configVar)); err != nil { //nolint:musttag // only between two ends of this test
		return err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	host, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return err
	}
	cfg := sshd.Config{
		HostKeys: []ssh.Signer{host}, Account: c.account, Reaper: reap.New(),
		SFTP: []string{"/proc/self/exe", sftpserver.Command}, Log: zerolog.New(os.Stderr),
		Own: map[uint32]func(net.Conn){ownPort: greet},
	}
	for _, line := range c.Keys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return err
		}
		cfg.Keys = append(cfg.Keys, key)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 2)
	go func() { ended <- sshd.New(cfg).Run(ctx, l) }()
	go func() { ended <- cfg.Reaper.Run(ctx) }()
	_, err = io.Copy(io.Discard, os.Stdin)
	cancel()
	err = errors.Join(err, <-ended, <-ended)
	return errors.Join(err, goleak.Find(goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop")))
}

func (c config) account(name string) (sshd.Account, error) {
	if name == "ghost" {
		return sshd.Account{}, errors.New("no such user")
	}
	who := sshd.Account{
		User: account.User{Name: name, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Home: c.Home, Shell: c.Shell},
		Env:  c.Env,
	}
	if c.UID != 0 {
		who.UID, who.GID, who.Groups = c.UID, c.GID, c.Groups
		who.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
	}
	return who, nil
}

// greet is what the server itself says at its port.
func greet(conn net.Conn) {
	go func() {
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlogs")
		}
	}()
}

// server is a running server with a client's files.
type server struct {
	t         *testing.T
	host      string
	port      string
	home, dir string // of the user there; of the client here
	key       ssh.Signer
	stderr    *bytes.Buffer
	stop      func() error
	config    string // of OpenSSH's clients
}

func serve(t *testing.T, change ...func(*config)) *server {
	t.Helper()
	s := &server{t: t, home: t.TempDir(), dir: t.TempDir(), stderr: &bytes.Buffer{}}
	if err := os.Chmod(s.home, 0o755); err != nil {
		t.Fatal(err)
	}
	s.key = s.newKey("id")
	c := config{Keys: []string{string(ssh.MarshalAuthorizedKey(s.key.PublicKey()))}, Home: s.home, Shell: "/bin/sh", Env: []string{
		"PATH=" + os.Getenv("PATH"), "JOB_VARIABLE=from job", "HOME=/elsewhere", "PWD=/elsewhere",
	}}
	for _, f := range change {
		f(&c)
	}
	if c.UID != 0 {
		if err := os.Chown(s.home, int(c.UID), int(c.GID)); err != nil {
			t.Fatal(err)
		}
		openUp(t, s.home)
	}
	text, err := json.Marshal(c) //nolint:musttag // only between two ends of this test
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), configVar+"="+string(text))
	cmd.Stderr = s.stderr
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
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s.host, s.port, err = net.SplitHostPort(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	s.stop = func() error { return errors.Join(in.Close(), cmd.Wait()) }
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("server: %v", err)
		}
		if t.Failed() {
			t.Logf("server:\n%s", s.stderr)
		}
	})
	s.config = s.file("config", fmt.Sprintf(`Host job
HostName %s
Port %s
User root
IdentityFile %s/id
IdentitiesOnly yes
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
ConnectTimeout 20
`, s.host, s.port, s.dir))
	return s
}

// openUp lets every user come to path.
func openUp(t *testing.T, path string) {
	t.Helper()
	for p := filepath.Dir(path); p != "/"; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, info.Mode()|0o011); err != nil {
			t.Fatal(err)
		}
	}
}

// file writes a file of the client.
func (s *server) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// newKey makes a key of the client.
func (s *server) newKey(name string) ssh.Signer {
	s.t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		s.t.Fatal(err)
	}
	s.file(name, string(pem.EncodeToMemory(block)))
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		s.t.Fatal(err)
	}
	s.file(name+".pub", string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return signer
}

// limit is how long a test waits for what must come.
const limit = time.Minute

// command is a program of OpenSSH's client that knows the host "job".
func (s *server) command(name string, args ...string) *exec.Cmd {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	s.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, append([]string{"-F", s.config}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "SSH_AUTH_SOCK=")
	cmd.Dir = s.dir
	return cmd
}

// ssh runs ssh to its end and returns what it wrote and its exit status.
func (s *server) ssh(stdin string, args ...string) (stdout, stderr string, status int) {
	s.t.Helper()
	return s.result(s.command("ssh", args...), stdin)
}

func (s *server) result(cmd *exec.Cmd, stdin string) (stdout, stderr string, status int) {
	s.t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("%s: %v", cmd, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// expect runs ssh and compares what comes of it.
func (s *server) expect(stdin, stdout, stderr string, status int, args ...string) {
	s.t.Helper()
	out, errs, code := s.ssh(stdin, args...)
	if out != stdout || errs != stderr || code != status {
		s.t.Errorf("ssh %q: %q, %q, %d, want %q, %q, %d", args, out, errs, code, stdout, stderr, status)
	}
}
