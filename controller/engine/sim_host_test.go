package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dstack/controller/backends"
	"dstack/controller/hosts"
	"dstack/protocol/hostapi"
)

var (
	errLost    = errors.New("no answer")
	errNoRoute = errors.New("no route to host")
)

// simTask is a task on a simulated host.
type simTask struct {
	hostapi.Task
	job      string // empty if a restored database does not know that it is here
	fate     int    // how it will end, see fates
	stopping bool
	reason   string
	disks    []string // ids of the volumes that it mounts
}

// Fates of tasks.
const (
	exitsZero = iota
	exitsThree
	noImage
	runsOn
	fates
)

// simHost is a machine with a shim that keeps to the rules of hostapi.
type simHost struct {
	name      string
	installs  int // counts installations; names the host id
	installed bool
	cut       bool // nothing reaches it
	tasks     []*simTask
	gone      map[string]bool // tombstones
	journal   []hostapi.Event
	seq       uint64
	blocks    int

	// machine is what the host is in its cloud; nil for an SSH host.
	machine  *backends.Machine
	userData string
	boots    time.Time // when SSH answers
	dies     time.Time // when it ends by itself, or is taken; zero for never
	notice   *hostapi.Notice
	dead     bool
}

func (h *simHost) hostID() string { return fmt.Sprintf("%s/%d", h.name, h.installs) }

func (h *simHost) info() hostapi.Info {
	info := hostapi.Info{Version: "sim", HostID: h.hostID(), Runtime: hostapi.Docker, LiveRestore: true}
	if h.machine != nil {
		info.Host, info.Notice = h.facts(), h.notice
		return info
	}
	info.Host = hostapi.Host{
		Hostname: h.name, Arch: "amd64", CPUs: 4, MemoryBytes: 16 << 30, DiskBytes: 200 << 30,
		DiskFree: 100 << 30, Addresses: []string{"10.0.0." + strings.TrimPrefix(h.name, "h") + "/24"},
	}
	return info
}

func (h *simHost) hello() hostapi.Hello {
	hello := hostapi.Hello{Info: h.info(), NextSeq: h.seq + 1}
	for _, t := range h.tasks {
		hello.Tasks = append(hello.Tasks, t.Task)
	}
	return hello
}

func (h *simHost) task(id string) *simTask {
	for _, t := range h.tasks {
		if t.ID == id {
			return t
		}
	}
	return nil
}

// live are the tasks that use the host's resources.
func (h *simHost) live() []*simTask {
	var out []*simTask
	for _, t := range h.tasks {
		if t.State != hostapi.TaskTerminated {
			out = append(out, t)
		}
	}
	return out
}

func (h *simHost) move(t *simTask, to hostapi.TaskState) {
	t.State = to
	h.seq++
	task := t.Task
	h.journal = append(h.journal, hostapi.Event{Seq: h.seq, Task: &task})
}

func (h *simHost) end(t *simTask, reason, message string, exit *int) {
	t.Reason, t.Message, t.ExitStatus = reason, message, exit
	h.move(t, hostapi.TaskTerminated)
}

// progress moves a task one step on; it says whether a container started.
func (h *simHost) progress(t *simTask) (started bool) {
	switch {
	case t.State == hostapi.TaskPreparing:
		h.move(t, hostapi.TaskPulling)
	case t.State == hostapi.TaskPulling && t.fate == noImage:
		h.end(t, "creating_container_error", "pullImage error: not found", nil)
	case t.State == hostapi.TaskPulling:
		h.move(t, hostapi.TaskCreating)
	case t.State == hostapi.TaskCreating:
		t.Ports = map[int]int{10022: 32768}
		h.move(t, hostapi.TaskRunning)
		return true
	case t.stopping:
		h.end(t, t.reason, "", nil)
	case t.fate == exitsZero:
		zero := 0
		h.end(t, "done_by_runner", "", &zero)
	case t.fate == exitsThree:
		three := 3
		h.end(t, "container_exited_with_error", "", &three)
	}
	return false
}

func (h *simHost) movable(t *simTask) bool {
	return t.State != hostapi.TaskTerminated && (t.State != hostapi.TaskRunning || t.stopping || t.fate != runsOn)
}

// reboot ends every running task; the shim comes back with what it stored.
func (h *simHost) reboot() {
	for _, t := range h.live() {
		h.end(t, "container_exited_with_error", "The host was rebooted", nil)
	}
}

// wipe loses the shim's home and its containers.
func (h *simHost) wipe() {
	h.tasks, h.gone, h.journal, h.seq = nil, map[string]bool{}, nil, 0
	h.installed = false
}

// simHosts is the engine's way to the hosts of a world.
type simHosts struct{ w *world }

func (s simHosts) Ensure(t hosts.Target) {
	s.w.wanted = append(s.w.wanted, &wanted{target: t, host: s.w.host(t.Access.Host)})
}

func (s simHosts) Forget(id string) {
	s.w.wanted = slices.DeleteFunc(s.w.wanted, func(x *wanted) bool { return x.target.InstanceID == id })
}

func (simHosts) ServeJob(string, string) {}

func (s simHosts) StartTask(_ context.Context, instanceID, id string, spec hostapi.TaskSpec) (hostapi.Task, error) {
	h := s.w.reach(instanceID)
	switch {
	case h == nil:
		return hostapi.Task{}, errNoRoute
	case h.gone[id]:
		return hostapi.Task{}, &hostapi.Error{Code: hostapi.CodeGone, Message: "the task was removed"}
	}
	t := h.task(id)
	if t == nil {
		t = &simTask{Task: hostapi.Task{ID: id}, job: spec.Job.JobID, fate: s.w.pick(fates), disks: s.w.checkAttached(h, spec)}
		if s.w.calm && t.fate != runsOn {
			t.fate = exitsZero // a run that is retried comes to an end
		}
		if strings.HasPrefix(spec.Job.RunName, "svc") && !s.w.chance(6) {
			t.fate = runsOn
		}
		h.tasks = append(h.tasks, t)
		h.move(t, hostapi.TaskPreparing)
	}
	return t.Task, nil
}

func (s simHosts) StopTask(_ context.Context, instanceID, id string, stop hostapi.StopTask) error {
	h := s.w.reach(instanceID)
	if h == nil {
		return errNoRoute
	}
	t := h.task(id)
	switch {
	case t == nil:
		h.gone[id] = true
	case t.State == hostapi.TaskTerminated:
	case stop.Grace == 0 || t.State != hostapi.TaskRunning:
		h.end(t, stop.Reason, stop.Message, nil)
	default:
		t.stopping, t.reason = true, stop.Reason
	}
	return nil
}

func (s simHosts) RemoveTask(_ context.Context, instanceID, id string) error {
	h := s.w.reach(instanceID)
	if h == nil {
		return errNoRoute
	}
	if t := h.task(id); t != nil && t.State != hostapi.TaskTerminated {
		h.end(t, "terminated_by_server", "removed", nil)
	}
	h.tasks = slices.DeleteFunc(h.tasks, func(t *simTask) bool { return t.ID == id })
	h.gone[id] = true
	return nil
}

func (s simHosts) Uninstall(_ context.Context, t hosts.Target) error {
	h := s.w.host(t.Access.Host)
	if !s.w.reachable(h) {
		return errNoRoute
	}
	h.wipe()
	return nil
}
