package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"dstack/durable/blobs"
	"dstack/protocol/hostapi"
	"dstack/shim/gpu"
	"dstack/shim/journal"
)

// Config is what a shim is made of.
type Config struct {
	// Home is the shim's folder.
	Home string
	// Version and Digest are those of the shim's binary.
	Version, Digest string
	HostID, BootID  string
	// CPUs is how many the host offers to jobs; 0 is all. Fewer leave some to
	// what else runs there, more let jobs share those that there are.
	CPUs int
	// Detect finds the accelerators of the host.
	Detect func(ctx context.Context) (gpu.Found, error)
	// Health looks at the accelerators; nil is not to look. Its result is nil
	// where there is nothing to judge.
	Health func(ctx context.Context) *hostapi.Health
	// Volumes are the network volumes of the host; nil if it can have none.
	Volumes Volumes
	// HostKey is nil where the key of the host's SSH server is not ours.
	HostKey HostKey
	// Notices tells what the cloud announces about the machine, until ctx ends;
	// nil where there is nothing to watch.
	Notices func(ctx context.Context, tell func(hostapi.Notice)) error
	Log     zerolog.Logger
}

func (c Config) tasksDir() string { return filepath.Join(c.Home, "tasks") }

// Manager owns the tasks of one host.
type Manager struct {
	cfg     Config
	runtime Runtime
	journal *journal.Journal
	gpus    gpu.Table
	blobs   *blobs.Store
	facts   *factKeeper
	news    signal
	claim   *claim
	keys    sync.Mutex // held while authorized_keys files are changed

	mu      sync.Mutex
	noticed noticed
	tasks   map[string]*task
	spawn   func(*task) // nil while not running
	stream  *stream     // the one that is served
	streams turnstile
}

// signal wakes the stream; signals that nobody took yet are one.
type signal chan struct{}

func (s signal) send() {
	select {
	case s <- struct{}{}:
	default:
	}
}

func (m *Manager) wake() { m.news.send() }

// wakeSoon is for news that may wait: the stream looks at it by itself.
func (m *Manager) wakeSoon() {
	m.mu.Lock()
	s := m.stream
	m.mu.Unlock()
	if s != nil {
		s.later.send()
	}
}

// New reads what the home holds and what the host has. The journal is the
// caller's to close.
func New(ctx context.Context, cfg Config, rt Runtime, j *journal.Journal) (*Manager, error) {
	if err := os.MkdirAll(cfg.tasksDir(), 0o700); err != nil {
		return nil, fmt.Errorf("make folder of tasks: %w", err)
	}
	records, err := loadRecords(cfg.tasksDir())
	if err != nil {
		return nil, err
	}
	claim, err := loadClaim(filepath.Join(cfg.Home, hostapi.ClaimName))
	if err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, runtime: rt, journal: j, claim: claim, tasks: map[string]*task{}, news: make(signal, 1), noticed: noticed{interrupted: make(chan struct{})}, blobs: blobs.New(cfg.blobsDir())}
	m.facts = newFactKeeper(ctx, m)
	for id, rec := range records {
		m.tasks[id] = m.newTask(id, rec)
		if !rec.ended() {
			m.gpus.Hold(id, rec.GPUs)
		}
	}
	return m, nil
}

// Run drives all tasks until ctx ends, and leaves them alone then: the next
// shim takes them up.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.runtime.Run(ctx) })
	g.Go(func() error { return m.facts.run(ctx) })
	g.Go(func() error { return m.facts.watchHealth(ctx) })
	g.Go(func() error { return m.housekeep(ctx) })
	if m.cfg.Notices != nil {
		g.Go(func() error { return m.cfg.Notices(ctx, m.Noticed) })
	}
	m.mu.Lock()
	m.spawn = func(t *task) { g.Go(func() error { t.run(ctx); return nil }) }
	for _, t := range m.tasks {
		m.spawn(t)
	}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.spawn = nil
	m.mu.Unlock()
	err := g.Wait()
	if err != nil {
		return fmt.Errorf("run tasks: %w", err)
	}
	return nil
}

// Times of housekeeping.
const pruneEvery = 10 * time.Minute

// housekeep removes what earlier shims left over, then frees disk space now
// and then.
func (m *Manager) housekeep(ctx context.Context) error {
	for !m.sweep(ctx) {
		if !sleep(ctx, 5*time.Second) {
			return nil
		}
	}
	for {
		if err := m.runtime.Prune(ctx, m.facts.disk, time.Now()); err != nil && ctx.Err() == nil {
			m.cfg.Log.Warn().Err(err).Msg("images not pruned")
		}
		m.trimBlobs()
		if !sleep(ctx, pruneEvery) {
			return nil
		}
	}
}

func (m *Manager) sweep(ctx context.Context) bool {
	err := errors.Join(m.runtime.Sweep(ctx, func(id string) bool { return m.task(id) != nil }), m.unmountUnused(ctx))
	if err != nil && ctx.Err() == nil {
		m.cfg.Log.Warn().Err(err).Msg("left-overs not removed")
	}
	return err == nil
}

func (m *Manager) task(id string) *task {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tasks[id]
}

func (m *Manager) all() []*task {
	m.mu.Lock()
	defer m.mu.Unlock()
	tasks := make([]*task, 0, len(m.tasks))
	for _, t := range m.tasks {
		tasks = append(tasks, t)
	}
	slices.SortFunc(tasks, func(a, b *task) int { return strings.Compare(a.id, b.id) })
	return tasks
}

func (m *Manager) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tasks, id)
}

func fault(code, format string, args ...any) error {
	return &hostapi.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Put accepts a task. One that is known is returned as it is; one that is
// gone is refused: it can never run again.
func (m *Manager) Put(id string, spec hostapi.TaskSpec) (hostapi.Task, error) {
	switch {
	case !taskID.MatchString(id):
		return hostapi.Task{}, fault(hostapi.CodeBadRequest, "the id of a task must match %s", taskID)
	case !taskID.MatchString(spec.Name):
		return hostapi.Task{}, fault(hostapi.CodeBadRequest, "the name of a task must match %s", taskID)
	case spec.GPUs < 0 || spec.CPUs < 0 || spec.MemoryBytes < 0 || spec.ShmBytes < 0:
		return hostapi.Task{}, fault(hostapi.CodeBadRequest, "resources of task %s are negative", id)
	case m.runtime.Kind() == hostapi.Docker && spec.Image == "":
		return hostapi.Task{}, fault(hostapi.CodeBadRequest, "task %s has no image", id)
	case spec.NetworkMode != "host" && spec.NetworkMode != "bridge":
		return hostapi.Task{}, fault(hostapi.CodeBadRequest, "the network mode of a task is host or bridge, not %q", spec.NetworkMode)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.tasks[id]; t != nil {
		return t.view(), nil
	}
	// Under the lock: a remove that came before has left its tombstone.
	if m.journal.Buried(id) {
		return hostapi.Task{}, fault(hostapi.CodeGone, "task %s was removed from this host and cannot run again", id)
	}
	if hash := m.lacking(&spec); hash != "" {
		return hostapi.Task{}, fault(hostapi.CodeBusy, "file %s of task %s is not on the host yet", hash, id)
	}
	t := m.newTask(id, record{
		Version: recordVersion, Spec: spec, Task: hostapi.Task{ID: id, State: hostapi.TaskPreparing},
	})
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return hostapi.Task{}, fmt.Errorf("make folder of task: %w", err)
	}
	if err := saveRecord(t.dir, t.rec); err != nil {
		return hostapi.Task{}, errors.Join(err, os.RemoveAll(t.dir))
	}
	m.tasks[id] = t
	if m.spawn != nil { // else it is started with the others, or by the next shim
		m.spawn(t)
	}
	return t.view(), nil
}

// List is all tasks.
func (m *Manager) List() []hostapi.Task {
	tasks := []hostapi.Task{}
	for _, t := range m.all() {
		tasks = append(tasks, t.view())
	}
	return tasks
}

// busy counts the tasks that have not ended.
func (m *Manager) busy() int {
	n := 0
	for _, t := range m.all() {
		if !t.record().ended() {
			n++
		}
	}
	return n
}

// Stop asks a task to end. One that is not known gets a tombstone, so that
// it cannot be started by a request that is still on its way.
func (m *Manager) Stop(id string, stop hostapi.StopTask) (hostapi.Task, error) {
	t, err := m.taskOrTomb(id)
	if err != nil {
		return hostapi.Task{}, err
	}
	if t == nil {
		return hostapi.Task{ID: id, State: hostapi.TaskTerminated, Reason: stop.Reason, Message: stop.Message, PlainSize: new(int64)}, nil
	}
	if stop.Reason == "" {
		stop.Reason = reasonByServer
	}
	if err := t.askStop(stop, time.Now()); err != nil {
		return hostapi.Task{}, err
	}
	return t.view(), nil
}

// taskOrTomb finds a task, or makes sure that there can never be one.
func (m *Manager) taskOrTomb(id string) (*task, error) {
	if !taskID.MatchString(id) {
		return nil, fault(hostapi.CodeBadRequest, "the id of a task must match %s", taskID)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.tasks[id]; t != nil {
		return t, nil
	}
	return nil, m.journal.Bury(id)
}

// Remove stops a task if it runs, and removes all that it left. It returns
// when nothing is left, or with [hostapi.CodeBusy] when ctx ends before.
func (m *Manager) Remove(ctx context.Context, id string) error {
	t, err := m.taskOrTomb(id)
	if err != nil || t == nil {
		return err
	}
	if err := m.journal.Bury(id); err != nil {
		return fmt.Errorf("bury task: %w", err)
	}
	if err := t.askRemove(time.Now()); err != nil {
		return err
	}
	select {
	case <-t.gone:
		return nil
	case <-ctx.Done():
		return fault(hostapi.CodeBusy, "task %s is still being removed", id)
	}
}

// RemoveAll removes all tasks, and the left-overs of earlier ones.
func (m *Manager) RemoveAll(ctx context.Context) error {
	g := new(errgroup.Group)
	for _, t := range m.all() {
		g.Go(func() error { return m.Remove(ctx, t.id) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("remove all tasks: %w", err)
	}
	if err := errors.Join(m.runtime.Sweep(ctx, func(string) bool { return false }), m.unmountUnused(ctx)); err != nil {
		return fmt.Errorf("remove left-overs: %w", err)
	}
	return nil
}

// tellAgain puts the states of all tasks into the journal once more, for a
// controller that lacks events which were acknowledged: its database was
// restored from a backup, or another controller had the host.
func (m *Manager) tellAgain() error {
	for _, t := range m.all() {
		if err := t.tellAgain(); err != nil {
			return err
		}
	}
	return nil
}

// publish puts a final state into the journal, now that its log was sent.
func (m *Manager) publish(t *task) error {
	if _, err := m.journal.Append(t.view()); err != nil {
		return fmt.Errorf("report end of task: %w", err)
	}
	return t.update(func(r *record) { r.Published = true })
}
