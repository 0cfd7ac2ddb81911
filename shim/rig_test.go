package shim

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
	"dstack/shim/gpu"
	"dstack/shim/host"
	"dstack/shim/journal"
	"dstack/shim/shimtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a shim in a process of its own, as far as that goes: it can be
// killed and started again on the same home.
type rig struct {
	t    *testing.T
	home string
	boot string
	// rt makes the runtime of each shim.
	rt func() Runtime
	m  *Manager
	// alone says that nobody follows the shim.
	alone bool
	// gpus are the ids of the host's accelerators.
	gpus   []string
	lost   error // why they are not found
	health func(context.Context) *hostapi.Health
	// hostKey is nil unless the key of the host is ours to replace.
	hostKey HostKey
	// volumes outlive shims, unless the host is rebooted.
	volumes fakeVolumes
	stop    func()
	*shimtest.Controller
}

func newRig(t *testing.T, rt *fakeRuntime) *rig {
	return newRigOn(t, func() Runtime { return rt })
}

// newRigOn makes a rig with runtimes that do not outlive their shim.
func newRigOn(t *testing.T, rt func() Runtime) *rig {
	r := &rig{t: t, home: t.TempDir(), boot: "boot-1", rt: rt, gpus: []string{"g0", "g1"}}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) detect(context.Context) (gpu.Found, error) {
	found := gpu.Found{Vendor: gpu.NVIDIA}
	for _, id := range r.gpus {
		found.GPUs = append(found.GPUs, hostapi.GPU{ID: id})
	}
	return found, r.lost
}

func (r *rig) start() {
	r.t.Helper()
	home, err := host.Open(r.home)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(r.home, "journal"), 0o700); err != nil {
		r.t.Fatal(err)
	}
	j, err := journal.Open(filepath.Join(r.home, "journal"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.m, err = New(r.t.Context(), Config{
		Home: r.home, HostID: "h", BootID: r.boot, Log: zerolog.New(zerolog.NewTestWriter(r.t)),
		Detect: r.detect, Health: r.health, HostKey: r.hostKey, Volumes: &r.volumes,
	}, r.rt(), j)
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := home.Listen()
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.m.Run(ctx) })
	g.Go(func() error { return host.Serve(ctx, l, r.m.Handler(func(hostapi.Shutdown) {})) })
	if r.Controller == nil {
		r.Controller = shimtest.New(r.t, func(ctx context.Context) (net.Conn, error) { return host.Dial(ctx, r.home) }, true)
	}
	for r.Call(ctx, "GET", "/v1/tasks", nil, &[]hostapi.Task{}) != nil || !r.running() {
		time.Sleep(time.Millisecond)
	}
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		for ctx.Err() == nil && !r.alone {
			if err := r.Stream(ctx); err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), "EOF") {
				r.t.Errorf("stream: %v", err)
				return
			}
		}
	}()
	r.stop = func() {
		r.stop = func() {}
		cancel()
		if err := g.Wait(); err != nil {
			r.t.Errorf("shim: %v", err)
		}
		<-followed
		if err := errors.Join(j.Close(), home.Close()); err != nil {
			r.t.Error(err)
		}
	}
}

func (r *rig) running() bool {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	return r.m.spawn != nil
}

// restart kills the shim and starts another.
func (r *rig) restart() {
	r.t.Helper()
	r.stop()
	r.start()
}

func spec() hostapi.TaskSpec {
	return hostapi.TaskSpec{Name: "run-0-0", Image: "img", NetworkMode: "bridge", RegistryPassword: "hunter2",
		Job: jobapi.Spec{Commands: []string{"x"}, Env: map[string]string{"TOKEN": "s3cret"}}}
}

func states(told []hostapi.Task, id string) []hostapi.TaskState {
	var out []hostapi.TaskState
	for _, t := range told {
		if t.ID == id {
			out = append(out, t.State)
		}
	}
	return out
}

func exit(n int) *int { return &n }
