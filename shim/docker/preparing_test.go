package docker

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
)

// installer is a host on which cloud-init sees to Docker.
type installer struct {
	preparing atomic.Bool
	socket    string
	changed   chan struct{}
}

func (i *installer) start(t *testing.T, hold bool) *Runtime {
	t.Helper()
	dir := t.TempDir()
	i.socket, i.changed = filepath.Join(dir, "docker.sock"), make(chan struct{}, 100)
	i.preparing.Store(true)
	t.Setenv("PATH", dir) // no dockerd here
	t.Setenv("DOCKER_HOST", "unix://"+i.socket)
	r, err := New(Config{
		ImagesFile: filepath.Join(dir, "images"), Log: zerolog.Nop(), Hold: hold, Preparing: i.preparing.Load,
		Changed: func() { i.changed <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return r
}

// install starts an engine that says that it is one, and nothing more.
func (i *installer) install(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", i.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if filepath.Base(r.URL.Path) == "events" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"ServerVersion": "1"}`)
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
	})
}

// await waits until the problem is as wanted.
func (i *installer) await(t *testing.T, r *Runtime, ok func(*hostapi.Problem) bool) {
	t.Helper()
	for !ok(r.Engine().Problem) {
		select {
		case <-i.changed:
		case <-t.Context().Done():
			t.Fatalf("problem is %+v", r.Engine().Problem)
		}
	}
}

func healed(p *hostapi.Problem) bool    { return p == nil }
func permanent(p *hostapi.Problem) bool { return p != nil && p.Permanent }

func TestEngineIsInstalledLate(t *testing.T) {
	i := &installer{}
	r := i.start(t, false)
	if p := r.Engine().Problem; p == nil || p.Permanent || p.Code != "no_docker" {
		t.Fatalf("problem is %+v", p)
	}
	i.install(t)
	i.await(t, r, healed)
}

func TestEngineIsNotUsedWhileItMayBeStartedAgain(t *testing.T) {
	i := &installer{}
	r := i.start(t, true)
	i.install(t)
	if r.Connect(t.Context()) {
		t.Fatal("connected to an engine that goes away in a moment")
	}
	i.preparing.Store(false)
	i.await(t, r, healed)
}

func TestEngineThatWasNotInstalledIsMissing(t *testing.T) {
	i := &installer{}
	r := i.start(t, true)
	i.preparing.Store(false)
	i.await(t, r, permanent)
}
