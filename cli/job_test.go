package cli

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
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/ssh"

	"dstack/agent/account"
	"dstack/agent/reap"
	"dstack/agent/sftpserver"
	"dstack/agent/sshd"
	"dstack/cli/term"
	"dstack/protocol/api"
)

// jobVar makes the test binary the SSH server of a job's agent: it has
// children of its own to wait for.
const jobVar = "TEST_AS_JOB"

// jobProcess describes that server.
type jobProcess struct {
	Key  string `json:"key"`
	Home string `json:"home"`
	Dir  string `json:"dir"`
}

// asJob is the agent's SSH server, or its SFTP server, if the process is to
// be one of them.
func asJob() bool {
	if len(os.Args) > 1 && os.Args[1] == sftpserver.Command {
		if err := sftpserver.Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return true
	}
	text := os.Getenv(jobVar)
	if text == "" {
		return false
	}
	if err := serveJob(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// serveJob serves until standard input ends.
func serveJob(text string) error {
	var p jobProcess
	if err := errors.Join(json.Unmarshal([]byte(text), &p), os.Unsetenv(jobVar)); err != nil {
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
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(p.Key)) //nolint:dogsled // only the key counts
	if err != nil {
		return err
	}
	cfg := sshd.Config{
		HostKeys: []ssh.Signer{host}, Keys: []ssh.PublicKey{key}, Reaper: reap.New(), Log: zerolog.Nop(),
		SFTP: []string{"/proc/self/exe", sftpserver.Command},
		Account: func(name string) (sshd.Account, error) {
			if name != "root" && name != "me" {
				return sshd.Account{}, errors.New("no such user")
			}
			user := account.User{Name: name, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Home: p.Home, Shell: "/bin/sh"}
			return sshd.Account{User: user, Dir: p.Dir, Env: []string{"PATH=" + os.Getenv("PATH"), "OF_JOB=yes", "PS1=$ "}}, nil
		},
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- sshd.New(cfg).Run(ctx, l) }()
	go func() { ended <- cfg.Reaper.Run(ctx) }()
	_, err = io.Copy(io.Discard, os.Stdin)
	cancel()
	return errors.Join(err, <-ended, <-ended)
}

// jobRig is a run whose job is a process of this machine, with a real SSH
// server, and a cable in between that can be cut.
type jobRig struct {
	t *testing.T
	// url is that of the server; here is the user's folder, home that of the
	// job's user, and work the job's working directory.
	url, here, home, work string
	fake                  *fakeServer
	run                   *fakeRun

	cable net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
	// budget, if not 0, is after how many bytes the cable is cut once.
	budget int64
	cuts   int
	onCut  func()
}

func newJobRig(t *testing.T) *jobRig {
	t.Helper()
	r := &jobRig{t: t, here: t.TempDir(), home: t.TempDir()}
	r.work = filepath.Join(r.home, "work")
	if err := os.Mkdir(r.work, 0o755); err != nil {
		t.Fatal(err)
	}
	private, public := r.newKey()
	address := r.startJob(public)
	var err error
	if r.cable, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	r.wg.Go(func() { r.carry(address) })
	t.Cleanup(func() {
		_ = r.cable.Close()
		r.cut()
		r.wg.Wait()
	})
	r.fake = newFakeServer()
	r.fake.ssh = &fakeSSH{key: private, public: public}
	r.addRun(public)
	server := httptest.NewServer(r.fake)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *jobRig) newKey() (private, public string) {
	r.t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		r.t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

func (r *jobRig) startJob(public string) (address string) {
	r.t.Helper()
	text, err := json.Marshal(jobProcess{public, r.home, r.work})
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), jobVar+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			r.t.Errorf("job: %v", err)
		}
	})
	return strings.TrimSpace(line)
}

// addRun makes the run "job" that is at the other end of the cable.
func (r *jobRig) addRun(public string) {
	address, ok := r.cable.Addr().(*net.TCPAddr)
	if !ok {
		r.t.Fatal("no port")
	}
	name, host, user := "job", "127.0.0.1", "me"
	sub := api.JobSubmission{
		ID: "00000000-0000-4000-8000-00000000bbbb", Status: api.JobRunning, StatusMessage: "running",
		JobProvisioningData: &api.JobProvisioningData{Hostname: &host, SSHPort: &address.Port, Username: "root"},
		JobRuntimeData:      &api.JobRuntimeData{WorkingDir: &r.work, Username: &user},
	}
	r.run = &fakeRun{Run: api.Run{
		ID: "00000000-0000-4000-8000-00000000cccc", Status: api.RunRunning, StatusMessage: "running",
		Jobs: []api.Job{{JobSpec: api.JobSpec{JobName: "job-0-0"}, JobSubmissions: []api.JobSubmission{sub}}},
	}}
	r.run.RunSpec.RunName, r.run.RunSpec.SSHKeyPub = &name, &public
	r.fake.runs = []*fakeRun{r.run}
}

// ends makes the job one that is not running, in the server's eyes.
func (r *jobRig) ends(status api.JobStatus, message string) {
	r.fake.mu.Lock()
	defer r.fake.mu.Unlock()
	sub := &r.run.Jobs[0].JobSubmissions[0]
	sub.Status, sub.StatusMessage = status, message
}

// carry connects the cable to the job.
func (r *jobRig) carry(address string) {
	for {
		near, err := r.cable.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", address)
		if err != nil {
			_ = near.Close()
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, near, far)
		r.mu.Unlock()
		for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
			r.wg.Go(func() {
				_, _ = io.Copy(io.MultiWriter(pair[0], budget{r}), pair[1])
				_ = pair[0].Close()
			})
		}
	}
}

// budget counts bytes and cuts the cable.
type budget struct{ r *jobRig }

// Write counts.
func (b budget) Write(p []byte) (int, error) {
	b.r.mu.Lock()
	over := b.r.budget > 0 && b.r.budget <= int64(len(p))
	b.r.budget = max(b.r.budget-int64(len(p)), 0)
	onCut := b.r.onCut
	b.r.mu.Unlock()
	if over {
		if onCut != nil {
			onCut()
		}
		b.r.cut()
	}
	return len(p), nil
}

// cutLater cuts the cable once after 20 MiB; before is called then.
func (r *jobRig) cutLater(before func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.budget, r.onCut = 20<<20, before
}

func (r *jobRig) cutsMade() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cuts
}

// cut ends all connections through the cable.
func (r *jobRig) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
	r.cuts++
}

// command runs the command line with this standard input.
func (r *jobRig) command(ctx context.Context, in io.Reader, args ...string) (code int, stdout, stderr string) {
	r.t.Helper()
	var out, errs bytes.Buffer
	code = r.start(ctx, in, &out, &errs, args...)
	return code, out.String(), errs.String()
}

func (r *jobRig) start(ctx context.Context, in io.Reader, out, errs io.Writer, args ...string) int {
	env := map[string]string{"DSTACK_SERVER_URL": r.url, "DSTACK_TOKEN": fakeToken, "DSTACK_PROJECT": fakeProject, "MINE": "my own"}
	a := &App{
		Console: &term.Console{In: in, Out: out, Err: errs},
		env: Env{
			Args: args, Home: r.here, Now: time.Now,
			Getenv: func(name string) string { return env[name] },
			LookupEnv: func(name string) (string, bool) {
				value, ok := env[name]
				return value, ok
			},
		},
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.Interrupts = term.NewInterrupts(cancel)
	a.log = newLogFile(a.env.Home, a.env.Now, a.Warn)
	return a.run(ctx)
}

// dstack is command for what needs no input.
func (r *jobRig) dstack(args ...string) (code int, stdout, stderr string) {
	r.t.Helper()
	return r.command(r.t.Context(), strings.NewReader(""), args...)
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}
