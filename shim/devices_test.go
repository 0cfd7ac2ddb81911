package shim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// cycles is how many tasks take and free accelerators: what the variable of
// the environment says, if it is set.
func cycles(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func eightGPUs() []string {
	var ids []string
	for i := range 8 {
		ids = append(ids, fmt.Sprintf("GPU-%d", i))
	}
	return ids
}

// TestGPUsAreNeverGivenTwice lets tasks take and free accelerators at random,
// while the shim is killed and started again; the runtime looks at each start
// whether somebody has one of them.
func TestGPUsAreNeverGivenTwice(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = func(c *fakeContainer) {
		c.run()
		select {
		case <-c.stops:
			c.end(jobapi.Status{State: jobapi.Terminated})
		case <-c.dead:
		}
	}
	r := newRig(t, rt)
	r.gpus = eightGPUs()
	r.restart()
	takeAndFree(t, r, cycles(t, "GPU_CYCLES", 200), func(string) hostapi.TaskSpec { return spec() }, func(map[string]int) {})
	s := spec()
	s.GPUs = len(r.gpus)
	r.Put("all", s)
	if got := r.Await("all", hostapi.TaskRunning); got.State != hostapi.TaskRunning {
		t.Errorf("not all came back: %+v", got)
	}
	has := slices.Sorted(slices.Values(rt.container("all").gpus))
	if !slices.Equal(has, r.gpus) {
		t.Errorf("has %v", has)
	}
	r.Remove("all")
}

// takeAndFree starts and ends tasks at random, up to four at once, in a shim
// that is killed now and then, also in the middle of a start. look gets the
// tasks that run with their numbers of accelerators. All are removed at the end.
func takeAndFree(t *testing.T, r *rig, tasks int, specOf func(id string) hostapi.TaskSpec, look func(map[string]int)) {
	t.Helper()
	dice := rand.New(rand.NewPCG(1, 2))
	held := map[string]int{}
	for next := 0; next < tasks; {
		burst := map[string]int{}
		demand := 0
		for range 1 + dice.IntN(4) {
			id := fmt.Sprint("t", next)
			s := specOf(id)
			s.GPUs = 1 + dice.IntN(4)
			burst[id] = s.GPUs
			demand += s.GPUs
			r.Put(id, s)
			next++
			if dice.IntN(40) == 0 {
				r.restart()
			}
		}
		room := len(r.gpus) - sum(held)
		for id, n := range burst {
			got := r.Await(id, hostapi.TaskRunning)
			switch {
			case got.State == hostapi.TaskRunning:
				held[id] = n
			case demand <= room || !strings.HasPrefix(got.Message, "no capacity: "):
				t.Fatalf("task %s for %d GPUs (%d with its neighbours, %d are free): %+v", id, n, demand, room, got)
			default:
				r.Remove(id)
			}
		}
		if sum(held) > len(r.gpus) {
			t.Fatalf("given: %v", held)
		}
		look(held)
		for id := range held {
			if dice.IntN(2) == 0 {
				continue
			}
			if dice.IntN(2) == 0 {
				r.Stop(id, hostapi.StopTask{Grace: 10})
				r.Await(id, hostapi.TaskTerminated)
			}
			r.Remove(id)
			delete(held, id)
		}
	}
	for id := range held {
		r.Remove(id)
	}
}

func sum(held map[string]int) int {
	n := 0
	for _, gpus := range held {
		n += gpus
	}
	return n
}

// TestHealthIsTold: what a look at the accelerators finds, each change once,
// and that they cannot be listed.
func TestHealthIsTold(t *testing.T) {
	rt := newFakeRuntime(t)
	r := newRig(t, rt)
	r.health = func(context.Context) *hostapi.Health {
		return &hostapi.Health{Status: hostapi.HealthWarning, Incidents: []hostapi.Incident{{Status: hostapi.HealthWarning, Message: "hot"}}}
	}
	r.restart()
	await := func(is func(*hostapi.Health) bool) {
		for !is(r.m.Info().Health) {
			time.Sleep(time.Millisecond)
		}
	}
	await(func(h *hostapi.Health) bool { return h != nil && h.Status == hostapi.HealthWarning })
	r.lost = errors.New("GPU is lost")
	r.restart()
	await(func(h *hostapi.Health) bool {
		return h != nil && h.Status == hostapi.HealthFailure && strings.Contains(h.Incidents[0].Message, "GPU is lost")
	})
}

// TestSlowToolsHoldUpNothing: tasks run while a look at the accelerators hangs.
func TestSlowToolsHoldUpNothing(t *testing.T) {
	r := newRig(t, newFakeRuntime(t))
	r.health = func(ctx context.Context) *hostapi.Health {
		<-ctx.Done()
		return nil
	}
	r.restart()
	r.Put("t1", spec())
	if got := r.Await("t1", hostapi.TaskTerminated); got.Reason != reasonDone {
		t.Errorf("end = %+v", got)
	}
	r.Remove("t1")
}
