//go:build e2e

package shim

import (
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"dstack/protocol/hostapi"
)

// slowRegistry serves an image with a password, slowly, or stalls.
type slowRegistry struct {
	addr  string
	stall chan struct{} // while open, blobs hang
}

func newRegistry(t *testing.T) *slowRegistry {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &slowRegistry{addr: l.Addr().String(), stall: make(chan struct{})}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if user, pass, _ := q.BasicAuth(); user != "robot" || pass != "right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(q.URL.Path, "/slow/blobs/sha256") && q.Method == http.MethodGet {
			select {
			case <-r.stall:
			case <-q.Context().Done():
				return
			}
		}
		inner.ServeHTTP(w, q)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	for _, repo := range []string{"fast", "slow"} {
		img, err := random.Image(3<<20, 2)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := name.ParseReference(r.addr + "/" + repo + ":1")
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: "robot", Password: "right"})); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func TestE2EPull(t *testing.T) {
	reg := newRegistry(t)
	s, e := dockerShim(t, false)
	job := func(id, repo, user, password string) hostapi.TaskSpec {
		spec := withID(id, shell("true"))
		spec.Image, spec.RegistryUsername, spec.RegistryPassword, spec.PullStall = reg.addr+"/"+repo, user, password, 2
		return spec
	}
	t.Run("wrong password", func(t *testing.T) {
		s.Put("w1", job("w1", "fast:1", "robot", "wrong"))
		got := s.Await("w1", hostapi.TaskTerminated)
		if got.Reason != reasonContainer || !strings.Contains(got.Message, "refused the user name or password") {
			t.Errorf("end = %+v", got)
		}
	})
	t.Run("no such image", func(t *testing.T) {
		s.Put("w2", job("w2", "none:1", "robot", "right"))
		got := s.Await("w2", hostapi.TaskTerminated)
		if got.Reason != reasonContainer || !strings.Contains(got.Message, "does not exist") {
			t.Errorf("end = %+v", got)
		}
	})
	t.Run("latest that cannot be pulled, with a copy on the host", func(t *testing.T) {
		e.importImage("localhost:1/demo:latest", nil, busyboxTar(t))
		spec := withID("w0", shell("echo copy; exit 9"))
		spec.Image = "localhost:1/demo"
		s.Put("w0", spec)
		got := s.Await("w0", hostapi.TaskTerminated)
		if got.ExitStatus == nil || *got.ExitStatus != 9 {
			t.Errorf("end = %+v", got)
		}
	})
	t.Run("no progress", func(t *testing.T) {
		s.Put("w3", job("w3", "slow:1", "robot", "right"))
		got := s.Await("w3", hostapi.TaskTerminated)
		if got.Reason != reasonContainer || !strings.Contains(got.Message, "no progress for 2 s") {
			t.Errorf("end = %+v", got)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		spec := job("w4", "slow:1", "robot", "right")
		spec.PullStall = 600
		s.Put("w4", spec)
		s.Await("w4", hostapi.TaskPulling)
		s.Stop("w4", hostapi.StopTask{Grace: 10, Reason: "terminated_by_user"})
		if got := s.Await("w4", hostapi.TaskTerminated); got.Reason != "terminated_by_user" {
			t.Errorf("end = %+v", got)
		}
	})
	t.Run("dockerd and shim killed while pulling", func(t *testing.T) {
		spec := job("w5", "slow:1", "robot", "right")
		spec.PullStall = 600
		s.Put("w5", spec)
		s.Await("w5", hostapi.TaskPulling)
		e.kill(syscall.SIGKILL)
		e.start()
		s.kill(syscall.SIGKILL)
		s.start()
		close(reg.stall)
		// The random image holds no /bin/sh: that the command is not found
		// says that it was pulled, with the password kept over the restart.
		got := s.Await("w5", hostapi.TaskTerminated)
		if got.ExitStatus == nil || *got.ExitStatus != 127 {
			t.Errorf("end = %+v, log %q", got, s.Log("w5"))
		}
	})
}
