package jobspec

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/jobapi"
)

// ImageConfig is what the registry knows of a run's image.
type ImageConfig struct {
	Entrypoint, Cmd []string
	// Archs are the architectures of the image, as the registry names them.
	Archs []string
}

// defaultRepoDir is where a job without a repo would have it.
const defaultRepoDir = "/workflow"

// defaultStop is how many seconds a job gets to stop.
const defaultStop = 300

// defaultRetry is how many seconds a job is retried.
const defaultRetry = 3600

// retryEvents are all events of a retry policy.
func retryEvents() []string {
	return []string{config.RetryNoCapacity, config.RetryInterruption, config.RetryError}
}

// Images are the configurations of images that are known, by the name of the
// image. A job of another image without commands gets those of its image on
// its host.
type Images map[string]ImageConfig

// Build makes the specifications of the jobs of one replica of each group of
// a run: what a plan shows. All have the replica number 0.
func Build(spec api.RunSpec, images Images, opts Options) ([]api.JobSpec, error) {
	var jobs []api.JobSpec
	for _, g := range ReplicaGroups(spec.Configuration) {
		list, err := Replica(spec, g.Name, 0, images, opts)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, list...)
	}
	return jobs, nil
}

// Replica makes the specifications of the jobs of a replica, in the order of
// their numbers, from the effective specification of its run. It has none if
// the run has no such group.
func Replica(spec api.RunSpec, group string, num int, images Images, opts Options) ([]api.JobSpec, error) {
	if spec.Configuration.Base() == nil {
		return nil, errors.New("build jobs: the run has no configuration that this server knows")
	}
	loads := workloads(spec, group)
	total := 0
	for _, w := range loads {
		total += w.nodes
	}
	var jobs []api.JobSpec
	for i, w := range loads {
		for n := range w.nodes {
			job, err := build(spec, w, images, opts)
			if err != nil {
				return nil, err
			}
			job.ReplicaNum, job.ReplicaGroup = num, group
			job.JobNum = len(jobs)
			job.JobName = JobName(deref(spec.RunName), job.JobNum, num)
			job.JobsPerReplica = total
			multinode := total > 1
			job.Requirements.Multinode = &multinode
			job.NodeGroupIndex, job.NodeGroupName, job.NodeGroupJobIndex = i, w.node, n
			job.Volumes = mounts(w.base.Volumes, job.JobNum)
			jobs = append(jobs, job)
		}
	}
	return jobs, nil
}

// JobName is the name of a job of a run.
func JobName(run string, jobNum, replicaNum int) string {
	return fmt.Sprintf("%s-%d-%d", run, jobNum, replicaNum)
}

func build(spec api.RunSpec, w workload, images Images, opts Options) (api.JobSpec, error) {
	t, p := &w.base, w.profile
	var image *ImageConfig
	if known, ok := images[deref(t.Image)]; ok {
		image = &known
	}
	cmd, err := commands(deref(spec.RunName), w, image)
	if err != nil {
		return api.JobSpec{}, err
	}
	user, err := unixUser(t.User)
	if err != nil {
		return api.JobSpec{}, err
	}
	single := w.single
	if t.SingleBranch != nil {
		single = *t.SingleBranch
	}
	home := t.HomeDir
	job := api.JobSpec{
		AppSpecs:          apps(w.ports),
		User:              user,
		Commands:          cmd,
		Env:               t.Env.Values(),
		HomeDir:           &home,
		ImageName:         imageOf(t, opts),
		Privileged:        t.Privileged || isDind(t),
		SingleBranch:      &single,
		MaxDuration:       seconds(p.MaxDuration, nil),
		StopDuration:      seconds(p.StopDuration, new(defaultStop)),
		UtilizationPolicy: p.UtilizationPolicy,
		RegistryAuth:      t.RegistryAuth,
		Requirements:      requirements(t, p, image),
		Retry:             retry(p.Retry),
		WorkingDir:        t.WorkingDir,
		RepoData:          spec.RepoData,
		RepoCodeHash:      spec.RepoCodeHash,
		RepoDir:           defaultRepoDir,
		FileArchives:      spec.FileArchives,
		Probes:            probes(w.probes),
	}
	if len(t.Repos) > 0 {
		exists := t.Repos[0].IfExists
		job.RepoDir, job.RepoExistsAction = t.Repos[0].Path, &exists
	}
	if spec.RepoDir != nil {
		job.RepoDir = *spec.RepoDir
	}
	if _, set := job.Env[jobapi.ServerURL]; t.Dstack && !set {
		job.Env = maps.Clone(job.Env)
		job.Env[jobapi.ServerURL] = jobapi.DefaultServerURL
	}
	if w.service != 0 {
		job.ServicePort = &w.service
	}
	return job, nil
}

func probes(list []config.Probe) []api.ProbeSpec {
	out := make([]api.ProbeSpec, len(list))
	for i, p := range list {
		out[i] = api.ProbeSpec{
			Type: p.Type, URL: *p.URL, Method: *p.Method, Headers: p.Headers, Body: p.Body,
			Timeout: *p.Timeout, Interval: *p.Interval, ReadyAfter: *p.ReadyAfter, UntilReady: *p.UntilReady,
		}
	}
	return out
}

func isDind(t *config.RunBase) bool { return t.Docker != nil && *t.Docker }

func imageOf(t *config.RunBase, opts Options) string {
	switch {
	case t.Image != nil && *t.Image != "":
		return *t.Image
	case isDind(t):
		return opts.dind()
	case t.NVCC != nil && *t.NVCC:
		return opts.base("devel")
	}
	return opts.base("base")
}

func requirements(t *config.RunBase, p config.ProfileParams, image *ImageConfig) api.Requirements {
	res := t.Resources
	if res.CPU.Arch == nil {
		res.CPU.Arch = impliedArch(t, image)
	}
	spot := new(bool)
	if p.SpotPolicy != nil {
		switch *p.SpotPolicy {
		case config.SpotPolicySpot:
			*spot = true
		case config.SpotPolicyAuto:
			spot = nil
		}
	}
	return api.Requirements{
		Resources: res, MaxPrice: p.MaxPrice, Spot: spot, Reservation: p.Reservation, BackendOptions: p.BackendOptions,
	}
}

// impliedArch is the CPU that the image needs: default images are x86 only.
func impliedArch(t *config.RunBase, image *ImageConfig) *string {
	x86, arm := config.ArchX86, config.ArchARM
	if t.Image == nil || *t.Image == "" {
		return &x86
	}
	if image == nil || len(image.Archs) != 1 {
		return nil
	}
	switch image.Archs[0] {
	case "amd64":
		return &x86
	case "arm64":
		return &arm
	}
	return nil
}

func seconds(d *config.OffableDuration, fallback *int) *int {
	switch {
	case d == nil:
		return fallback
	case d.Off:
		return nil
	}
	s := d.Seconds
	return &s
}

func retry(r *config.RetryPolicy) *api.Retry {
	if r == nil || r.Bool != nil && !*r.Bool {
		return nil
	}
	out := &api.Retry{OnEvents: retryEvents(), Duration: defaultRetry}
	if r.Bool == nil {
		if r.OnEvents != nil {
			out.OnEvents = r.OnEvents
		}
		if r.Duration != nil {
			out.Duration = *r.Duration
		}
	}
	return out
}

// apps lists the ports of a job; 10000-10999 are dstack's own.
func apps(ports []config.PortMapping) []api.AppSpec {
	out := []api.AppSpec{}
	for _, p := range ports {
		if p.ContainerPort >= 10000 && p.ContainerPort <= 10999 {
			continue
		}
		out = append(out, api.AppSpec{Port: p.ContainerPort, MapToPort: p.LocalPort, AppName: "app_" + strconv.Itoa(len(out))})
	}
	return out
}

// mounts fills the number of the job into the names of network volumes.
func mounts(list []config.Mount, jobNum int) []config.Mount {
	out := make([]config.Mount, 0, len(list))
	num := strconv.Itoa(jobNum)
	for _, m := range list {
		names := make([]string, 0, len(m.Names))
		for _, n := range m.Names {
			names = append(names, fillJobNum(n, num))
		}
		m.Names = names
		out = append(out, m)
	}
	return out
}

func fillJobNum(name, num string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(name, "${{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		ref, after, closed := strings.Cut(rest, "}}")
		switch r := strings.TrimSpace(ref); {
		case closed && (r == "dstack.job_num" || r == "dstack.node_rank"):
			b.WriteString(num)
			name = after
		default:
			b.WriteString("${{")
			name = rest
		}
	}
}

func unixUser(text *string) (*config.UnixUser, error) {
	if text == nil {
		return nil, nil //nolint:nilnil // no user wished is no error
	}
	u, err := config.ParseUser(*text)
	if err != nil {
		return nil, fmt.Errorf("user %q: %w", *text, err)
	}
	return &u, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
