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

// cycles is how many tasks take and free accelerators: GPU_CYCLES, if set.
func cycles(t *testing.T, otherwise int) int {
	t.Helper()
	text := os.Getenv("GPU_CYCLES")
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
// several at once, while the shim is killed and started again; the runtime
// looks at each start whether somebody has one of them.
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
	dice := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same again is what is wanted
	held := map[string]int{}
	free := func() int {
		n := len(r.gpus)
		for _, gpus := range held {
			n -= gpus
		}
		return n
	}
	for next, all := 0, cycles(t, 200); next < all; {
		burst := map[string]int{}
		demand := 0
		for range 1 + dice.IntN(4) {
			id := fmt.Sprint("t", next)
			burst[id] = 1 + dice.IntN(4)
			demand += burst[id]
			s := spec()
			s.GPUs = burst[id]
			r.Put(id, s)
			next++
			if dice.IntN(40) == 0 {
				r.restart()
			}
		}
		room := free()
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
		if free() < 0 {
			t.Fatalf("given: %v", held)
		}
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
