package docker

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-units"
	"github.com/google/go-cmp/cmp"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
	"dstack/shim/gpu"
	"dstack/shim/workload"
)

func TestImageRef(t *testing.T) {
	for name, want := range map[string]struct {
		ref    string
		moving bool
	}{
		"ubuntu":                              {"docker.io/library/ubuntu:latest", true},
		"ubuntu:latest":                       {"docker.io/library/ubuntu:latest", true},
		"ubuntu:24.04":                        {"docker.io/library/ubuntu:24.04", false},
		"localhost:5000/team/x":               {"localhost:5000/team/x:latest", true},
		"localhost:5000/my:latest-ish":        {"localhost:5000/my:latest-ish", false},
		"x@sha256:" + strings.Repeat("a", 64): {"docker.io/library/x@sha256:" + strings.Repeat("a", 64), false},
	} {
		ref, moving, err := imageRef(name)
		if err != nil || ref != want.ref || moving != want.moving {
			t.Errorf("imageRef(%q) = %q, %v, %v", name, ref, moving, err)
		}
	}
	if _, _, err := imageRef("Not An Image"); err == nil {
		t.Error("a bad name was accepted")
	}
}

const pullStream = `{"status":"Pulling from library/x","id":"1"}
{"status":"Already exists","progressDetail":{},"id":"aaa"}
{"status":"Pulling fs layer","progressDetail":{},"id":"bbb"}
{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"bbb"}
{"status":"Pulling fs layer","progressDetail":{},"id":"ccc"}
{"status":"Download complete","progressDetail":{},"id":"bbb"}
{"status":"Downloading","progressDetail":{"current":5,"total":50},"id":"ccc"}
{"status":"Extracting","progressDetail":{"current":60,"total":100},"id":"bbb"}
{"status":"Pull complete","progressDetail":{},"id":"bbb"}
{"status":"Download complete","progressDetail":{},"id":"ccc"}
{"status":"Pull complete","progressDetail":{},"id":"ccc"}
{"status":"Status: Downloaded newer image for x"}
`

func TestProgress(t *testing.T) {
	var seen []hostapi.PullProgress
	p := newProgress(func(s hostapi.PullProgress) { seen = append(seen, s) })
	if err := p.read(strings.NewReader(pullStream)); err != nil {
		t.Fatal(err)
	}
	want := []hostapi.PullProgress{
		{},
		{Downloaded: 10, Total: 100, TotalFinal: true},
		{Downloaded: 10, Total: 100},
		{Downloaded: 100, Total: 100},
		{Downloaded: 105, Total: 150, TotalFinal: true},
		{Downloaded: 105, Extracted: 60, Total: 150, TotalFinal: true},
		{Downloaded: 105, Extracted: 100, Total: 150, TotalFinal: true},
		{Downloaded: 150, Extracted: 100, Total: 150, TotalFinal: true},
		{Downloaded: 150, Extracted: 150, Total: 150, TotalFinal: true},
	}
	if diff := cmp.Diff(want[1:], seen); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	if err := newProgress(func(hostapi.PullProgress) {}).read(strings.NewReader(pullStream[:200])); err == nil {
		t.Error("a pull that ended early succeeded")
	}
	if err := newProgress(nil).read(strings.NewReader(`{"error":"no space left on device"}`)); err == nil || err.Error() != "no space left on device" {
		t.Errorf("error line = %v", err)
	}
}

func TestPullFailure(t *testing.T) {
	for text, want := range map[string]string{
		"Get https://r/v2/: unauthorized: bad":                "the registry wants a user name and password",
		"pull access denied for x, repository does not exist": "it does not exist, or is private",
		"manifest for x:1 not found: manifest unknown":        "it does not exist in the registry",
		"dial tcp: lookup r: no such host":                    "the host cannot reach the registry",
		"write /x: no space left on device":                   "the disk of the host is full",
		"no matching manifest for linux/arm64":                "it does not exist for the architecture",
	} {
		var f *workload.StartError
		if err := pullFailure(hostapi.TaskSpec{Image: "img"}, errors.New(text)); !errors.As(err, &f) ||
			f.Reason != "creating_container_error" || !strings.HasPrefix(f.Message, "pullImage error: image img: "+want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func job(change func(*workload.Task)) workload.Task {
	t := workload.Task{ID: "id", RunDir: "/run-dir", Spec: hostapi.TaskSpec{Name: "job-0-0", Image: "img", NetworkMode: "bridge"}}
	change(&t)
	return t
}

func TestRequest(t *testing.T) {
	base := newRequest(job(func(*workload.Task) {}), Config{Agent: "/a", HostID: "h", PassEnv: []string{"no_proxy=x"}}, host{}, true)
	want := request{
		config: container.Config{
			Image: "img", User: "0:0", Entrypoint: []string{"/usr/local/bin/dstack-agent"}, Cmd: []string{"init"}, Env: []string{"no_proxy=x"},
			Labels:      map[string]string{"ai.dstack.shim.is-task": "true", "ai.dstack.shim.task-id": "id", "ai.dstack.shim.host-id": "h"},
			Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
		},
		hostCfg: container.HostConfig{
			Mounts: []mount.Mount{
				{Type: "bind", Source: "/run-dir", Target: jobapi.Dir},
				{Type: "bind", Source: "/a", Target: "/usr/local/bin/dstack-agent", ReadOnly: true},
			},
			NetworkMode: "bridge", RestartPolicy: container.RestartPolicy{Name: "no"},
			LogConfig: container.LogConfig{Type: "local", Config: map[string]string{"max-size": "1m", "max-file": "1", "compress": "false"}},
		},
	}
	if diff := cmp.Diff(want, base, cmp.AllowUnexported(request{})); diff != "" {
		t.Errorf("plain task (-want +got):\n%s", diff)
	}

	// A privileged container cannot be started on every machine that runs
	// these tests: what counts is what the engine is asked.
	full := newRequest(job(func(t *workload.Task) {
		t.Spec.Privileged, t.Spec.CPUs, t.Spec.MemoryBytes, t.Spec.ShmBytes = true, 1.5, 1<<30, 1<<20
		t.Spec.Job.SSHListen = ":10022"
	}), Config{}, host{infiniband: true}, true).hostCfg
	if !full.Privileged || full.NanoCPUs != 1_500_000_000 || full.Memory != 1<<30 || full.ShmSize != 1<<20 ||
		full.Tmpfs["/dev/shm"] != "exec,size=1048576" || full.PortBindings["10022/tcp"][0].HostIP != "127.0.0.1" ||
		full.Devices[0].PathOnHost != "/dev/infiniband" || !cmp.Equal(full.Ulimits, []*units.Ulimit{{Name: "memlock", Soft: -1, Hard: -1}}) {
		t.Errorf("full task: %+v", full)
	}
}

func TestGPUsByVendor(t *testing.T) {
	gid := func(path string) (uint32, bool) {
		return map[string]uint32{"/dev/kfd": 44, "/dev/dri/renderD128": 105, "/dev/dri/renderD129": 105}[path], true
	}
	ask := func(vendor string, display bool, ids ...string) request {
		return newRequest(job(func(t *workload.Task) { t.GPUVendor, t.GPUs = vendor, ids }), Config{}, host{groups: gid}, display)
	}
	if q := ask(gpu.NVIDIA, true, "GPU-a"); !cmp.Equal(q.hostCfg.DeviceRequests, []container.DeviceRequest{{
		DeviceIDs: []string{"GPU-a"}, Capabilities: [][]string{{"gpu", "utility", "compute", "graphics", "video", "compat32", "display"}}}}) {
		t.Errorf("nvidia: %+v", q.hostCfg.DeviceRequests)
	}
	if q := ask(gpu.NVIDIA, false, "GPU-a"); len(q.hostCfg.DeviceRequests[0].Capabilities[0]) != 6 {
		t.Errorf("nvidia without display: %+v", q.hostCfg.DeviceRequests)
	}
	if q := ask(gpu.NVIDIA, true); q.hostCfg.DeviceRequests != nil || !cmp.Equal(q.config.Env, []string{"NVIDIA_VISIBLE_DEVICES=void"}) {
		t.Errorf("nvidia, none: %+v, %v", q.hostCfg.DeviceRequests, q.config.Env)
	}
	amd := ask(gpu.AMD, true, "/dev/dri/renderD128", "/dev/dri/renderD129").hostCfg
	if len(amd.Devices) != 3 || amd.IpcMode != "host" || !cmp.Equal(amd.GroupAdd, []string{"44", "105"}) ||
		!cmp.Equal([]string(amd.CapAdd), []string{"SYS_PTRACE"}) || !cmp.Equal(amd.SecurityOpt, []string{"seccomp=unconfined"}) {
		t.Errorf("amd: %+v", amd)
	}
	held := job(func(t *workload.Task) { t.GPUVendor, t.GPUs = gpu.AMD, []string{"/dev/dri/renderD128"} })
	if got := deviceGroups(held, host{groups: gid}); !cmp.Equal(got, []uint32{44, 105}) {
		t.Errorf("groups of the job: %v", got)
	}
	intel := ask(gpu.Intel, true, "0", "3")
	if intel.hostCfg.Runtime != "habana" || intel.hostCfg.IpcMode != "host" || !cmp.Equal(intel.config.Env, []string{"HABANA_VISIBLE_DEVICES=0,3"}) {
		t.Errorf("intel: %+v", intel)
	}
	if !cmp.Equal([]string(intel.hostCfg.CapAdd), []string{"SYS_NICE"}) || intel.hostCfg.Devices != nil {
		t.Errorf("intel: %+v", intel.hostCfg)
	}
	tt := ask(gpu.Tenstorrent, true, "1", "3").hostCfg
	if tt.Devices[0].PathOnHost != "/dev/tenstorrent/1" || tt.Devices[1].PathInContainer != "/dev/tenstorrent/3" || len(tt.Mounts) != 2 {
		t.Errorf("tenstorrent without large pages: %+v", tt)
	}
	large := newRequest(job(func(t *workload.Task) { t.GPUVendor, t.GPUs = gpu.Tenstorrent, []string{"1"} }), Config{}, host{hugepages: true}, true).hostCfg
	if large.Mounts[2].Source != "/dev/hugepages-1G" || large.Mounts[2].ReadOnly {
		t.Errorf("tenstorrent: %+v", large)
	}
	for _, vendor := range []string{gpu.AMD, gpu.Intel, gpu.Tenstorrent} {
		// A task without accelerators gets no part of any.
		if q := ask(vendor, true); !cmp.Equal(q, ask("", true), cmp.AllowUnexported(request{})) {
			t.Errorf("%s, none: %+v", vendor, q)
		}
	}
}

func TestCreateFailure(t *testing.T) {
	gpus := func(t *workload.Task) { t.GPUs = []string{"0"} }
	for text, want := range map[string]string{
		`could not select device driver "" with capabilities: [[gpu utility]]`: "the host lacks the nvidia-container-toolkit",
		"unknown or invalid runtime name: habana":                              "the host lacks the habana-container-runtime",
		"exec format error": "the agent or the image is for another architecture",
	} {
		var f *workload.StartError
		err := (&Runtime{}).createFailure(job(gpus), "createContainer", errors.New(text))
		if !errors.As(err, &f) || f.Reason != "creating_container_error" || !strings.HasPrefix(f.Message, "createContainer error: "+want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestContainerName(t *testing.T) {
	if got := containerName(job(func(*workload.Task) {})); !strings.HasPrefix(got, "job-0-0-") || len(got) != len("job-0-0-")+8 {
		t.Errorf("name = %s", got)
	}
}

func TestMakeMounts(t *testing.T) {
	dir := t.TempDir()
	for _, bad := range []hostapi.InstanceMount{{Source: "rel", Target: "/x"}, {Source: "/a/../b", Target: "/x"}, {Source: dir, Target: "x"}} {
		if err := makeMounts([]hostapi.InstanceMount{bad}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	leaf := filepath.Join(dir, "a", "b")
	for range 2 {
		if err := makeMounts([]hostapi.InstanceMount{{Source: leaf + "/", Target: "/x"}}); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(leaf); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("leaf: %v, %v", info, err)
	}
}

func TestStaleImages(t *testing.T) {
	now := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	used := map[string]time.Time{
		"old": now.Add(-30 * 24 * time.Hour), "older": now.Add(-31 * 24 * time.Hour), "new": now.Add(-6 * 24 * time.Hour),
	}
	if got := stale(used, 100, 14, now); !cmp.Equal(got, []string{"older", "old"}) {
		t.Errorf("at 86 %%: %v", got)
	}
	if got := stale(used, 100, 15, now); got != nil {
		t.Errorf("at 85 %%: %v", got)
	}
}

func TestUseOfImagesIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "images.json")
	im, err := loadImages(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := im.use("a", now); err != nil {
		t.Fatal(err)
	}
	again, err := loadImages(path)
	if err != nil || !again.used["a"].Equal(now) {
		t.Errorf("again = %v, %v", again, err)
	}
	if err := os.WriteFile(path, []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadImages(path); err != nil {
		t.Errorf("a torn file is not fatal: %v", err)
	}
}

func FuzzProgress(f *testing.F) {
	f.Add(pullStream)
	f.Fuzz(func(_ *testing.T, text string) {
		_ = newProgress(func(hostapi.PullProgress) {}).read(strings.NewReader(text))
	})
}
