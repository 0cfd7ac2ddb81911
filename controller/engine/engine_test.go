package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"dstack/controller/hosts"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeHosts are hosts that answer at once; each task runs for a second.
type fakeHosts struct {
	engine *Engine
	mu     sync.Mutex
	seq    map[string]uint64
	tasks  map[string]*time.Timer
	starts map[string]int
	// specs are what was started, length is how long a task runs; 0 is a second.
	specs  map[string]hostapi.TaskSpec
	length time.Duration
	// lose makes the first answers get lost.
	lose int
	// keep makes the hosts remove no task.
	keep bool
	wg   sync.WaitGroup
}

func newFakeHosts() *fakeHosts {
	return &fakeHosts{seq: map[string]uint64{}, tasks: map[string]*time.Timer{}, starts: map[string]int{}, specs: map[string]hostapi.TaskSpec{}}
}

func (f *fakeHosts) Ensure(t hosts.Target) {
	f.wg.Go(func() {
		info := hostapi.Info{HostID: "h-" + t.InstanceID, Runtime: hostapi.Docker, Host: hostapi.Host{
			Arch: "amd64", CPUs: 4, MemoryBytes: 16 << 30, DiskBytes: 200 << 30, Addresses: []string{"10.0.0.1/24"},
		}}
		if err := f.engine.HostUp(context.Background(), t.InstanceID, hostapi.Hello{Info: info, NextSeq: 1}); err != nil {
			panic(err)
		}
	})
}

func (*fakeHosts) Forget(string) {}

func (f *fakeHosts) emit(instanceID string, t hostapi.Task) {
	f.mu.Lock()
	f.seq[instanceID]++
	seq := f.seq[instanceID]
	f.mu.Unlock()
	if err := f.engine.TaskChanged(context.Background(), instanceID, seq, t); err != nil {
		panic(err)
	}
}

func (*fakeHosts) ServeJob(string, string) {}

func (f *fakeHosts) StartTask(_ context.Context, instanceID, id string, spec hostapi.TaskSpec) (hostapi.Task, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tasks[id] == nil {
		f.starts[id]++
		f.specs[id] = spec
		f.wg.Add(1)
		length := f.length
		f.tasks[id] = time.AfterFunc(time.Second, func() {
			defer f.wg.Done()
			zero := 0
			f.emit(instanceID, hostapi.Task{ID: id, State: hostapi.TaskRunning})
			time.Sleep(length) // of a bubble's clock
			f.emit(instanceID, hostapi.Task{ID: id, State: hostapi.TaskTerminated, Reason: "done_by_runner", ExitStatus: &zero})
		})
	}
	if f.lose > 0 {
		f.lose--
		return hostapi.Task{}, errors.New("connection reset")
	}
	return hostapi.Task{ID: id, State: hostapi.TaskPreparing}, nil
}

func (*fakeHosts) StopTask(context.Context, string, string, hostapi.StopTask) error { return nil }
func (*fakeHosts) Uninstall(context.Context, hosts.Target) error                    { return nil }

func (f *fakeHosts) RemoveTask(context.Context, string, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keep {
		return errors.New("connection reset")
	}
	return nil
}

func (f *fakeHosts) keepTasks(yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keep = yes
}

// TestEngineRuns lets the real goroutines drive a fleet and runs on it.
func TestEngineRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(t.Context(), store.Options{Memory: true})
		if err != nil {
			t.Fatal(err)
		}
		f := newFakeHosts()
		f.lose = 2
		e := New(Config{Store: st, Hosts: f, Now: time.Now, NewID: uuid.NewString, Log: zerolog.Nop()})
		f.engine = e
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()

		user, project := uuid.NewString(), uuid.NewString()
		write(t, st, func(tx *store.Tx) error {
			if err := tx.InsertUser(&store.User{ID: user, Name: "admin", GlobalRole: "admin", Active: true}); err != nil {
				return err
			}
			return tx.InsertProject(&store.Project{ID: project, Name: "main", OwnerID: user})
		})
		fleet, err := e.CreateFleet(t.Context(), NewFleet{
			ProjectID: project, ActorID: &user, Spec: api.FleetSpec{Configuration: config.Fleet{Type: "fleet"}},
			Hosts: []NewHost{{Hostname: "h0", Access: store.Access{Host: "h0", Port: 22}}, {Hostname: "h1", Access: store.Access{Host: "h1", Port: 22}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // of the bubble's clock
		var names []string
		for n := range 2 {
			names = append(names, submitTask(t, e, project, user, n))
		}
		time.Sleep(10 * time.Second)
		for _, name := range names {
			read(t, st, func(tx *store.Tx) error {
				run, err := tx.RunByName(project, name)
				expect(t, name, run.Status, api.RunDone)
				return err
			})
		}
		for id, n := range f.starts {
			expect(t, "starts of "+id, n, 1)
		}
		if err := e.DeleteFleets(t.Context(), user, project, []string{fleet.Name}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		read(t, st, func(tx *store.Tx) error {
			keys, err := tx.AllWork()
			expect(t, "work that is left", keys, []store.Key{})
			return err
		})
		cancel()
		f.wg.Wait()
		if err := errors.Join(<-ended, st.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

func submitTask(t *testing.T, e *Engine, project, user string, n int) string {
	t.Helper()
	name, image := fmt.Sprintf("train-%d", n), "alpine"
	spec := api.RunSpec{RunName: &name, Configuration: config.Run{Task: &config.Task{
		Type: "task", Commands: []string{"true"}, RunBase: config.RunBase{Image: &image},
	}}}
	run, err := e.SubmitRun(t.Context(), Submission{ProjectID: project, UserID: user, Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	return run.Name
}

func write(t *testing.T, st *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := st.Write(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, st *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := st.Read(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}
