package docker

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"dstack/shim/workload"
)

func TestProcessesOf(t *testing.T) {
	id := strings.Repeat("ab", 32)
	proc := fstest.MapFS{
		"1/cgroup":      {Data: []byte("0::/init.scope\n")},
		"40/cgroup":     {Data: []byte("0::/system.slice/docker-" + id + ".scope\n")},
		"41/cgroup":     {Data: []byte("12:cpu:/docker/" + id + "\n1:name=systemd:/docker/" + id + "\n")},
		"42/cgroup":     {Data: []byte("0::/docker/" + strings.Repeat("cd", 32) + "\n")},
		"self/cgroup":   {Data: []byte("0::/docker/" + id + "\n")},
		"43/status":     {},
		"sys/4x/cgroup": {},
	}
	if diff := cmp.Diff([]int{40, 41}, processesOf(proc, id)); diff != "" {
		t.Error(diff)
	}
	if got := processesOf(proc, ""); got != nil {
		t.Errorf("processes of nothing: %v", got)
	}
}

// starts is an engine whose starts of containers fail as told, in order.
type starts struct {
	mu       sync.Mutex
	failures []string
	begins   bool // the job begins though the start fails
	made     bool
	calls    []string
	run      string
}

func (s *starts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	call := r.Method + " " + filepath.Base(r.URL.Path)
	answer := func(status int, body string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
	switch {
	case strings.HasSuffix(call, "ping"):
		answer(http.StatusOK, "{}")
		return
	case call == "GET json":
		answer(http.StatusOK, `{"Id": "none", "State": {"Status": "created"}, "Config": {"Labels": {"`+labelID+`": "id"}}}`)
		return
	case call == "POST create" && s.made:
		answer(http.StatusConflict, `{"message": "name taken"}`)
	case call == "POST create":
		s.made = true
		answer(http.StatusCreated, `{"Id": "none"}`)
	case r.Method == http.MethodDelete:
		s.made, call = false, "DELETE"
		answer(http.StatusNoContent, "")
	case len(s.failures) == 0:
		answer(http.StatusNoContent, "")
	default:
		if s.begins {
			_ = os.Remove(s.run)
		}
		answer(http.StatusConflict, fmt.Sprintf(`{"message": %q}`, s.failures[0]))
		s.failures = s.failures[1:]
	}
	s.calls = append(s.calls, call)
}

func TestLaunchAfterFailedStart(t *testing.T) {
	const create, start, remove = "POST create", "POST start", "DELETE"
	left := "id already in use"
	tests := []struct {
		name     string
		failures []string
		begins   bool
		calls    []string
		message  string
	}{
		{"starts", nil, false, []string{create, start}, ""},
		{"left by an engine", []string{left, left}, false, []string{create, start, create, start, create, start}, ""},
		{"bundle left by an engine", []string{"mkdir x: file exists"}, false, []string{create, start, remove, create, start}, ""},
		{"cannot be made again either", []string{"file exists", "file exists"}, false, []string{create, start, remove, create, start}, "startContainer error: Error response from daemon: file exists"},
		{"other fault", []string{"no such device"}, false, []string{create, start}, "startContainer error: Error response from daemon: no such device"},
		{"job began", []string{left}, true, []string{create, start}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := &starts{failures: tt.failures, begins: tt.begins, run: filepath.Join(dir, "spec")}
			if err := os.WriteFile(s.run, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			r := engineOf(t, s)
			task := job(func(t *workload.Task) { t.Spec.NetworkMode = "host" })
			_, err := r.Launch(t.Context(), task, func() bool {
				_, err := os.Stat(s.run)
				return err == nil
			})
			message := ""
			if err != nil {
				message = err.Error()
			}
			if message != tt.message {
				t.Errorf("error %q, want %q", message, tt.message)
			}
			if diff := cmp.Diff(tt.calls, s.calls); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func engineOf(t *testing.T, handler http.Handler) *Runtime {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Setenv("DOCKER_HOST", "unix://"+l.Addr().String())
	r, err := New(Config{ImagesFile: filepath.Join(dir, "images"), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.cli.Close(); err != nil {
			t.Error(err)
		}
		_ = server.Close()
		wg.Wait()
	})
	return r
}
