package shim

import (
	"context"
	"reflect"
	"sync"
	"time"

	"dstack/protocol/hostapi"
	"dstack/shim/facts"
	"dstack/shim/health"
)

// refreshEvery is how often the host's facts are read again.
const refreshEvery = time.Minute

// factKeeper knows the host's facts, and tells when they changed.
type factKeeper struct {
	m       *Manager
	changed signal

	mu     sync.Mutex
	info   hostapi.Info
	number int // of changes worth telling
	gpus   hostapi.Host
	// lost is why accelerators that are there could not be listed.
	lost error
	// health is what was found at the last look.
	health *hostapi.Health
}

func newFactKeeper(ctx context.Context, m *Manager) *factKeeper {
	f := &factKeeper{m: m, changed: make(signal, 1)}
	f.detect(ctx)
	f.read()
	return f
}

// EngineChanged makes the shim look at its runtime's engine again.
func (m *Manager) EngineChanged() { m.facts.changed.send() }

// Info is what is known of the host.
func (m *Manager) Info() hostapi.Info {
	m.facts.mu.Lock()
	defer m.facts.mu.Unlock()
	return m.facts.info
}

func (f *factKeeper) get() (hostapi.Info, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.info, f.number
}

// disk is the size and the free space where images lie; zeros if unknown.
func (f *factKeeper) disk() (size, free int64) {
	size, free, err := facts.Disk(f.m.runtime.Engine().Root)
	if err != nil {
		return 0, 0
	}
	return size, free
}

func (m *Manager) gpuVendor() string {
	m.facts.mu.Lock()
	defer m.facts.mu.Unlock()
	return m.facts.gpus.GPUVendor
}

// detect finds the accelerators.
func (f *factKeeper) detect(ctx context.Context) {
	found, err := f.m.cfg.Detect(ctx)
	if err != nil {
		f.m.cfg.Log.Error().Err(err).Msg("accelerators not found")
	}
	ids := make([]string, 0, len(found.GPUs))
	for _, g := range found.GPUs {
		ids = append(ids, g.ID)
	}
	f.m.gpus.Set(ids)
	f.mu.Lock()
	f.gpus = hostapi.Host{GPUVendor: found.Vendor, GPUDriver: found.Driver, GPUs: append([]hostapi.GPU{}, found.GPUs...)}
	f.lost = err
	f.mu.Unlock()
}

// run reads the facts again from time to time, and when the engine changed.
func (f *factKeeper) run(ctx context.Context) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.changed:
		case <-tick.C:
			f.mu.Lock()
			lost := f.lost
			f.mu.Unlock()
			if lost != nil { // a driver may load later than we do
				f.detect(ctx)
			}
		}
		f.read()
	}
}

// watchHealth looks at the accelerators from time to time. A tool that hangs
// holds up nothing else.
func (f *factKeeper) watchHealth(ctx context.Context) error {
	if f.m.cfg.Health == nil {
		return nil
	}
	for ctx.Err() == nil {
		found := f.m.cfg.Health(ctx)
		if ctx.Err() == nil { // else its tools were killed
			f.mu.Lock()
			f.health = found
			f.mu.Unlock()
			f.changed.send()
		}
		sleep(ctx, hostapi.HealthEvery)
	}
	return nil
}

// read reads all but the accelerators, and wakes the stream after a change.
func (f *factKeeper) read() {
	engine := f.m.runtime.Engine()
	root := engine.Root
	if root == "" {
		root = "/var/lib/docker"
	}
	host, err := facts.Host(root)
	if err != nil {
		f.m.cfg.Log.Error().Err(err).Msg("facts of host not read")
		return
	}
	if f.m.cfg.CPUs > 0 {
		host.CPUs = f.m.cfg.CPUs
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gpus.GPUs != nil {
		host.GPUVendor, host.GPUDriver, host.GPUs = f.gpus.GPUVendor, f.gpus.GPUDriver, f.gpus.GPUs
	}
	next := hostapi.Info{
		Version: f.m.cfg.Version, Digest: f.m.cfg.Digest, HostID: f.m.cfg.HostID, BootID: f.m.cfg.BootID,
		Runtime: f.m.runtime.Kind(), RuntimeVersion: engine.Version, LiveRestore: engine.LiveRestore,
		Problem: engine.Problem, Host: host, Health: f.health, Notice: f.m.notice(),
	}
	if f.lost != nil {
		next.Health = health.Failed(f.lost)
	}
	if next.Problem == nil {
		next.Problem = facts.DiskProblem(root, host.DiskBytes, host.DiskFree)
	}
	if notable(f.info, next) {
		f.info = next
		f.number++
		f.m.wake()
	}
}

// notable says whether a change is worth telling: free disk space always
// moves a little.
func notable(old, next hostapi.Info) bool {
	if moved := old.Host.DiskFree - next.Host.DiskFree; max(moved, -moved) <= next.Host.DiskBytes/100 {
		old.Host.DiskFree = next.Host.DiskFree
	}
	if old.Problem != nil && next.Problem != nil && old.Problem.Code == next.Problem.Code {
		old.Problem = next.Problem // wording and numbers move, too
	}
	return !reflect.DeepEqual(old, next)
}
