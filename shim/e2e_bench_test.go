//go:build e2e

package shim

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"dstack/protocol/hostapi"
)

// TestE2ELatency prints what the shim and the agent add to the engine's own
// time; the promise is kept by the benchmark of the whole.
func TestE2ELatency(t *testing.T) {
	s, e := dockerShim(t, false)
	var engine, running, done []time.Duration
	for i := range 10 {
		name := fmt.Sprintf("bare%d", i)
		began := time.Now()
		if _, err := e.cli.ContainerCreate(context.Background(), &container.Config{Image: "busybox:1", Cmd: []string{"true"}}, nil, nil, nil, name); err != nil {
			t.Fatal(err)
		}
		if err := e.cli.ContainerStart(context.Background(), name, container.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		engine = append(engine, time.Since(began))
		ended, errs := e.cli.ContainerWait(context.Background(), name, container.WaitConditionNotRunning)
		select {
		case <-ended:
		case err := <-errs:
			t.Fatal(err)
		}

		id := fmt.Sprintf("lat%d", i)
		began = time.Now()
		s.Put(id, withID(id, shell("true")))
		s.Await(id, hostapi.TaskRunning)
		running = append(running, time.Since(began))
		s.Await(id, hostapi.TaskTerminated)
		done = append(done, time.Since(began))
		s.Remove(id)
	}
	for _, d := range [][]time.Duration{engine, running, done} {
		slices.Sort(d)
	}
	t.Logf("medians: engine's create and start %v, running after %v, done after %v; shim uses %s", engine[5], running[5], done[5], s.memory())
}
