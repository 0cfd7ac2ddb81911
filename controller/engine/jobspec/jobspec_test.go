package jobspec

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

func ptr[T any](v T) *T { return &v }

func expect[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func specOf(change func(*config.Task)) api.RunSpec {
	t := &config.Task{Type: "task", Commands: []string{"python train.py"}, RunBase: config.RunBase{HomeDir: "/root"}}
	if change != nil {
		change(t)
	}
	return api.RunSpec{RunName: ptr("train"), Configuration: config.Run{Task: t}}
}

// imagesOf says what is known of the image of a run.
func imagesOf(spec api.RunSpec, image *ImageConfig) Images {
	if image == nil {
		return nil
	}
	return Images{*spec.Configuration.Base().Image: *image}
}

func build1(t *testing.T, spec api.RunSpec, image *ImageConfig) api.JobSpec {
	t.Helper()
	jobs, err := Build(spec, imagesOf(spec, image), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return jobs[0]
}

// TestCommands is job-execution.md 7.
func TestCommands(t *testing.T) {
	t.Parallel()
	image := ptr("ubuntu:24.04")
	for name, c := range map[string]struct {
		task  func(*config.Task)
		image *ImageConfig
		want  []string
		fails string
	}{
		"image":         {func(t *config.Task) { t.Image = image }, nil, []string{"/bin/sh", "-i", "-c", "python train.py"}, ""},
		"several":       {func(t *config.Task) { t.Image, t.Commands = image, []string{" a ", "b &", "c\n"} }, nil, []string{"/bin/sh", "-i", "-c", "a && { b & } && c"}, ""},
		"shell":         {func(t *config.Task) { t.Image, t.Shell = image, ptr("bash") }, nil, []string{"/bin/bash", "-i", "-c", "python train.py"}, ""},
		"shell by path": {func(t *config.Task) { t.Image, t.Shell = image, ptr("/usr/bin/fish") }, nil, []string{"/usr/bin/fish", "-i", "-c", "python train.py"}, ""},
		"docker":        {func(t *config.Task) { t.Docker = ptr(true) }, nil, []string{"/bin/bash", "-i", "-c", "start-dockerd && python train.py"}, ""},
		"entrypoint":    {func(t *config.Task) { t.Image, t.Entrypoint = image, ptr(`sh -c "a b"`) }, nil, []string{"sh", "-c", "a b", "python train.py"}, ""},
		"odd quotes":    {func(t *config.Task) { t.Image, t.Entrypoint = image, ptr(`sh "`) }, nil, nil, "entrypoint:"},
		"of the image":  {func(t *config.Task) { t.Image, t.Commands = image, nil }, &ImageConfig{Entrypoint: []string{"/run"}, Cmd: []string{"x"}}, []string{"/run", "x"}, ""},
		"none there":    {func(t *config.Task) { t.Image, t.Commands = image, nil }, &ImageConfig{}, nil, "Could not determine what command"},
		"host knows":    {func(t *config.Task) { t.Image, t.Commands = image, nil }, nil, []string{}, ""},
		"scratch":       {func(t *config.Task) { t.Image, t.Commands = ptr("scratch"), nil }, nil, []string{":"}, ""},
		"nothing":       {func(t *config.Task) { t.Commands = nil }, nil, nil, "Could not determine what command"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := specOf(c.task)
			jobs, err := Build(spec, imagesOf(spec, c.image), Options{})
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("got error %v, want %q", err, c.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "commands", []string(jobs[0].Commands), c.want)
		})
	}
}

func TestDefaultImage(t *testing.T) {
	t.Parallel()
	job := build1(t, specOf(nil), nil)
	expect(t, "image", job.ImageName, "dstackai/base:0.16-base-ubuntu24.04")
	script := job.Commands[3]
	for _, part := range []string{"DSTACK_VENV_DIR=/dstack/venv", "uv venv -q --prompt dstack -p 3.12 --seed", "&& python train.py"} {
		if !strings.Contains(script, part) {
			t.Errorf("script %q lacks %q", script, part)
		}
	}
	expect(t, "arch", *job.Requirements.Resources.CPU.Arch, "x86")
	expect(t, "without prelude", WithoutPrelude(job.Commands), []string{"/bin/bash", "-i", "-c", "python train.py"})
	expect(t, "nvcc", build1(t, specOf(func(t *config.Task) { t.NVCC = ptr(true) }), nil).ImageName, "dstackai/base:0.16-devel-ubuntu24.04")
	job = build1(t, specOf(func(t *config.Task) { t.Docker = ptr(true) }), nil)
	expect(t, "dind", []any{job.ImageName, job.Privileged}, []any{"dstackai/dind", true})
	expect(t, "dind without prelude", WithoutPrelude(job.Commands), []string{"/bin/bash", "-i", "-c", "python train.py"})
	job = build1(t, specOf(func(t *config.Task) { t.Image = ptr("x") }), &ImageConfig{Archs: []string{"arm64"}})
	expect(t, "arch of the image", *job.Requirements.Resources.CPU.Arch, "arm")
	expect(t, "others have none", WithoutPrelude(job.Commands), []string(job.Commands))
}

// TestJobSpec is the job of rest-api.md 13, and what follows from a profile.
func TestJobSpec(t *testing.T) {
	t.Parallel()
	spec := specOf(func(t *config.Task) {
		t.Env = config.Env{"A": {Value: "1"}}
		t.MaxDuration = &config.OffableDuration{Seconds: 7200}
		t.Resources.CPU.Count.Min = ptr(2)
	})
	spec.RepoData = &api.RepoData{RepoType: "virtual"}
	job := build1(t, spec, nil)
	job.Commands = nil
	got, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"replica_num":0,"job_num":0,"job_name":"train-0-0","jobs_per_replica":1,"replica_group":"0","app_specs":[],"user":null,` +
		`"commands":[],"env":{"A":"1"},"home_dir":"/root","image_name":"dstackai/base:0.16-base-ubuntu24.04","privileged":false,` +
		`"single_branch":true,"max_duration":7200,"stop_duration":300,"utilization_policy":null,"registry_auth":null,` +
		`"requirements":{"resources":{"cpu":{"arch":"x86","count":{"min":2,"max":null}},"memory":{"min":null,"max":null},"shm_size":null,"gpu":null,"disk":null},` +
		`"max_price":null,"spot":false,"reservation":null,"multinode":false,"backend_options":null},` +
		`"retry":null,"volumes":[],"ssh_key":null,"working_dir":null,"repo_data":{"repo_type":"virtual"},"repo_code_hash":null,"repo_dir":"/workflow",` +
		`"repo_exists_action":null,"file_archives":[],"service_port":null,"probes":[],"node_group_index":0,"node_group_name":"0","node_group_job_index":0}`
	expect(t, "JSON", string(got), want)
}

func TestProfile(t *testing.T) {
	t.Parallel()
	spec := specOf(func(t *config.Task) {
		t.StopDuration = &config.OffableDuration{Off: true}
		t.Retry = &config.RetryPolicy{OnEvents: []string{"error"}}
		t.Ports = []config.PortMapping{{ContainerPort: 8000, LocalPort: ptr(80)}, {ContainerPort: 10500}, {ContainerPort: 9000}}
		t.User = ptr("1000:staff")
	})
	spec.Profile = &config.Profile{ProfileParams: config.ProfileParams{
		Retry: &config.RetryPolicy{Bool: ptr(true)}, MaxPrice: ptr(1.5), SpotPolicy: ptr("auto"),
	}}
	job := build1(t, spec, nil)
	expect(t, "retry of the configuration", job.Retry, &api.Retry{OnEvents: []string{"error"}, Duration: 3600})
	expect(t, "stop is off", job.StopDuration, nil)
	expect(t, "price and spot of the profile", []any{*job.Requirements.MaxPrice, job.Requirements.Spot}, []any{1.5, (*bool)(nil)})
	expect(t, "ports", job.AppSpecs, []api.AppSpec{{Port: 8000, MapToPort: ptr(80), AppName: "app_0"}, {Port: 9000, AppName: "app_1"}})
	expect(t, "user", job.User, &config.UnixUser{UID: ptr(1000), Groupname: ptr("staff")})
	for text, want := range map[*config.RetryPolicy]*api.Retry{
		{Bool: ptr(true)}:          {OnEvents: []string{"no-capacity", "interruption", "error"}, Duration: 3600},
		{Bool: ptr(false)}:         nil,
		{Duration: ptr(60)}:        {OnEvents: []string{"no-capacity", "interruption", "error"}, Duration: 60},
		(*config.RetryPolicy)(nil): nil,
	} {
		expect(t, "retry", retry(text), want)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	jobs, err := Build(specOf(func(t *config.Task) {
		t.Commands = nil
		t.Groups = []config.NodeGroup{{Nodes: 1, Commands: []string{"head"}}, {Name: ptr("w"), Nodes: 2, Commands: []string{"work"}}}
		t.Volumes = []config.Mount{{Names: []string{"data-${{ dstack.job_num }}-${{ x.y }}"}, Path: "/d"}, {InstancePath: "/cache", Path: "/c"}}
	}), nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []any
	for _, j := range jobs {
		got = append(got, j.JobName, j.JobsPerReplica, j.NodeGroupIndex, j.NodeGroupName, j.NodeGroupJobIndex, j.Volumes[0].Names[0], *j.Requirements.Multinode)
	}
	expect(t, "jobs", got, []any{
		"train-0-0", 3, 0, "0", 0, "data-0-${{ x.y }}", true,
		"train-1-0", 3, 1, "w", 0, "data-1-${{ x.y }}", true,
		"train-2-0", 3, 1, "w", 1, "data-2-${{ x.y }}", true,
	})
}

func TestBuildFails(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]api.RunSpec{
		"no task":  {},
		"odd user": specOf(func(t *config.Task) { t.User = ptr("a:") }),
	} {
		if _, err := Build(spec, nil, Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func placeOf(inst store.Instance, blocks int) Place {
	spec := specOf(func(t *config.Task) {
		t.Env = config.Env{"A": {Value: "job"}}
		t.User = ptr("me")
		t.Volumes = []config.Mount{{InstancePath: "/cache", Path: "/c"}, {Names: []string{"v"}, Path: "/v"}}
		t.Resources.ShmSize = ptr(2.0)
		t.MaxDuration = &config.OffableDuration{Seconds: 60}
	})
	spec.SSHKeyPub = ptr("ssh-ed25519 USER")
	jobs, err := Build(spec, nil, Options{})
	if err != nil {
		panic(err)
	}
	offer := api.Offer{Instance: *inst.Type, Blocks: blocks, TotalBlocks: max(inst.TotalBlocks, 1)}
	return Place{
		Project:  store.Project{Name: "main", PublicKey: "ssh-rsa PROJECT"},
		Run:      store.Run{ID: "r1", Name: "train", Spec: spec},
		Job:      store.Job{ID: "j1", Spec: jobs[0], Runtime: Share(inst, offer, 1, Options{}), Provisioning: Provisioning(inst, offer)},
		Instance: inst,
		Nodes:    []Node{{InternalIP: "10.0.0.5", GPUs: 2}},
	}
}

func host() store.Instance {
	gpu := api.GPU{Name: "H100", MemoryMiB: 81920, Vendor: ptr("nvidia")}
	return store.Instance{
		Name: "lab-0", Backend: "remote", Region: "remote", Hostname: "10.0.0.5", TotalBlocks: 1, InternalIP: ptr("10.0.0.5"),
		Type:   &api.InstanceType{Name: "instance", Resources: api.Resources{CPUs: 8, MemoryMiB: 65536, GPUs: []api.GPU{gpu, gpu}}},
		Info:   &hostapi.Info{Runtime: hostapi.Docker},
		Access: store.Access{Host: "10.0.0.5", User: "ubuntu", Env: map[string]string{"A": "fleet", "B": "fleet"}},
	}
}

func TestTask(t *testing.T) {
	t.Parallel()
	got := Task(placeOf(host(), 1), Options{LogQuotaHour: 1 << 20, Registry: "reg.example/", RegistryUsername: "u", RegistryPassword: "p"})
	expect(t, "image", []string{got.Image, got.RegistryUsername, got.RegistryPassword}, []string{"reg.example/dstackai/base:0.16-base-ubuntu24.04", "u", "p"})
	expect(t, "whole host", []any{got.WholeHost, got.NetworkMode, got.GPUs, got.CPUs, got.MemoryBytes}, []any{true, "host", 2, 0.0, int64(0)})
	expect(t, "shm, stall", []any{got.ShmBytes, got.PullStall}, []any{int64(2 << 30), 300})
	expect(t, "mounts", got.Mounts, []hostapi.InstanceMount{{Source: "/cache", Target: "/c"}})
	expect(t, "host keys", []any{got.HostUser, got.HostKeys}, []any{"ubuntu", []string{"ssh-ed25519 USER"}})
	job := got.Job
	expect(t, "env", job.Env, map[string]string{"A": "job", "B": "fleet"})
	expect(t, "ids", []string{job.ProjectName, job.RunID, job.RunName, job.JobID, job.JobName}, []string{"main", "r1", "train", "j1", "train-0-0"})
	expect(t, "nodes", []any{job.NodesIPs, job.MasterIP, job.NodesNum, job.NodeRank, job.GPUsPerNode, job.GPUsNum}, []any{[]string{"10.0.0.5"}, "10.0.0.5", 1, 0, 2, 2})
	expect(t, "keys", job.AuthorizedKeys, []string{"ssh-rsa PROJECT", "ssh-ed25519 USER"})
	expect(t, "limits", []any{job.MaxDuration, job.LogQuotaHour, job.User, job.Isolated, job.SSHListen}, []any{60, int64(1 << 20), "me", true, "127.0.0.1:0"})
}

func TestOnlyProxy(t *testing.T) {
	t.Parallel()
	got := Task(placeOf(host(), 1), Options{OnlyProxy: true})
	expect(t, "keys", []any{got.HostUser, got.HostKeys, got.Job.AuthorizedKeys}, []any{"", []string(nil), []string{"ssh-rsa PROJECT"}})
}

func TestTaskOnShare(t *testing.T) {
	t.Parallel()
	inst := host()
	inst.TotalBlocks = 4
	inst.Type.Resources.GPUs = append(inst.Type.Resources.GPUs, inst.Type.Resources.GPUs...)
	p := placeOf(inst, 2)
	// The offer of a share lists what the share has.
	p.Job.Runtime.Offer.Instance.Resources.CPUs = 4
	p.Job.Runtime.Offer.Instance.Resources.MemoryMiB = 32768
	p.Job.Runtime.Offer.Instance.Resources.GPUs = inst.Type.Resources.GPUs[:2]
	got := Task(p, Options{})
	expect(t, "share", []any{got.WholeHost, got.NetworkMode, got.GPUs, got.CPUs, got.MemoryBytes, got.Job.SSHListen},
		[]any{false, "bridge", 2, 4.0, int64(32768 << 20), ":10022"})
	expect(t, "runtime data", []any{*p.Job.Runtime.GPU, *p.Job.Runtime.CPU, *p.Job.Runtime.Memory}, []any{2, 4.0, 32.0})
}

func TestTaskAsProcess(t *testing.T) {
	t.Parallel()
	inst := host()
	inst.Info.Runtime = hostapi.Process
	inst.Access.Local = true
	p := placeOf(inst, 1)
	got := Task(p, Options{NetworkMode: 3})
	expect(t, "process", []any{got.NetworkMode, got.Job.Isolated, len(got.HostKeys)}, []any{"host", false, 0})
	expect(t, "commands", got.Job.Commands, []string{"/bin/bash", "-i", "-c", "python train.py"})
	expect(t, "on the wire", []any{p.Job.Provisioning.Dockerized, p.Job.Provisioning.Backend}, []any{false, "remote"})
}

func TestNetworkMode(t *testing.T) {
	t.Parallel()
	whole := api.Offer{Blocks: 1, TotalBlocks: 1}
	for _, c := range []struct {
		mode, nodes int
		want        string
	}{{0, 1, "host"}, {1, 1, "bridge"}, {1, 2, "host"}, {2, 1, "host"}, {3, 2, "bridge"}} {
		expect(t, "mode", Share(host(), whole, c.nodes, Options{NetworkMode: c.mode}).NetworkMode, c.want)
	}
}
