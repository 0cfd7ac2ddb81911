//go:build e2e

package shim

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
	"dstack/shim/docker"
)

// TestE2EGPUs is TestGPUsAreNeverGivenTwice on a real engine, which takes
// requests for GPUs because a program has the name of NVIDIA's hook: what each
// container got is read back from the engine.
func TestE2EGPUs(t *testing.T) {
	hooks := t.TempDir()
	if err := os.WriteFile(filepath.Join(hooks, "nvidia-container-runtime-hook"), []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, false, "PATH="+hooks+":"+os.Getenv("PATH"))
	e.importBusybox()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_HOST", e.host())
	images := filepath.Join(t.TempDir(), "images.json")
	r := newRigOn(t, func() Runtime {
		rt, err := docker.New(docker.Config{
			HostID: "h", Agent: filepath.Join(bin, "dstack-agent"), ImagesFile: images, Log: zerolog.Nop(), Changed: func() {},
		})
		if err != nil || !rt.Connect(t.Context()) {
			t.Fatal("no engine", err)
		}
		return rt
	})
	r.gpus = eightGPUs()
	r.restart()
	sleeping := func(id string) hostapi.TaskSpec {
		s := withID(id, shell("sleep 600"))
		s.Name = id
		return s
	}
	takeAndFree(t, r, cycles(t, "GPU_ENGINE_CYCLES", 30), sleeping, func(held map[string]int) {
		var given []string
		for id, gpus := range held {
			got := e.requested(id)
			if len(got) != gpus {
				t.Errorf("the container of %s has GPUs %v, want %d", id, got, gpus)
			}
			given = append(given, got...)
		}
		slices.Sort(given)
		if len(slices.Compact(slices.Clone(given))) != len(given) {
			t.Fatalf("a GPU was given twice: %v", given)
		}
	})
}

// requested are the GPUs of a task's container that runs.
func (e *engine) requested(task string) []string {
	e.t.Helper()
	ctx := context.Background()
	list, err := e.cli.ContainerList(ctx, container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "ai.dstack.shim.task-id="+task))})
	if err != nil || len(list) != 1 {
		e.t.Fatalf("containers of %s: %v, %v", task, list, err)
	}
	info, err := e.cli.ContainerInspect(ctx, list[0].ID)
	if err != nil {
		e.t.Fatal(err)
	}
	var ids []string
	for _, request := range info.HostConfig.DeviceRequests {
		ids = append(ids, request.DeviceIDs...)
	}
	return slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, "GPU-") })
}
