//go:build e2e

// Package wire lets the real Python models of dstack 0.22.5 decode every
// answer of our server.
package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dstack/controller"
	"dstack/controller/api"
)

// pythonDstack is the release that we are wire-compatible with.
const pythonDstack = "dstack==0.22.5"

// TestPythonClient starts a server on a database with every kind of row and
// runs check.py against it.
func TestPythonClient(t *testing.T) {
	python := venv(t)
	dir := t.TempDir()
	fixture := seed(t, dir)
	path := filepath.Join(dir, "fixture.json")
	data, err := json.Marshal(fixture)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	url, log := serve(t, dir)
	cmd := exec.CommandContext(t.Context(), python, "check.py", url, path)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range api.Routes() {
		if !strings.Contains(log(), strconv.Quote(route)) {
			t.Errorf("check.py does not call %s", route)
		}
	}
}

// lockedBuffer is a buffer for a writer and a reader at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// venv returns a Python that has the client, made once in the user's cache.
func venv(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "dstack-test", pythonDstack)
	if made := os.Getenv("DSTACK_TEST_VENV"); made != "" {
		dir = made
	}
	python := filepath.Join(dir, "bin", "python")
	if exec.Command(python, "-c", "import dstack.api.server").Run() == nil {
		return python
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	steps := [][]string{{"python3", "-m", "venv", dir}, {python, "-m", "pip", "install", "-q", pythonDstack}}
	if _, err := exec.LookPath("uv"); err == nil {
		steps = [][]string{{"uv", "venv", "-q", dir}, {"uv", "pip", "install", "-q", "--python", python, pythonDstack}}
	}
	for _, step := range steps {
		if out, err := exec.CommandContext(t.Context(), step[0], step[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", step, err, out)
		}
	}
	return python
}

// serve runs the server in this process until the test ends. It drives
// nothing: the rows are to stay as they are. It returns the URL and what
// gives the log so far.
func serve(t *testing.T, dir string) (string, func() string) {
	t.Helper()
	settings, err := controller.SettingsFrom(func(string) string { return "" }, dir)
	if err != nil {
		t.Fatal(err)
	}
	settings.Dir, settings.Port, settings.NoBackground = dir, freePort(t), true
	settings.SSHProxy.Token = "proxy-token"
	settings.LogFormat, settings.LogLevel = controller.FormatJSON, "DEBUG"
	log := &lockedBuffer{}
	ctx, cancel := context.WithCancel(context.Background())
	server, err := controller.New(ctx, controller.Config{Settings: settings, Out: log, Home: dir, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("server: %v", err)
		}
		if t.Failed() {
			t.Logf("server log:\n%s", log.String())
		}
	})
	url := "http://" + net.JoinHostPort("127.0.0.1", itoa(settings.Port))
	// The port is taken already: this waits until the server answers.
	resp, err := http.Get(url + "/healthcheck") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return url, log.String
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
