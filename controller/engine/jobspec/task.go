package jobspec

import (
	"maps"

	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// Node is one job of the replica with the place that it got.
type Node struct {
	JobNum int
	// JobID is the id of the job submission.
	JobID      string
	InternalIP string
	GPUs       int
}

// Place is everything around a job that its task depends on.
type Place struct {
	Project  store.Project
	Run      store.Run
	Job      store.Job
	Instance store.Instance
	// Nodes are all jobs of the replica in the order of their numbers.
	Nodes []Node
	// Source is what the server has of the job's code and files.
	Source Source
	// Volumes are the network volumes that are attached to the instance.
	Volumes []hostapi.Volume
	// Addresses are those of other jobs that commands may mention.
	Addresses Addresses
}

// defaultPullStall is after how many seconds without progress a pull fails.
const defaultPullStall = 300

// projectVariable tells clients in a job with dstack: true which project is
// theirs.
const projectVariable = "DSTACK_PROJECT"

// Share describes what a job gets of an instance: the offer that was taken.
func Share(inst store.Instance, offer api.Offer, nodes int, opts Options) *api.JobRuntimeData {
	whole := offer.Blocks >= offer.TotalBlocks
	rt := &api.JobRuntimeData{NetworkMode: "bridge", VolumeNames: []string{}, Offer: &offer}
	mode := opts.NetworkMode
	if mode == 0 {
		mode = hostWhenWhole
	}
	if whole && (mode == hostWhenWhole || mode == hostForMultinode && nodes > 1) || isProcess(inst) {
		rt.NetworkMode = "host"
	}
	if !whole {
		res := offers.Share(inst.Type.Resources, offer.TotalBlocks, offer.Blocks)
		gpus, cpus, mem := len(res.GPUs), float64(res.CPUs), float64(res.MemoryMiB)/1024
		rt.GPU, rt.CPU, rt.Memory = &gpus, &cpus, &mem
	}
	return rt
}

// metadataName is the variable of a run that may reach the cloud's metadata
// service, and with it whatever the machine may do there.
const metadataName = "DSTACK_INSTANCE_METADATA"

func isProcess(inst store.Instance) bool {
	return inst.Info != nil && inst.Info.Runtime == hostapi.Process
}

// Task is what the shim of the job's instance is asked to run.
func Task(p Place, opts Options) hostapi.TaskSpec {
	job, rt := p.Job.Spec, p.Job.Runtime
	image, ours := opts.withRegistry(job.ImageName)
	spec := hostapi.TaskSpec{
		Name:        job.JobName,
		Image:       image,
		Privileged:  job.Privileged,
		NetworkMode: rt.NetworkMode,
		WholeHost:   rt.Offer.Blocks >= rt.Offer.TotalBlocks,
		PullStall:   opts.PullStall,
		GPUs:        len(rt.Offer.Instance.Resources.GPUs),
		Volumes:     p.Volumes,
		Metadata:    job.Env[metadataName] == "1",
		Job:         agentSpec(p, opts),
	}
	if spec.PullStall == 0 {
		spec.PullStall = defaultPullStall
	}
	switch {
	case job.RegistryAuth != nil:
		spec.RegistryUsername, spec.RegistryPassword = job.RegistryAuth.Username, job.RegistryAuth.Password
	case ours:
		spec.RegistryUsername, spec.RegistryPassword = opts.RegistryUsername, opts.RegistryPassword
	}
	if !spec.WholeHost {
		spec.CPUs = float64(rt.Offer.Instance.Resources.CPUs)
		spec.MemoryBytes = int64(rt.Offer.Instance.Resources.MemoryMiB) << 20
	}
	if shm := job.Requirements.Resources.ShmSize; shm != nil {
		spec.ShmBytes = int64(*shm * (1 << 30))
	}
	for _, m := range job.Volumes {
		if m.InstancePath != "" {
			spec.Mounts = append(spec.Mounts, hostapi.InstanceMount{Source: m.InstancePath, Target: m.Path})
		}
	}
	if key := p.Run.Spec.SSHKeyPub; key != nil && !p.Instance.Access.Local && !opts.OnlyProxy {
		spec.HostUser, spec.HostKeys = p.Instance.Access.User, []string{*key}
	}
	return spec
}

func agentSpec(p Place, opts Options) jobapi.Spec {
	job := p.Job.Spec
	spec := jobapi.Spec{
		ProjectName:  p.Project.Name,
		RunID:        p.Run.ID,
		RunName:      p.Run.Name,
		JobID:        p.Job.ID,
		JobName:      job.JobName,
		RepoID:       deref(p.Run.Spec.RepoID),
		Commands:     p.Addresses.Fill(job.Commands),
		Env:          map[string]string{},
		WorkingDir:   deref(job.WorkingDir),
		RepoDir:      job.RepoDir,
		LogQuotaHour: opts.LogQuotaHour,
		NodeRank:     p.Job.JobNum,
		NodesNum:     max(len(p.Nodes), 1),
		GPUsPerNode:  len(p.Job.Runtime.Offer.Instance.Resources.GPUs),
		SSHListen:    ":10022",
		Isolated:     !isProcess(p.Instance),
	}
	p.Source.fill(&spec, &job)
	if d := p.Run.Spec.Configuration.DevEnvironment; d != nil {
		spec.Commands, spec.DevEnvironment = devTask(p.Run.Name, d)
	}
	if !spec.Isolated {
		spec.Commands = WithoutPrelude(spec.Commands)
		if job.RepoDir == defaultRepoDir {
			spec.RepoDir = "" // the shim has a better place than /workflow
		}
	}
	if p.Job.Runtime.NetworkMode == "host" {
		spec.SSHListen = "127.0.0.1:0"
		// Users come through the host; other nodes come directly.
		if ip := p.Instance.InternalIP; len(p.Nodes) > 1 && ip != nil {
			spec.ClusterListen = *ip + ":10022"
		}
	}
	// What the fleet gives to its hosts is weaker than what the job says.
	maps.Copy(spec.Env, p.Instance.Access.Env)
	maps.Copy(spec.Env, job.Env)
	if base := p.Run.Spec.Configuration.Base(); base != nil {
		spec.User, spec.ServerAccess = deref(base.User), base.Dstack
	}
	if _, set := spec.Env[projectVariable]; spec.ServerAccess && !set {
		spec.Env[projectVariable] = p.Project.Name
	}
	if job.MaxDuration != nil {
		spec.MaxDuration = *job.MaxDuration
	}
	for _, n := range p.Nodes {
		spec.NodesIPs = append(spec.NodesIPs, n.InternalIP)
		spec.NodesGPUs = append(spec.NodesGPUs, n.GPUs)
		spec.GPUsNum += n.GPUs
	}
	if len(p.Nodes) > 0 {
		spec.MasterIP = p.Nodes[0].InternalIP
	}
	if len(p.Nodes) > 1 {
		spec.ClusterKey = clusterKey(p.Project, p.Nodes[0].JobID)
	}
	if p.Project.PublicKey != "" {
		spec.AuthorizedKeys = append(spec.AuthorizedKeys, p.Project.PublicKey)
	}
	if key := p.Run.Spec.SSHKeyPub; key != nil && !opts.OnlyProxy {
		spec.AuthorizedKeys = append(spec.AuthorizedKeys, *key)
	}
	return spec
}

// cloudUser logs in to machines of clouds.
const cloudUser = "ubuntu"

// Provisioning describes an instance as the place of a job.
func Provisioning(inst store.Instance, offer api.Offer) *api.JobProvisioningData {
	host, port := inst.Hostname, inst.Access.Port
	if port == 0 {
		port = 22
	}
	p := &api.JobProvisioningData{
		Backend:         inst.Backend,
		InstanceType:    *inst.Type,
		InstanceID:      inst.Name,
		Hostname:        &host,
		InternalIP:      inst.InternalIP,
		PublicIPEnabled: true,
		Region:          inst.Region,
		Price:           offer.Price,
		Username:        inst.Access.User,
		SSHPort:         &port,
		Dockerized:      !inst.Access.Local,
		BackendData:     new(string),
		GPUDriver:       inst.GPUDriver,
	}
	if m := inst.Machine; m != nil {
		rented(p, inst, m)
	}
	if inst.Access.Local {
		p.Username = "root" // until the job says who it runs as
	}
	if inst.Access.Network != "" {
		network := inst.Access.Network
		p.InstanceNetwork = &network
	}
	if j := inst.Access.Jump; j != nil {
		p.SSHProxy = &api.SSHConnectionParams{Hostname: j.Host, Username: j.User, Port: j.Port}
	}
	return p
}

// rented fills in what is particular to a machine of a cloud; its address may
// not be known yet.
func rented(p *api.JobProvisioningData, inst store.Instance, m *store.Machine) {
	p.InstanceID, p.BackendData = m.ID, none(m.Data)
	p.AvailabilityZone, p.Reservation = none(m.Zone), none(m.Reservation)
	p.PublicIPEnabled = inst.InternalIP == nil || *inst.InternalIP != inst.Hostname
	if inst.Hostname == "" {
		p.Hostname, p.SSHPort = nil, nil
	}
	if p.Username == "" {
		p.Username = cloudUser
	}
}

func none(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
