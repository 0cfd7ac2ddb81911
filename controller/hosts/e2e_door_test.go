//go:build e2e

package hosts

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dstack/controller/store"
	"dstack/protocol/jobapi"
)

// A job on this machine asks the server at its socket, through the real shim and
// agent; one without access finds none.
func TestRealDoor(t *testing.T) {
	payload := built(t)
	dir, err := os.MkdirTemp("", "dl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("server at " + r.URL.Path + " "))
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		close(l.closed)
		_ = server.Close()
		<-served
	})
	tg := Target{InstanceID: "i", Access: store.Access{Local: true, Env: map[string]string{"DSTACK_SHIM_RUNTIME": "process"}}}
	r := newRecorder()
	p := startPool(t, r, func(p *Pool) {
		p.opt.Payload, p.opt.LocalDir = payload, filepath.Join(dir, "local")
		p.opt.Jobs = func(c net.Conn) { l.conns <- c }
	})
	p.Ensure(tg)
	r.await(t, "the shim is up", func() bool { return len(r.ups) == 1 })
	ask := `path=$(echo "${DSTACK_SERVER_URL#http+unix://}" | sed s,%2F,/,g); for n in 1 2 3; do curl -s --unix-socket "$path" http://localhost/n$n; done; echo`
	for _, id := range []string{"job-1", "job-2"} {
		spec := processSpec(id, "/bin/sh", "-c", ask)
		spec.Job.ServerAccess = id == "job-1"
		spec.Job.Env = map[string]string{jobapi.ServerURL: jobapi.DefaultServerURL}
		if _, err := p.StartTask(t.Context(), "i", id, spec); err != nil {
			t.Fatal(err)
		}
		p.ServeJob("i", id)
	}
	r.await(t, "the jobs have ended", func() bool { return len(r.final) == 2 })
	for id, want := range map[string]string{"job-1": "server at /n1 server at /n2 server at /n3", "job-2": ""} {
		if got := strings.TrimSpace(string(r.logs[id])); got != want {
			t.Errorf("%s: log = %q, want %q (%+v)", id, got, want, r.final[id])
		}
	}
	if err := p.Uninstall(t.Context(), tg); err != nil {
		t.Error(err)
	}
}
