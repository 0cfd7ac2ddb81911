package shim

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// fakeVolumes are the volumes of a host.
type fakeVolumes struct {
	mu      sync.Mutex
	mounted map[string]bool
	mounts  int
	err     error
}

func (f *fakeVolumes) Mount(_ context.Context, v hostapi.Volume) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return "", f.err
	}
	if !f.mounted[v.Name] {
		f.mounts++
	}
	if f.mounted == nil {
		f.mounted = map[string]bool{}
	}
	f.mounted[v.Name] = true
	return "/vol/" + v.Name, nil
}

func (f *fakeVolumes) Keep(_ context.Context, names func() []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	keep := names()
	maps.DeleteFunc(f.mounted, func(name string, _ bool) bool { return !slices.Contains(keep, name) })
	return nil
}

func (f *fakeVolumes) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.mounted))
}

// reboot is what the host forgets when it goes down.
func (f *fakeVolumes) reboot() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mounted = nil
}

func withVolumes(names ...string) hostapi.TaskSpec {
	s := spec()
	s.Mounts = []hostapi.InstanceMount{{Source: "/h", Target: "/c"}}
	for _, n := range names {
		s.Volumes = append(s.Volumes, hostapi.Volume{Name: n, Target: "/data/" + n})
	}
	return s
}

func untilStopped(c *fakeContainer) {
	c.run()
	<-c.stops
	c.end(jobapi.Status{State: jobapi.Terminated})
}

// TestVolumesAreShared mounts a volume for the first task that uses it, and
// unmounts it when the last one has ended, before anybody hears of the end.
func TestVolumesAreShared(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = untilStopped
	r := newRig(t, rt)
	r.Put("t1", withVolumes("a", "b"))
	r.Await("t1", hostapi.TaskRunning)
	r.Put("t2", withVolumes("b"))
	r.Await("t2", hostapi.TaskRunning)
	want := []hostapi.InstanceMount{{Source: "/h", Target: "/c"}, {Source: "/vol/a", Target: "/data/a"}, {Source: "/vol/b", Target: "/data/b"}}
	if diff := cmp.Diff(want, r.m.task("t1").record().workload("").Spec.Mounts); diff != "" {
		t.Error(diff)
	}
	r.restart()
	if got := r.volumes.names(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("mounted after a restart: %v", got)
	}
	r.Stop("t1", hostapi.StopTask{Reason: "terminated_by_user"})
	r.Await("t1", hostapi.TaskTerminated)
	if got := r.volumes.names(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("mounted after the first end: %v", got)
	}
	r.Remove("t2")
	r.Remove("t1")
	if got := r.volumes.names(); len(got) > 0 || r.volumes.mounts != 2 {
		t.Errorf("mounted at last: %v, mounts: %d", got, r.volumes.mounts)
	}
}

// TestVolumesOfTasksThatEndTogether leaves none behind.
func TestVolumesOfTasksThatEndTogether(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = untilStopped
	r := newRig(t, rt)
	ids := []string{"t1", "t2", "t3", "t4"}
	for _, id := range ids {
		r.Put(id, withVolumes("a"))
		r.Await(id, hostapi.TaskRunning)
	}
	for _, id := range ids {
		r.Stop(id, hostapi.StopTask{Reason: "terminated_by_user"})
	}
	for _, id := range ids {
		r.Await(id, hostapi.TaskTerminated)
	}
	if got := r.volumes.names(); len(got) > 0 {
		t.Errorf("still mounted: %v", got)
	}
}

// TestVolumeIsMountedAgainAfterReboot: a job that had not started yet does not
// find an empty folder where its volume should be.
func TestVolumeIsMountedAgainAfterReboot(t *testing.T) {
	rt := newFakeRuntime(t)
	rt.script = untilStopped
	rt.launch = func(string) error { return errors.New("the engine is away") }
	r := newRig(t, rt)
	r.Put("t1", withVolumes("a"))
	r.Await("t1", hostapi.TaskCreating)
	r.stop()
	r.boot = "boot-2"
	r.volumes.reboot()
	rt.mu.Lock()
	rt.launch = nil
	rt.mu.Unlock()
	r.start()
	r.Await("t1", hostapi.TaskRunning)
	if got := r.volumes.names(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("mounted: %v", got)
	}
	r.Remove("t1")
}

func TestVolumeThatCannotBeMounted(t *testing.T) {
	rt := newFakeRuntime(t)
	r := newRig(t, rt)
	r.volumes.err = errors.New("volume a has no file system")
	r.Put("t1", withVolumes("a"))
	got := r.Await("t1", hostapi.TaskTerminated)
	if got.Reason != reasonVolume || !strings.HasSuffix(got.Message, "volume a has no file system") || rt.launches["t1"] != 0 {
		t.Errorf("end = %+v, launched %d times", got, rt.launches["t1"])
	}
	r.Remove("t1")
}
