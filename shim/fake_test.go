package shim

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
	"dstack/shim/workload"
)

// fakeRuntime runs "containers" that are goroutines speaking jobapi. It
// outlives the managers of a test, as an engine outlives shims.
type fakeRuntime struct {
	t  *testing.T
	mu sync.Mutex

	containers map[string]*fakeContainer
	launches   map[string]int
	engine     workload.Engine
	image      workload.Image
	pull       func(ctx context.Context, report func(hostapi.PullProgress)) error
	launch     func(id string) error
	script     func(c *fakeContainer) // what each job does
	mute       bool                   // agents do not listen
}

func newFakeRuntime(t *testing.T) *fakeRuntime {
	f := &fakeRuntime{
		t: t, containers: map[string]*fakeContainer{}, launches: map[string]int{},
		engine: workload.Engine{Version: "1", Root: t.TempDir()},
		script: func(c *fakeContainer) { c.run(); c.end(jobapi.Status{State: jobapi.Done}) },
	}
	t.Cleanup(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, c := range f.containers {
			c.die(workload.Exit{})
			<-c.stopped
		}
	})
	return f
}

func (f *fakeRuntime) Kind() hostapi.Runtime         { return hostapi.Docker }
func (f *fakeRuntime) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (f *fakeRuntime) Engine() workload.Engine {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.engine
}

func (f *fakeRuntime) Prepare(_ context.Context, w workload.Task) (workload.Task, error) {
	w.RunDir = filepath.Join(w.PrivateDir, "run")
	return w, os.MkdirAll(w.RunDir, 0o755)
}

func (f *fakeRuntime) Pull(ctx context.Context, _ hostapi.TaskSpec, report func(hostapi.PullProgress)) (workload.Image, error) {
	if f.pull != nil {
		if err := f.pull(ctx, report); err != nil {
			return workload.Image{}, err
		}
	}
	return f.image, nil
}

func (f *fakeRuntime) Launch(_ context.Context, w workload.Task, fresh func() bool) (map[int]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.containers[w.ID] != nil {
		return map[int]int{22: 33}, nil
	}
	if !fresh() {
		return nil, &workload.StartError{Reason: reasonExecutor, Message: "not fresh"}
	}
	if f.launch != nil {
		if err := f.launch(w.ID); err != nil {
			return nil, err
		}
	}
	f.launches[w.ID]++
	f.noGPUTwice(w)
	f.containers[w.ID] = startFake(f, w)
	return map[int]int{22: 33}, nil
}

// noGPUTwice wants each accelerator in one container that runs at most.
func (f *fakeRuntime) noGPUTwice(w workload.Task) {
	if len(w.GPUs) != w.Spec.GPUs {
		f.t.Errorf("task %s has GPUs %v, wants %d", w.ID, w.GPUs, w.Spec.GPUs)
	}
	for id, c := range f.containers {
		for _, g := range w.GPUs {
			if c.runs() && slices.Contains(c.gpus, g) {
				f.t.Errorf("GPU %s is given to task %s while task %s has it", g, w.ID, id)
			}
		}
	}
}

func (f *fakeRuntime) container(id string) *fakeContainer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.containers[id]
}

func (f *fakeRuntime) Wait(ctx context.Context, w workload.Task) (workload.Exit, error) {
	c := f.container(w.ID)
	if c == nil {
		return workload.Exit{Missing: true, Code: -1}, nil
	}
	select {
	case <-c.stopped:
		return c.exit, nil
	case <-ctx.Done():
		return workload.Exit{}, ctx.Err()
	}
}

func (f *fakeRuntime) Kill(_ context.Context, w workload.Task) error {
	if c := f.container(w.ID); c != nil {
		c.die(workload.Exit{Code: 137})
	}
	return nil
}

func (f *fakeRuntime) Tail(context.Context, workload.Task) string { return "last words" }

func (f *fakeRuntime) Remove(_ context.Context, w workload.Task) error {
	if c := f.container(w.ID); c != nil {
		c.die(workload.Exit{Code: 137})
		<-c.stopped
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.containers, w.ID)
	return nil
}

func (f *fakeRuntime) Sweep(_ context.Context, keep func(string) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.containers {
		if !keep(id) {
			delete(f.containers, id)
		}
	}
	return nil
}

func (f *fakeRuntime) Prune(context.Context, func() (int64, int64), time.Time) error { return nil }

// fakeContainer is a job with its agent.
type fakeContainer struct {
	dir     string
	gpus    []string
	job     jobapi.Spec
	stops   chan jobapi.StopRequest
	warns   chan struct{}
	stopped chan struct{} // closed when nothing runs any more

	mu     sync.Mutex
	news   chan struct{}
	status jobapi.Status
	plain  int64
	dead   chan struct{}
	exit   workload.Exit
}

func startFake(f *fakeRuntime, w workload.Task) *fakeContainer {
	c := &fakeContainer{
		dir: w.RunDir, gpus: w.GPUs, stops: make(chan jobapi.StopRequest, 8), warns: make(chan struct{}, 8), stopped: make(chan struct{}),
		news: make(chan struct{}), status: jobapi.Status{State: jobapi.Starting}, dead: make(chan struct{}),
	}
	data, err := os.ReadFile(filepath.Join(c.dir, jobapi.SpecFile))
	if err == nil {
		err = json.Unmarshal(data, &c.job)
	}
	if err == nil {
		err = os.Remove(filepath.Join(c.dir, jobapi.SpecFile))
	}
	if err != nil {
		f.t.Errorf("take job: %v", err)
	}
	go c.live(f)
	return c
}

func (c *fakeContainer) live(f *fakeRuntime) {
	defer close(c.stopped)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/events", c.events)
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, r *http.Request) {
		var stop jobapi.StopRequest
		_ = json.NewDecoder(r.Body).Decode(&stop)
		c.stops <- stop
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("POST /v1/warn", func(http.ResponseWriter, *http.Request) { c.warns <- struct{}{} })
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if f.mute {
			return
		}
		dir, err := os.Open(c.dir)
		if err != nil {
			return
		}
		defer func() { _ = dir.Close() }()
		_ = os.Remove(filepath.Join(c.dir, jobapi.Socket))
		l, err := net.Listen("unix", filepath.Join(c.dir, jobapi.Socket))
		if err != nil {
			f.t.Errorf("agent: %v", err)
			return
		}
		_ = srv.Serve(l)
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.script(c)
	}()
	<-c.dead
	_ = srv.Close()
	<-served
	<-done
}

func (c *fakeContainer) events(w http.ResponseWriter, r *http.Request) {
	var told jobapi.Status
	for {
		c.mu.Lock()
		status, plain, news := c.status, c.plain, c.news
		c.mu.Unlock()
		e := jobapi.Event{PlainSize: plain}
		if status != told {
			e.Status, told = &status, status
		}
		if err := json.NewEncoder(w).Encode(e); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-news:
		case <-c.dead:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (c *fakeContainer) change(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
	close(c.news)
	c.news = make(chan struct{})
}

func (c *fakeContainer) runs() bool {
	select {
	case <-c.dead:
		return false
	default:
		return true
	}
}

// run makes the job running.
func (c *fakeContainer) run() {
	c.change(func() {
		c.status = jobapi.Status{State: jobapi.Running, Username: "root", WorkingDir: "/w", SSHPort: 4022}
	})
}

// say appends to the log.
func (c *fakeContainer) say(text string) {
	c.change(func() {
		c.plain += int64(len(text))
		rec := binary.BigEndian.AppendUint64(nil, uint64(c.plain))
		rec = binary.BigEndian.AppendUint64(rec, uint64(time.Now().UnixMicro()))
		for name, data := range map[string]string{jobapi.PlainLog: text, jobapi.PlainIndex: string(rec)} {
			f, err := os.OpenFile(filepath.Join(c.dir, name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
			if err != nil {
				return // the task is being removed
			}
			_, _ = io.WriteString(f, data)
			_ = f.Close()
		}
	})
}

// end leaves the final state and ends the container.
func (c *fakeContainer) end(s jobapi.Status) {
	c.change(func() {
		if s.Username == "" && c.status.State == jobapi.Running {
			s.Username, s.WorkingDir = c.status.Username, c.status.WorkingDir
		}
		c.status = s
	})
	if data, err := json.Marshal(s); err == nil {
		_ = os.WriteFile(filepath.Join(c.dir, jobapi.StateFile), data, 0o600)
	}
	c.die(workload.Exit{})
}

// die ends the container without a last word.
func (c *fakeContainer) die(e workload.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.dead:
	default:
		c.exit = e
		close(c.dead)
	}
}
