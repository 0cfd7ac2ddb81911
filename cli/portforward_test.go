package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dstack/cli/tunnel"
	"dstack/protocol/api"
)

func TestParseForward(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]tunnel.Want{
		"8080:80":          {Local: 8080, Remote: 80},
		"80":               {Local: 80, Remote: 80},
		":80":              {Remote: 80},
		"*:80":             {Remote: 80},
		"8080:/run/x.sock": {Local: 8080, Remote: anySocketPort, Socket: "/run/x.sock"},
		":/run//x.sock":    {Remote: anySocketPort, Socket: "/run/x.sock"},
	} {
		if got, err := parseForward(arg); err != nil || got != want {
			t.Errorf("%s: %+v %v", arg, got, err)
		}
	}
	for _, arg := range []string{"", ":", "x", "80:x", "0", "65536", "80:65536", "-1:80", "/run/x.sock", "80:run.sock", "1:2:3"} {
		if got, err := parseForward(arg); err == nil {
			t.Errorf("%s: taken as %+v", arg, got)
		}
	}
}

// TestPortForward reaches an HTTP server and a unix socket of the job, also
// after the connection broke.
func TestPortForward(t *testing.T) {
	t.Parallel()
	r := newJobRig(t)
	hello := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { _, _ = fmt.Fprint(w, "hello "+req.URL.Path) })
	web := httptest.NewServer(hello)
	defer web.Close()
	_, port, err := net.SplitHostPort(web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(r.home, "web.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	unix := &http.Server{Handler: hello}
	go func() { _ = unix.Serve(l) }()
	defer unix.Close()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in, out := io.Pipe()
	var errs strings.Builder
	code := make(chan int, 1)
	go func() {
		code <- r.start(ctx, strings.NewReader(""), out, &errs, "port-forward", "job", "--json", ":"+port, ":"+socket)
		_ = out.Close()
	}()
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil {
		t.Fatalf("%v; exit code %d, %s", err, <-code, errs.String())
	}
	var got struct {
		RunName string          `json:"run_name"`
		Ports   []forwardedPort `json:"ports"`
	}
	if err := json.Unmarshal([]byte(line), &got); err != nil || got.RunName != "job" || len(got.Ports) != 2 || got.Ports[1].Socket != socket {
		t.Fatalf("%v in %s", err, line)
	}
	ask := func(port forwardedPort) {
		t.Helper()
		// Each on a connection of its own: the kept ones are cut, too.
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get(port.URL + "/x")
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "hello /x" {
			t.Errorf("%s: %q %v", port.URL, text, err)
		}
	}
	for _, port := range got.Ports {
		ask(port)
	}
	r.cut()
	eventually(t, "connected again", func() bool {
		resp, err := http.Get(got.Ports[0].URL)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	})
	http.DefaultClient.CloseIdleConnections()
	ask(got.Ports[1])
	cancel()
	if n := <-code; n != 0 {
		t.Errorf("exit code %d, %s", n, errs.String())
	}
	if want := "The connection to run job was lost. Connecting again...\nConnected again.\n"; errs.String() != want {
		t.Errorf("told: %q", errs.String())
	}
}

func TestPortForwardFaults(t *testing.T) {
	t.Parallel()
	r := newJobRig(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"job " + port + ":80": "port " + port + " is already in use. Take any free one with :80\n",
		"none :80":            "Run none not found\n",
		"job 80:x":            "argument [local:]remote: invalid value: '80:x' (ports are 1 to 65535)\n",
		"job":                 "the following arguments are required: run_name, [local:]remote\n",
	} {
		code, _, stderr := r.dstack(append([]string{"port-forward"}, strings.Split(args, " ")...)...)
		if code == 0 || !strings.HasSuffix(stderr, want) {
			t.Errorf("%s: %d, %q", args, code, stderr)
		}
	}
	r.ends(api.JobTerminated, "stopped")
	if code, _, stderr := r.dstack("port-forward", "job", ":80"); code != 1 || stderr != "Run job is not running any more: stopped\n" {
		t.Errorf("%d, %q", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(r.here, ".ssh")); err == nil {
		t.Error("~/.ssh was made")
	}
}

// TestPortForwardText lists the URLs.
func TestPortForwardText(t *testing.T) {
	t.Parallel()
	r := newJobRig(t)
	x := openPTY(t, r.here, r.url, func() {}, "port-forward", "job", "--host", "127.0.0.1", ":18080", ":/x.sock")
	x.expect("Forwarded ports (local -> remote):\r\n  - http://127.0.0.1:")
	x.expect(" -> 18080\r\n  - http://127.0.0.1:")
	x.expect(" -> /x.sock\r\nPress Ctrl+C to stop...")
	x.send(ctrlC)
	x.exits(0)
}

// FuzzForward takes only what can be forwarded.
func FuzzForward(f *testing.F) {
	for _, arg := range []string{"80", "8080:80", ":80", "*:80", "1:/a.sock", "::", "99999999999999999999:1"} {
		f.Add(arg)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		want, err := parseForward(arg)
		if err != nil {
			return
		}
		if want.Local < 0 || want.Local > 65535 || want.Remote < 1 || want.Remote > 65535 || want.Socket != "" && !filepath.IsAbs(want.Socket) {
			t.Errorf("%q: %+v", arg, want)
		}
	})
}
