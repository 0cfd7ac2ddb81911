package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/strslice"
	"github.com/docker/go-connections/nat"
	"github.com/docker/go-units"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
	"dstack/shim/gpu"
	"dstack/shim/workload"
)

// agentInContainer is where the agent lies in every container, read-only.
const agentInContainer = "/usr/local/bin/dstack-agent"

// sshPort is the agent's SSH port in a container.
const sshPort = 10022

// containerName is the name of a task's container: it says whose it is and
// can be found again.
func containerName(t workload.Task) string {
	sum := sha256.Sum256([]byte(t.Spec.Name + "/" + t.ID))
	return t.Spec.Name + "-" + hex.EncodeToString(sum[:])[:8]
}

// nvidiaCapabilities are what a container may use of a GPU's driver; display
// is left out at a second try (see [Runtime.Launch]).
var nvidiaCapabilities = []string{"gpu", "utility", "compute", "graphics", "video", "compat32", "display"}

// host is what of the host decides about a container; a test fills it in.
type host struct {
	infiniband bool
	// hugepages says that there are large pages, which some drivers need.
	hugepages bool
	// groups are the owners of device files.
	groups func(path string) (gid uint32, ok bool)
}

// hugepages is where a host for Tenstorrent has its large pages.
const hugepages = "/dev/hugepages-1G"

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func thisHost() host {
	return host{infiniband: isThere("/dev/infiniband"), hugepages: isThere(hugepages), groups: func(path string) (uint32, bool) {
		info, err := os.Stat(path)
		if err != nil {
			return 0, false
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return 0, false
		}
		return s.Gid, true
	}}
}

// request is what the engine is asked to create for a task.
type request struct {
	config  container.Config
	hostCfg container.HostConfig
}

func newRequest(t workload.Task, cfg Config, h host, display bool) request {
	spec := t.Spec
	q := request{
		config: container.Config{
			Image:      spec.Image,
			User:       "0:0", // an image may have no list of users that knows "root"
			Entrypoint: strslice.StrSlice{agentInContainer},
			Cmd:        strslice.StrSlice{"init"},
			Env:        append([]string(nil), cfg.PassEnv...),
			Labels:     map[string]string{labelTask: "true", labelID: t.ID, labelHost: cfg.HostID},
			// The agent watches the job; a check of the image's would run beside it.
			Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
		},
		hostCfg: container.HostConfig{
			Mounts: []mount.Mount{
				{Type: mount.TypeBind, Source: t.RunDir, Target: jobapi.Dir},
				{Type: mount.TypeBind, Source: cfg.Agent, Target: agentInContainer, ReadOnly: true},
			},
			NetworkMode:   container.NetworkMode(spec.NetworkMode),
			RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
			// The job's log goes through the task's folder; this one holds only
			// what the agent says when it cannot start.
			LogConfig:  container.LogConfig{Type: "local", Config: map[string]string{"max-size": "1m", "max-file": "1", "compress": "false"}},
			Privileged: spec.Privileged,
			Resources:  container.Resources{NanoCPUs: int64(spec.CPUs * 1e9), Memory: spec.MemoryBytes},
		},
	}
	for _, m := range spec.Mounts {
		q.hostCfg.Mounts = append(q.hostCfg.Mounts, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target})
	}
	if spec.ShmBytes > 0 {
		q.hostCfg.ShmSize = spec.ShmBytes
		q.hostCfg.Tmpfs = map[string]string{"/dev/shm": "exec,size=" + strconv.FormatInt(spec.ShmBytes, 10)}
	}
	if spec.NetworkMode != "host" && spec.Job.SSHListen != "" {
		port := nat.Port(fmt.Sprintf("%d/tcp", sshPort))
		q.config.ExposedPorts = nat.PortSet{port: {}}
		q.hostCfg.PortBindings = nat.PortMap{port: {{HostIP: "127.0.0.1"}}}
	}
	if h.infiniband {
		q.device("/dev/infiniband")
		q.hostCfg.Ulimits = []*units.Ulimit{{Name: "memlock", Soft: -1, Hard: -1}}
	}
	q.attach(t, h, display)
	return q
}

func (q *request) device(path string) {
	q.hostCfg.Devices = append(q.hostCfg.Devices, container.DeviceMapping{
		PathOnHost: path, PathInContainer: path, CgroupPermissions: "rwm",
	})
}

// attach gives the container the accelerators that the task holds.
func (q *request) attach(t workload.Task, h host, display bool) {
	if len(t.GPUs) == 0 {
		if t.GPUVendor == gpu.NVIDIA {
			// Images that ask for all GPUs by their environment get none.
			q.config.Env = append(q.config.Env, "NVIDIA_VISIBLE_DEVICES=void")
		}
		return
	}
	switch t.GPUVendor {
	case gpu.NVIDIA:
		caps := nvidiaCapabilities
		if !display {
			caps = caps[:len(caps)-1]
		}
		q.hostCfg.DeviceRequests = []container.DeviceRequest{{DeviceIDs: t.GPUs, Capabilities: [][]string{caps}}}
	case gpu.AMD:
		for _, d := range amdDevices(t) {
			q.device(d)
		}
		for _, gid := range deviceGroups(t, h) {
			q.hostCfg.GroupAdd = append(q.hostCfg.GroupAdd, strconv.Itoa(int(gid)))
		}
		q.hostCfg.IpcMode = container.IPCModeHost
		q.hostCfg.CapAdd = append(q.hostCfg.CapAdd, "SYS_PTRACE")
		q.hostCfg.SecurityOpt = append(q.hostCfg.SecurityOpt, "seccomp=unconfined")
	case gpu.Intel:
		q.hostCfg.Runtime = "habana"
		q.hostCfg.IpcMode = container.IPCModeHost
		q.hostCfg.CapAdd = append(q.hostCfg.CapAdd, "SYS_NICE")
		q.config.Env = append(q.config.Env, "HABANA_VISIBLE_DEVICES="+strings.Join(t.GPUs, ","))
	case gpu.Tenstorrent:
		for _, id := range t.GPUs {
			q.device("/dev/tenstorrent/" + id)
		}
		if h.hugepages { // a driver that goes through an IOMMU needs none
			q.hostCfg.Mounts = append(q.hostCfg.Mounts, mount.Mount{Type: mount.TypeBind, Source: hugepages, Target: hugepages})
		}
	}
}

func amdDevices(t workload.Task) []string { return append([]string{"/dev/kfd"}, t.GPUs...) }

// deviceGroups are the groups by which a job that is not root reaches its
// devices; those of the other vendors are open to all.
func deviceGroups(t workload.Task, h host) []uint32 {
	if len(t.GPUs) == 0 || t.GPUVendor != gpu.AMD {
		return nil
	}
	var groups []uint32
	for _, d := range amdDevices(t) {
		if gid, ok := h.groups(d); ok && gid != 0 && !slices.Contains(groups, gid) {
			groups = append(groups, gid)
		}
	}
	return groups
}

// hostPorts reads which ports of the host lead to the container.
func hostPorts(settings *container.NetworkSettings) map[int]int {
	if settings == nil {
		return nil
	}
	ports := map[int]int{}
	for inside, bindings := range settings.Ports {
		for _, b := range bindings {
			if n, err := strconv.Atoi(b.HostPort); err == nil {
				ports[inside.Int()] = n
			}
		}
	}
	return ports
}

// makeMounts makes the folders of the host that a task binds: parents as an
// administrator would, the last one open to whatever user the job has.
func makeMounts(mounts []hostapi.InstanceMount) error {
	for _, m := range mounts {
		source := filepath.Clean(m.Source)
		if !filepath.IsAbs(m.Source) || !filepath.IsAbs(m.Target) || source != strings.TrimRight(m.Source, "/") {
			return fmt.Errorf("mount %s at %s: paths must be absolute, without .. in them", m.Source, m.Target)
		}
		if _, err := os.Stat(source); err == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(source), 0o755); err != nil {
			return fmt.Errorf("make folder above mount: %w", err)
		}
		if err := os.Mkdir(source, 0o777); err != nil {
			return fmt.Errorf("make folder for mount: %w", err)
		}
		if err := os.Chmod(source, 0o777); err != nil { // the umask took some
			return fmt.Errorf("open folder for mount: %w", err)
		}
	}
	return nil
}

var noNetworks = &network.NetworkingConfig{}
