//go:build e2e

// Package bench measures; it asserts nothing about time. docs/development/performance.md
// keeps what it printed, with the command that reproduces it.
package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"dstack/protocol/api"
	"dstack/test/lab"
)

const runs = 20

// sample is one run's times since runs/apply was called.
type sample struct{ running, firstLine, done time.Duration }

// TestLatency prints medians of 20 runs of `echo started; sleep 1` on an idle
// host, beside what the host's engine alone takes to create and start.
func TestLatency(t *testing.T) {
	ctx := t.Context()
	l := lab.OpenFor(t)
	m, err := l.NewMachine(ctx, lab.MachineOptions{Images: []string{lab.Busybox}})
	if err != nil {
		t.Fatal(err)
	}
	s := lab.ServerFor(t, nil)
	if result, err := s.ApplyFleet(ctx, "lab", m); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	var engine []time.Duration
	var docker []sample
	for i := range runs {
		e, err := engineAlone(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		engine = append(engine, e)
		docker = append(docker, measure(t, s, fmt.Sprintf("docker-%d", i), lab.Busybox))
	}
	local := lab.ServerFor(t, []string{"DSTACK_SHIM_RUNTIME=process"}, "--local")
	var process []sample
	for i := range runs {
		process = append(process, measure(t, local, fmt.Sprintf("process-%d", i), "dstack-demo"))
	}
	if result, err := local.CLI(ctx, local.Dir, "fleet", "delete", "-y", "local"); err != nil || result.Exit != 0 {
		t.Errorf("%+v, %v", result, err)
	}
	e := median(engine)
	report := fmt.Sprintf("engine alone, create and start (E): %s\n", round(e))
	for _, row := range []struct {
		name    string
		samples []sample
		base    time.Duration
	}{{"docker", docker, e}, {"process", process, 0}} {
		for _, column := range []struct {
			name string
			of   func(sample) time.Duration
		}{
			{"job running", func(s sample) time.Duration { return s.running }},
			{"first log line through logs/poll", func(s sample) time.Duration { return s.firstLine }},
			{"run done", func(s sample) time.Duration { return s.done }},
		} {
			var values []time.Duration
			for _, s := range row.samples {
				values = append(values, column.of(s))
			}
			v := median(values)
			report += fmt.Sprintf("%-8s %-34s median %s (min %s, max %s), E + %s\n", row.name, column.name,
				round(v), round(slices.Min(values)), round(slices.Max(values)), round(v-row.base))
		}
	}
	t.Log("\n" + report)
}

// engineAlone is what the machine's engine takes to create and start a
// container, measured through its socket without any client program.
func engineAlone(ctx context.Context, m *lab.Machine) (time.Duration, error) {
	socket, err := m.Path(ctx, "/run/docker.sock")
	if err != nil {
		return 0, err
	}
	// A socket path is at most 108 bytes long; a link makes it short.
	link := filepath.Join(os.TempDir(), "bench-docker.sock")
	if err := os.Symlink(socket, link); err != nil {
		return 0, fmt.Errorf("link socket: %w", err)
	}
	defer os.Remove(link)
	docker, err := client.NewClientWithOpts(client.WithHost("unix://"+link), client.WithAPIVersionNegotiation())
	if err != nil {
		return 0, fmt.Errorf("make engine client: %w", err)
	}
	defer docker.Close()
	if _, err := docker.Ping(ctx); err != nil {
		return 0, fmt.Errorf("ping engine: %w", err)
	}
	start := time.Now()
	c, err := docker.ContainerCreate(ctx, &container.Config{Image: lab.Busybox, Cmd: []string{"sleep", "1"}}, &container.HostConfig{NetworkMode: "host"}, nil, nil, "")
	if err != nil {
		return 0, fmt.Errorf("create container: %w", err)
	}
	if err := docker.ContainerStart(ctx, c.ID, container.StartOptions{}); err != nil {
		return 0, fmt.Errorf("start container: %w", err)
	}
	took := time.Since(start)
	return took, docker.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true})
}

// measure runs one task and polls the API every few milliseconds.
func measure(t *testing.T, s *lab.Server, name, image string) sample {
	t.Helper()
	ctx := t.Context()
	start := time.Now()
	run, err := s.Submit(ctx, name, map[string]any{"image": image, "commands": []string{"echo started", "sleep 1"}})
	if err != nil {
		t.Fatal(err)
	}
	var out sample
	for !run.Status.Finished() {
		if time.Since(start) > time.Minute {
			t.Fatalf("%s is still %s", name, run.Status)
		}
		if run, err = s.Run(ctx, name); err != nil {
			t.Fatal(err)
		}
		if out.running == 0 && run.LatestJobSubmission.Status == api.JobRunning {
			out.running = time.Since(start)
		}
		if out.firstLine == 0 {
			log, err := s.Logs(ctx, run)
			if err != nil {
				t.Fatal(err)
			}
			if len(log) > 0 {
				out.firstLine = time.Since(start)
			}
		}
		<-time.After(2 * time.Millisecond)
	}
	out.done = time.Since(start)
	if run.Status != api.RunDone {
		t.Fatalf("%s is %s", name, run.Status)
	}
	// The next run waits for an idle host, which is not what is measured.
	err = lab.Wait(ctx, 30*time.Second, "idle host", func(ctx context.Context) error {
		var instances []api.Instance
		if err := s.Call(ctx, "instances/list", map[string]any{"only_active": true}, &instances); err != nil {
			return err
		}
		if len(instances) == 1 && instances[0].Status == api.InstanceIdle {
			return nil
		}
		return fmt.Errorf("%d instances", len(instances))
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func median(values []time.Duration) time.Duration {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
