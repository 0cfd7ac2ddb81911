package cli

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"dstack/cli/term"
	"dstack/cli/tunnel"
	"dstack/client"
	"dstack/protocol/api"
	"dstack/sshlink/sshtest"
)

// relayServer leads to a job's SSH server, or answers with a refusal.
type relayServer struct {
	job    string // host:port
	status int    // 0 lets in
	body   string
	asked  atomic.Int32
}

func (s *relayServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	if r.URL.String() != "/api/project/main/runs/train/relay?job=0&replica=2" || r.Header.Get("Authorization") != "Bearer "+fakeToken {
		http.Error(w, r.URL.String(), http.StatusTeapot)
		return
	}
	if s.status != 0 {
		http.Error(w, s.body, s.status)
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	user := websocket.NetConn(context.WithoutCancel(r.Context()), ws, websocket.MessageBinary)
	job, err := net.Dial("tcp", s.job)
	if err != nil {
		_ = ws.Close(websocket.StatusBadGateway, "no job")
		return
	}
	go func() {
		_, _ = io.Copy(job, user)
		_ = job.Close()
	}()
	_, _ = io.Copy(user, job)
	_ = user.Close()
}

// relayed is a job that no direct way leads to, and an App for it.
func relayed(t *testing.T, s *relayServer) (*App, *reach) {
	t.Helper()
	key, signer := sshtest.NewKey(t)
	agent := sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}})
	s.job = net.JoinHostPort(agent.Host, strconv.Itoa(agent.Port))
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, fakeToken, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	name := "train"
	run := api.Run{RunSpec: api.RunSpec{RunName: &name}}
	r := &reach{
		run: run, job: api.Job{JobSubmissions: []api.JobSubmission{{}}},
		route: []tunnel.Hop{
			{Alias: "train-host", Host: "127.0.0.1", Port: closed, User: "ubuntu"},
			{Alias: "train", Host: "localhost", Port: 32768, User: "root"},
		},
		key:   loginKey{private: key, path: "/key"},
		relay: &relayWay{&session{Project: c.Project("main"), project: "main"}, "train", 2, 0},
	}
	return &App{Console: &term.Console{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}}, r
}

// TestRelayWay goes through the server where the host can't be reached, and
// says so once.
func TestRelayWay(t *testing.T) {
	t.Parallel()
	for _, via := range []bool{false, true} {
		s := &relayServer{}
		a, r := relayed(t, s)
		r.viaServer = via
		notices := make(chan tunnel.Notice, 10)
		tun, err := a.openTunnel(t.Context(), r, func(n tunnel.Notice) { notices <- n })
		if err != nil {
			t.Fatal(err)
		}
		c, err := tun.Client(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		session, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if out, err := session.Output("echo hello"); err != nil || string(out) != "hello\n" {
			t.Errorf("%q, %v", out, err)
		}
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
		var said []string
		for len(notices) > 0 {
			if n := <-notices; n.What == tunnel.Detour {
				said = append(said, n.Way.String())
			}
		}
		var want []string
		if !via {
			want = []string{"the dstack server"}
		}
		if diff := cmp.Diff(want, said); diff != "" || s.asked.Load() != 1 {
			t.Errorf("--via-server %t, asked %d times (-want +got):\n%s", via, s.asked.Load(), diff)
		}
	}
}

// TestRelayRefused says why no way leads to the job.
func TestRelayRefused(t *testing.T) {
	t.Parallel()
	const denied = `{"detail":{"msg":"Access denied","code":null}}`
	const unknown = `{"detail":[{"msg":"Run train not found","code":"resource_not_exists"}]}`
	for _, tt := range []struct {
		via    bool
		status int
		body   string
		want   []string
	}{
		{true, 403, denied, []string{"Can't connect to the job through the server: ", "Access denied"}},
		{true, 400, unknown, []string{"Can't connect to the job through the server: Run train not found"}},
		{true, 404, `{"detail":"Not Found"}`, []string{"Can't connect to the job through the server: the server can't connect to jobs for others"}},
	} {
		a, r := relayed(t, &relayServer{status: tt.status, body: tt.body})
		r.viaServer = tt.via
		_, err := a.openTunnel(t.Context(), r, nil)
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("--via-server %t, answer %d: %v, want %q", tt.via, tt.status, err, want)
			}
		}
	}
}

// TestSSHRelay connects what a user's ssh says with the job.
func TestSSHRelay(t *testing.T) {
	t.Parallel()
	s := &relayServer{}
	relayed(t, s)
	server := httptest.NewServer(s)
	defer server.Close()
	env := map[string]string{"DSTACK_SERVER_URL": server.URL, "DSTACK_TOKEN": fakeToken, "DSTACK_PROJECT": fakeProject}
	stdin, said := io.Pipe()
	out, job := io.Pipe()
	var errs bytes.Buffer
	a := &App{
		Console: &term.Console{In: stdin, Out: job, Err: &errs},
		env: Env{
			Args: []string{"ssh-relay", "--replica", "2", "train"}, Home: t.TempDir(),
			Getenv:    func(name string) string { return env[name] },
			LookupEnv: func(name string) (string, bool) { value, ok := env[name]; return value, ok },
		},
	}
	a.log = newLogFile(a.env.Home, a.env.Now, a.Warn)
	done := make(chan int, 1)
	go func() { done <- a.run(t.Context()) }()
	greeting := make([]byte, 8)
	if _, err := io.ReadFull(out, greeting); err != nil || string(greeting) != "SSH-2.0-" {
		t.Errorf("the job's SSH server says %q, %v", greeting, err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if err := said.Close(); err != nil {
		t.Error(err)
	}
	if code := <-done; code != 0 || errs.Len() > 0 {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
	_ = job.Close()
}

// TestProxyCommand gives a shell the words as they are.
func TestProxyCommand(t *testing.T) {
	t.Parallel()
	words := []string{"/a b/dst'ack", `C:\x y`, "plain", `"q"`, "$HOME", "`id`", "a;b&c|d", "*", "~", "50%", "é"}
	line := proxyCommand(append([]string{"printf", `%s\n`}, words...)...)
	// ssh replaces %% itself.
	out, err := exec.Command("sh", "-c", "exec "+strings.ReplaceAll(line, "%%", "%")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if diff := cmp.Diff(words, strings.Split(strings.TrimRight(string(out), "\n"), "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", line, diff)
	}
}
