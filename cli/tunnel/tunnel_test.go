package tunnel_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"dstack/cli/tunnel"
	"dstack/sshlink"
	"dstack/sshlink/sshtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// job is a job behind a host: two SSH servers, and what listens in the job.
type job struct {
	host, agent *sshtest.Server
	key         string
	hostKeys    []ssh.Signer // of the agent
	authorized  []ssh.PublicKey
	inside      map[string]string // "host:port" in the job -> address here

	mu      sync.Mutex
	notices []tunnel.Notice
}

func newJob(t *testing.T) *job {
	t.Helper()
	key, signer := sshtest.NewKey(t)
	_, hostKey := sshtest.NewKey(t)
	j := &job{key: key, authorized: []ssh.PublicKey{signer.PublicKey()}, hostKeys: []ssh.Signer{hostKey}, inside: map[string]string{}}
	j.host = sshtest.Start(t, sshtest.Options{Authorized: j.authorized})
	j.startAgent(t, "")
	return j
}

func (j *job) startAgent(t *testing.T, addr string) {
	t.Helper()
	j.agent = sshtest.Start(t, sshtest.Options{Authorized: j.authorized, HostKeys: j.hostKeys, Addr: addr, Dial: j.dial})
}

func (j *job) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if to, ok := j.inside[addr]; ok {
		addr = to
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

func (j *job) agentAddr() string { return net.JoinHostPort(j.agent.Host, strconv.Itoa(j.agent.Port)) }

func (j *job) way() *tunnel.Direct {
	return tunnel.NewDirect([]sshlink.Endpoint{{Host: j.host.Host, Port: j.host.Port, User: "ubuntu", Keys: []string{j.key}}}, j.agentAddr())
}

func (j *job) config(ways ...tunnel.Way) tunnel.Config {
	if ways == nil {
		ways = []tunnel.Way{j.way()}
	}
	return tunnel.Config{Ways: ways, Users: []string{"root"}, Keys: []string{j.key}, Notify: j.notify, Patience: time.Nanosecond}
}

func (j *job) notify(n tunnel.Notice) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notices = append(j.notices, n)
}

func (j *job) noticed() []tunnel.What {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []tunnel.What
	for _, n := range j.notices {
		all = append(all, n.What)
	}
	return all
}

func open(t *testing.T, cfg tunnel.Config) *tunnel.Tunnel {
	t.Helper()
	tun, err := tunnel.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tun.Close() })
	return tun
}

// webServer is an HTTP server in the job that greets.
func (j *job) webServer(t *testing.T, port int) {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello from the job")
	}))
	t.Cleanup(web.Close)
	j.inside[net.JoinHostPort("localhost", strconv.Itoa(port))] = web.Listener.Addr().String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func forward(t *testing.T, tun *tunnel.Tunnel, wants ...tunnel.Want) []tunnel.Forward {
	t.Helper()
	l, err := tunnel.Listen(t.Context(), "localhost", wants)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	l.Serve(tun)
	return l.Forwards()
}

func address(f tunnel.Forward) string { return "http://127.0.0.1:" + strconv.Itoa(f.Local) }

func TestForward(t *testing.T) {
	j := newJob(t)
	j.webServer(t, 8000)
	tun := open(t, j.config())
	got := forward(t, tun, tunnel.Want{Remote: 8000})
	if text := get(t, address(got[0])); text != "hello from the job" {
		t.Errorf("answer = %q", text)
	}
	client, err := tun.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Run(t.Context(), "echo $((6*7))", nil)
	if err != nil || string(res.Stdout) != "42\n" {
		t.Errorf("command = %q, %v", res.Stdout, err)
	}
	if err := tun.Close(); err != nil {
		t.Error(err)
	}
	<-tun.Done()
	if !errors.Is(tun.Err(), tunnel.ErrClosed) {
		t.Errorf("error = %v", tun.Err())
	}
	if _, err := tun.Dial(t.Context(), "tcp", "localhost:8000"); !errors.Is(err, tunnel.ErrClosed) {
		t.Errorf("dial after close = %v", err)
	}
}

func TestHealsAfterEachCut(t *testing.T) {
	j := newJob(t)
	j.webServer(t, 8000)
	tun := open(t, j.config())
	at := address(forward(t, tun, tunnel.Want{Remote: 8000})[0])
	for name, cut := range map[string]func(){
		"host's connections":  func() { j.host.Cut() },
		"agent's connections": func() { j.agent.Cut() },
	} {
		client, err := tun.Client(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		cut()
		<-client.Done()
		if text := get(t, at); text != "hello from the job" {
			t.Errorf("after cut of the %s: %q", name, text)
		}
	}
	if err := tun.Close(); err != nil {
		t.Error(err)
	}
	want := []tunnel.What{tunnel.Lost, tunnel.Restored, tunnel.Lost, tunnel.Restored}
	if diff := cmp.Diff(want, j.noticed()); diff != "" {
		t.Error(diff)
	}
}

func TestAnotherAgentAtTheSamePlaceIsRefused(t *testing.T) {
	j := newJob(t)
	tun := open(t, j.config())
	addr := j.agentAddr()
	j.agent.Close()
	_, other := sshtest.NewKey(t)
	j.hostKeys = []ssh.Signer{other}
	j.startAgent(t, addr)
	<-tun.Done()
	changed, ok := errors.AsType[*sshlink.HostKeyError](tun.Err())
	if !ok {
		t.Fatalf("error = %v, want a changed host key", tun.Err())
	}
	if changed.Got != ssh.FingerprintSHA256(other.PublicKey()) {
		t.Errorf("key = %s", changed.Got)
	}
}

func TestKeysThatAreRefusedEndTheTunnel(t *testing.T) {
	j := newJob(t)
	stranger, _ := sshtest.NewKey(t)
	cfg := j.config()
	cfg.Keys = []string{stranger}
	cfg.Patience = time.Hour
	if _, err := tunnel.Open(t.Context(), cfg); kind(err) != sshlink.AuthFailed {
		t.Errorf("error = %v, want refused keys at once", err)
	}
}

func kind(err error) sshlink.Kind {
	if e, ok := errors.AsType[*sshlink.Error](err); ok {
		return e.Kind
	}
	return ""
}

// brokenWay never leads anywhere.
type brokenWay struct{ err error }

func (w brokenWay) Dial(context.Context) (net.Conn, error) { return nil, w.err }
func (brokenWay) String() string                           { return "a broken way" }

func TestDetour(t *testing.T) {
	j := newJob(t)
	good := j.way()
	tun := open(t, j.config(brokenWay{errors.New("no route")}, good))
	if err := tun.Close(); err != nil {
		t.Error(err)
	}
	if len(j.notices) != 1 || j.notices[0].What != tunnel.Detour || j.notices[0].Way != good || !strings.Contains(j.notices[0].Err.Error(), "no route") {
		t.Errorf("notices = %v", j.notices)
	}
}

func TestNoDetourWhenKeysAreRefused(t *testing.T) {
	j := newJob(t)
	for _, e := range []sshlink.Error{{Kind: sshlink.AuthFailed}, {Kind: sshlink.HostKeyChanged, Jump: true}} {
		e.Err = errors.New("no")
		_, err := tunnel.Open(t.Context(), j.config(brokenWay{&e}, j.way()))
		if kind(err) != e.Kind {
			t.Errorf("error = %v", err)
		}
	}
}

// TestDetourAroundHost goes another way where a host on the first one does not
// take the user's keys: a jump host of the fleet's, for example.
func TestDetourAroundHost(t *testing.T) {
	j := newJob(t)
	refused := &sshlink.Error{Kind: sshlink.AuthFailed, Host: "h:22", User: "u", Jump: true, Err: errors.New("no")}
	tun, err := tunnel.Open(t.Context(), j.config(brokenWay{refused}, j.way()))
	if err != nil {
		t.Fatal(err)
	}
	if err := tun.Close(); err != nil {
		t.Error(err)
	}
	if len(j.notices) != 1 || j.notices[0].What != tunnel.Detour {
		t.Errorf("notices = %v", j.notices)
	}
}

// logServer serves a log as an agent does: text from the beginning, then the
// end when it is allowed to.
func (j *job) logServer(t *testing.T, text string, end <-chan struct{}) {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		for i := 0; i < len(text); i += 7 {
			if err := conn.Write(r.Context(), websocket.MessageBinary, []byte(text[i:min(i+7, len(text))])); err != nil {
				return
			}
		}
		ctx := conn.CloseRead(r.Context())
		select {
		case <-end:
			_ = conn.Close(websocket.StatusNormalClosure, "")
		case <-ctx.Done():
		}
	}))
	t.Cleanup(web.Close)
	j.inside["localhost:10999"] = web.Listener.Addr().String()
}

func TestLogsGoOnAfterACut(t *testing.T) {
	j := newJob(t)
	end := make(chan struct{})
	text := strings.Repeat("0123456789abcdef\n", 1000)
	j.logServer(t, text, end)
	tun := open(t, j.config())
	var got strings.Builder
	cuts := 3
	err := tun.Logs(t.Context(), nil, func(p []byte) error {
		got.Write(p)
		switch {
		case cuts > 0 && got.Len() > len(text)/(cuts+1):
			cuts--
			j.agent.Cut()
		case got.Len() == len(text):
			close(end)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if cuts != 0 || got.String() != text {
		t.Errorf("%d cuts left; log is %d bytes, want %d", cuts, got.Len(), len(text))
	}
}

func TestLogsEndWithTheirReader(t *testing.T) {
	j := newJob(t)
	j.logServer(t, "hello\n", nil)
	tun := open(t, j.config())
	enough := errors.New("enough")
	if err := tun.Logs(t.Context(), nil, func([]byte) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error = %v", err)
	}
}

func TestLogsOfAnAgentWithoutLog(t *testing.T) {
	j := newJob(t)
	closed := httptest.NewServer(nil)
	closed.Close()
	j.inside["localhost:10999"] = closed.Listener.Addr().String()
	tun := open(t, j.config())
	if err := tun.Logs(t.Context(), nil, func([]byte) error { return nil }); err == nil {
		t.Error("no error")
	}
}

func TestPortsAreHeldFromTheStart(t *testing.T) {
	first, err := tunnel.Listen(t.Context(), "localhost", []tunnel.Want{{Remote: 38000}, {Remote: 38000}})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	got := first.Forwards()
	if got[0].Local < 38000 || got[1].Local <= got[0].Local {
		t.Errorf("ports = %v", got)
	}
	_, err = tunnel.Listen(t.Context(), "localhost", []tunnel.Want{{Remote: 1, Local: got[0].Local}})
	if taken, ok := errors.AsType[*tunnel.PortError](err); !ok || taken.Port != got[0].Local {
		t.Errorf("error = %v, want that the port is taken", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	again, err := tunnel.Listen(t.Context(), "localhost", []tunnel.Want{{Remote: 1, Local: got[0].Local}})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestPortTakenOnTheWildcard(t *testing.T) {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = tunnel.Listen(t.Context(), "localhost", []tunnel.Want{{Remote: 1, Local: port}})
	if taken, ok := errors.AsType[*tunnel.PortError](err); !ok || taken.Port != port {
		t.Errorf("error = %v, want that the port is taken", err)
	}
}
