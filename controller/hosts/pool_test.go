package hosts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"dstack/controller/store"
	"dstack/protocol/hostapi"
)

func verifyTestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is an observer and a log sink in memory, which may fail.
type recorder struct {
	mu      sync.Mutex
	changed *sync.Cond
	logs    map[string][]byte
	states  []string // "SEQ ID STATE", in order
	final   map[string]hostapi.Task
	ups     []hostapi.Hello
	downs   []hostapi.Problem
	keys    []string
	infos   []hostapi.Info
	pulls   map[string]hostapi.PullProgress
	used    []hostapi.TaskUsage
	seq     uint64
	early   []string // final states that came before their log
	// fail is asked before each write.
	fail func(what string) error
}

func newRecorder() *recorder {
	r := &recorder{
		logs: map[string][]byte{}, final: map[string]hostapi.Task{}, pulls: map[string]hostapi.PullProgress{},
		fail: func(string) error { return nil },
	}
	r.changed = sync.NewCond(&r.mu)
	return r
}

func (r *recorder) write(what string, f func()) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail(what); err != nil {
		return err
	}
	f()
	r.changed.Broadcast()
	return nil
}

func (r *recorder) HostUp(_ context.Context, _ string, h hostapi.Hello) error {
	return r.write("up", func() { r.ups = append(r.ups, h) })
}

func (r *recorder) HostDown(_ context.Context, _ string, p *hostapi.Problem) error {
	return r.write("down", func() { r.downs = append(r.downs, *p) })
}

func (*recorder) HostReached(context.Context, string) error { return nil }

func (r *recorder) HostInfo(_ context.Context, _ string, i hostapi.Info) error {
	return r.write("info", func() { r.infos = append(r.infos, i) })
}

func (r *recorder) HostKeyPinned(_ context.Context, _ string, keys []string) error {
	return r.write("keys", func() { r.keys = keys })
}

func (r *recorder) TaskChanged(_ context.Context, _ string, seq uint64, task hostapi.Task) error {
	return r.write("task", func() {
		if seq <= r.seq {
			return
		}
		r.seq = seq
		r.states = append(r.states, fmt.Sprintf("%d %s %s", seq, task.ID, task.State))
		if task.State == hostapi.TaskTerminated {
			r.final[task.ID] = task
			if int64(len(r.logs[task.ID])) < *task.PlainSize {
				r.early = append(r.early, task.ID)
			}
		}
	})
}

func (r *recorder) PullProgress(job string, p hostapi.PullProgress) {
	_ = r.write("", func() { r.pulls[job] = p })
}

func (r *recorder) TaskUsed(_ string, u hostapi.TaskUsage) {
	_ = r.write("", func() { r.used = append(r.used, u) })
}

func (r *recorder) Append(_ context.Context, _, job string, offset int64, _ time.Time, data []byte) (int64, error) {
	var size int64
	err := r.write("log", func() {
		size = int64(len(r.logs[job]))
		if offset <= size && offset+int64(len(data)) > size {
			r.logs[job] = append(r.logs[job], data[size-offset:]...)
			size = int64(len(r.logs[job]))
		}
	})
	return size, err
}

func (r *recorder) Size(_ context.Context, _, job string) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(len(r.logs[job])), r.fail("size")
}

// await waits until the condition holds.
func (r *recorder) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	timeout := time.AfterFunc(30*time.Second, func() { r.changed.Broadcast() })
	defer timeout.Stop()
	deadline := time.Now().Add(30 * time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s; downs %v, states %v", what, r.downs, r.states)
		}
		r.changed.Wait()
	}
}

// startPool runs a pool until the test ends.
func startPool(t *testing.T, r *recorder, change func(*Pool)) *Pool {
	t.Helper()
	p := New(Options{Observer: r, Logs: r, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)})
	change(p)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return p
}

// withPipes makes the pool reach a fake shim in memory.
func withPipes(pipes *pipes) func(*Pool) {
	return func(p *Pool) {
		p.connect = func(ctx context.Context, _ *host, _ Target) (*connection, error) {
			return newConnection(ctx, pipes.dial(), "server")
		}
	}
}

func target() Target {
	return Target{InstanceID: "i", Access: store.Access{Host: "10.0.0.5", User: "ubuntu"}}
}

func text(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()[:n]
}

func TestTaskRunsThroughThePool(t *testing.T) {
	shim, r := newFakeShim(), newRecorder()
	p := startPool(t, r, withPipes(servePipes(t, shim)))
	if _, err := p.StartTask(t.Context(), "i", "a", hostapi.TaskSpec{}); !errors.Is(err, ErrDown) {
		t.Errorf("start on an unknown host: %v", err)
	}
	p.Ensure(target())
	r.await(t, "the host is up", func() bool { return len(r.ups) == 1 })
	task, err := p.StartTask(t.Context(), "i", "a", hostapi.TaskSpec{Name: "a"})
	if err != nil || task.State != hostapi.TaskPreparing {
		t.Fatalf("start = %v, %v", task, err)
	}
	shim.emit(hostapi.Task{ID: "a", State: hostapi.TaskRunning})
	shim.write("a", "hello\n")
	shim.finish("a", 0)
	r.await(t, "the task ended", func() bool { return len(r.final) == 1 })
	want := []string{"1 a preparing", "2 a running", "3 a terminated"}
	if diff := cmp.Diff(want, r.states); diff != "" {
		t.Error(diff)
	}
	if got := string(r.logs["a"]); got != "hello\n" || len(r.early) > 0 {
		t.Errorf("log = %q, early %v", got, r.early)
	}
	if err := p.RemoveTask(t.Context(), "i", "a"); err != nil {
		t.Error(err)
	}
	var gone *hostapi.Error
	if _, err := p.StartTask(t.Context(), "i", "a", hostapi.TaskSpec{}); !errors.As(err, &gone) || gone.Code != hostapi.CodeGone {
		t.Errorf("start after remove: %v", err)
	}
	p.Forget("i")
	if err := p.StopTask(t.Context(), "i", "a", hostapi.StopTask{}); !errors.Is(err, ErrDown) {
		t.Errorf("stop on a forgotten host: %v", err)
	}
}

// The log and the events arrive whole and in order whatever is lost,
// repeated, cut or refused on the way.
func TestNothingIsLostOrRepeated(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { faultyRun(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func faultyRun(t *testing.T, random *rand.Rand) {
	shim, r := newFakeShim(), newRecorder()
	for range 5 {
		shim.cutAfter = append(shim.cutAfter, 1+random.IntN(60))
	}
	var mu sync.Mutex
	dice := func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n) == 0
	}
	shim.mangle = func(e hostapi.Event) []hostapi.Event {
		switch {
		case e.Log != nil && dice(10):
			return nil
		case dice(10):
			return []hostapi.Event{e, e}
		}
		return []hostapi.Event{e}
	}
	r.fail = func(string) error {
		if dice(15) {
			return errors.New("disk full")
		}
		return nil
	}
	want := map[string]string{"a": text(30_000 + random.IntN(30_000)), "b": text(random.IntN(20_000)), "c": ""}
	p := startPool(t, r, func(p *Pool) {
		withPipes(servePipes(t, shim))(p)
		p.stall = 20 * time.Millisecond
	})
	p.Ensure(target())
	for _, id := range []string{"a", "b", "c"} {
		shim.emit(hostapi.Task{ID: id, State: hostapi.TaskRunning})
		shim.write(id, want[id])
	}
	for _, id := range []string{"a", "b", "c"} {
		shim.finish(id, 0)
	}
	r.await(t, "all tasks ended", func() bool { return len(r.final) == 3 })
	got := map[string]string{"c": ""}
	for id, log := range maps.All(r.logs) {
		got[id] = string(log)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("logs differ: %.300s", diff)
	}
	wantStates := []string{
		"1 a running", "2 b running", "3 c running", "4 a terminated", "5 b terminated", "6 c terminated",
	}
	if diff := cmp.Diff(wantStates, r.states); diff != "" {
		t.Error(diff)
	}
	if len(r.early) > 0 {
		t.Errorf("final states of %v came before their logs", r.early)
	}
}

func TestStreamResumesWhereItStood(t *testing.T) {
	shim, r := newFakeShim(), newRecorder()
	pipes := servePipes(t, shim)
	p := startPool(t, r, withPipes(pipes))
	shim.nextSeq = 8
	tg := target()
	tg.HostID, tg.Seq = "host-1", 7
	r.seq = 7
	r.logs["a"] = []byte("stored")
	shim.emit(hostapi.Task{ID: "a", State: hostapi.TaskRunning})
	shim.write("a", "stored, and more")
	p.Ensure(tg)
	r.await(t, "the log is there", func() bool { return string(r.logs["a"]) == "stored, and more" && r.seq == 8 })
	pipes.cut()
	r.await(t, "the host is up again", func() bool { return len(r.ups) == 2 })
	p.Ensure(tg) // what the engine read before is older than what is in memory
	shim.update(func() { shim.info.HostID = "host-2" })
	pipes.cut()
	r.await(t, "the host is up for the third time", func() bool { return len(r.ups) == 3 })
	want := []hostapi.Ack{
		{Seq: 7, Logs: map[string]int64{"a": 6}}, {Seq: 8, Logs: map[string]int64{"a": 16}}, {Logs: map[string]int64{"a": 16}},
	}
	shim.mu.Lock()
	defer shim.mu.Unlock()
	if diff := cmp.Diff(want, shim.firsts); diff != "" {
		t.Error(diff)
	}
}

func TestHostDownIsSaidOnce(t *testing.T) {
	shim, r := newFakeShim(), newRecorder()
	pipes := servePipes(t, shim)
	var mu sync.Mutex
	tries := 0
	broken := true
	p := startPool(t, r, func(p *Pool) {
		p.connect = func(ctx context.Context, _ *host, _ Target) (*connection, error) {
			mu.Lock()
			defer mu.Unlock()
			if tries++; tries > 3 {
				broken = false
			}
			if broken {
				return nil, errors.New("no route to host")
			}
			return newConnection(ctx, pipes.dial(), "server")
		}
	})
	p.Ensure(target())
	r.await(t, "the host is up", func() bool { return len(r.ups) == 1 })
	if len(r.downs) != 1 || !strings.Contains(r.downs[0].Message, "ubuntu@10.0.0.5: no route to host") {
		t.Errorf("downs = %v", r.downs)
	}
	pipes.cut()
	r.await(t, "the host is down and up again", func() bool { return len(r.downs) == 2 && len(r.ups) == 2 })
}

func TestPullProgressInfoAndUsage(t *testing.T) {
	shim, r := newFakeShim(), newRecorder()
	shim.mangle = func(e hostapi.Event) []hostapi.Event {
		return []hostapi.Event{
			{Pull: &hostapi.PullUpdate{TaskID: "a", Progress: hostapi.PullProgress{Downloaded: 5}}},
			{Info: &hostapi.Info{HostID: "host-1", Problem: &hostapi.Problem{Code: "no_docker"}}},
			{Usage: &hostapi.TaskUsage{TaskID: "a", AgeMillis: 7}}, e,
		}
	}
	p := startPool(t, r, withPipes(servePipes(t, shim)))
	p.Ensure(target())
	shim.emit(hostapi.Task{ID: "a", State: hostapi.TaskPulling})
	r.await(t, "progress and problem are known", func() bool {
		return r.pulls["a"].Downloaded == 5 && len(r.infos) == 1 && r.infos[0].Problem.Code == "no_docker" &&
			len(r.used) == 1 && r.used[0].TaskID == "a" && r.used[0].AgeMillis == 7
	})
}

func TestChangedAccessMakesANewConnection(t *testing.T) {
	shim, r := newFakeShim(), newRecorder()
	p := startPool(t, r, withPipes(servePipes(t, shim)))
	tg := target()
	p.Ensure(tg)
	r.await(t, "the host is up", func() bool { return len(r.ups) == 1 })
	p.Ensure(tg)
	tg.Access.Port = 2222
	p.Ensure(tg)
	r.await(t, "the host is up again", func() bool { return len(r.ups) == 2 })
	if len(r.downs) > 0 {
		t.Errorf("downs = %v", r.downs)
	}
}
