// Package hostapi is what crosses between the controller and the shim of one
// host: HTTP/2 (prior knowledge) with JSON over a single byte stream, which is
// either an SSH exec channel running `dstack-shim dial` or, for the local
// host, the shim's unix socket itself. `dial` writes [Magic] before the first
// byte of HTTP; a reader skips at most [MaxPreamble] bytes in front of it.
//
//	GET  /v1/info                 [Info]
//	PUT  /v1/tasks/{id}           [TaskSpec] → [Task]; repeatable, see below
//	GET  /v1/tasks                []Task
//	POST /v1/tasks/{id}/stop      [StopTask] → [Task]
//	POST /v1/tasks/{id}/remove    → 200; repeatable
//	POST /v1/tasks/{id}/server    bytes both ways: the next connection of the job
//	                              to its server's socket; 200 when there is one
//	HEAD /v1/blobs/{sha256}       200 if the host has it, else 404
//	PUT  /v1/blobs/{sha256}       the bytes → 200; repeatable
//	POST /v1/host-key             [HostKey]: the key that is to replace the host's first one; made once
//	POST /v1/host-key/use         [HostKey] → 200: the SSH server proves itself with that key from now on; repeatable
//	POST /v1/stream               request: JSON lines of [Ack]; response: JSON lines of [Event]
//	POST /v1/shutdown             [Shutdown]; the shim exits, or uninstalls itself
//
// Idempotence: the id of a task is the id of a job submission and names one
// execution for ever. PUT of a known id returns it unchanged. Stop or remove
// of an unknown id leaves a tombstone, and a PUT of a tombstone answers 410
// [CodeGone]: so a request that was delayed can never start a job again.
//
// A caller names its server in the header [ServerHeader]. A host belongs to one
// server: to another, every call but GET /v1/info answers 409 [CodeClaimed].
//
// Only a machine of a cloud has /v1/host-key; elsewhere it answers 404.
//
// Blobs are what jobs need besides their specification, named by their SHA-256
// in hex. They are put before the task that names them; a PUT of a task whose
// blobs are not there answers 503 [CodeBusy]. The host forgets blobs that no
// task waits for.
//
// Errors are [Error] with a 4xx or 5xx status.
package hostapi

import (
	"time"

	"dstack/protocol/jobapi"
)

// Magic starts the stream of `dstack-shim dial`.
const Magic = "DSTACK-HOST/1\n"

// ServerHeader carries the id of the server that calls. One whose database was
// restored or copied from elsewhere adds [PlaceMark] and a name of its place.
const ServerHeader = "Dstack-Server"

// PlaceMark stands between a server's id and the place of its database.
const PlaceMark = "/"

// ClaimName is the file in the shim's home that names the server to which the
// host belongs.
const ClaimName = "server"

// MaxPreamble is how many bytes (a login script's output) may precede Magic.
const MaxPreamble = 64 << 10

// Error codes.
const (
	CodeBadRequest = "bad_request"
	CodeNotFound   = "not_found"
	CodeGone       = "gone"
	CodeBusy       = "busy"
	CodeClaimed    = "claimed"
	CodeInternal   = "internal"
)

// Error is the body of a failed call.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Runtime is how a host runs tasks.
type Runtime string

// Runtimes.
const (
	Docker  Runtime = "docker"
	Process Runtime = "process"
)

// Info is what the shim knows of itself and its host.
type Info struct {
	// Version is the shim's version; Digest the SHA-256 of its binary in hex.
	Version string `json:"version"`
	Digest  string `json:"digest"`
	// HostID names this installation; it changes when the shim's home is lost.
	HostID string `json:"host_id"`
	// BootID changes at each boot of the host.
	BootID  string  `json:"boot_id"`
	Runtime Runtime `json:"runtime"`
	// RuntimeVersion is the engine's version, empty for Process.
	RuntimeVersion string `json:"runtime_version"`
	// LiveRestore says whether containers survive a restart of the engine.
	LiveRestore bool `json:"live_restore"`
	// Problem, if set, is why the host cannot run tasks now.
	Problem *Problem `json:"problem,omitempty"`
	// Claim, if set, is why the caller may not use the host: another server does.
	Claim string `json:"claim,omitempty"`
	Host  Host   `json:"host"`
	// Health is how the accelerators are; nil for a host without any that can
	// be judged, and until they were looked at first.
	Health *Health `json:"health,omitempty"`
	// Notice, if set, is that the cloud takes the machine back, or may soon.
	Notice *Notice `json:"notice,omitempty"`
}

// Problem is something wrong with a host, for a person.
type Problem struct { //nolint:errname // users read it as a sentence
	// Code is stable: "no_docker", "disk_full", "wrong_arch", "no_sudo",
	// "claimed", "unreachable", "auth_failed", "host_key_changed", "no_space", "deploy_failed".
	Code string `json:"code"`
	// Message says what is wrong and where.
	Message string `json:"message"`
	// Remedy says what to do.
	Remedy string `json:"remedy"`
	// Permanent problems do not go away by trying again.
	Permanent bool `json:"permanent"`
}

func (p *Problem) Error() string { return p.Message + ". " + p.Remedy }

// Host is the hardware and network of a host. Sizes are bytes.
type Host struct {
	Hostname string `json:"hostname"`
	// Arch is "amd64" or "arm64".
	Arch        string `json:"arch"`
	CPUs        int    `json:"cpus"`
	MemoryBytes int64  `json:"memory_bytes"`
	// DiskBytes is the size and DiskFree the free space of the file system
	// that holds images and containers.
	DiskBytes int64 `json:"disk_bytes"`
	DiskFree  int64 `json:"disk_free"`
	// Addresses are CIDR strings of the non-loopback interfaces.
	Addresses []string `json:"addresses"`
	GPUVendor string   `json:"gpu_vendor"`
	GPUDriver string   `json:"gpu_driver"`
	GPUs      []GPU    `json:"gpus"`
}

// GPU is one accelerator. ID is what the runtime needs to attach it.
type GPU struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	MemoryBytes int64  `json:"memory_bytes"`
}

// TaskSpec is one job for one host.
type TaskSpec struct {
	// Name is the job's name; the container's name starts with it.
	Name  string `json:"name"`
	Image string `json:"image"`
	// RegistryUsername and RegistryPassword are empty for an anonymous pull.
	RegistryUsername string `json:"registry_username,omitempty"`
	RegistryPassword string `json:"registry_password,omitempty"`
	Privileged       bool   `json:"privileged"`
	// GPUs is the exact number to attach.
	GPUs int `json:"gpus"`
	// CPUs and MemoryBytes limit the container; 0 means no limit.
	CPUs        float64 `json:"cpus"`
	MemoryBytes int64   `json:"memory_bytes"`
	// ShmBytes is the size of /dev/shm; 0 means the engine's default.
	ShmBytes int64 `json:"shm_bytes"`
	// NetworkMode is "host" or "bridge".
	NetworkMode string          `json:"network_mode"`
	Mounts      []InstanceMount `json:"mounts,omitempty"`
	Volumes     []Volume        `json:"volumes,omitempty"`
	// HostUser gets HostKeys (authorized_keys text) while the task lives.
	HostUser string   `json:"host_user,omitempty"`
	HostKeys []string `json:"host_keys,omitempty"`
	// WholeHost says that the task owns the host: its keys may log in there.
	WholeHost bool `json:"whole_host"`
	// Metadata leaves the cloud's metadata service within the task's reach, if
	// it is on the host's network.
	Metadata bool `json:"metadata,omitempty"`
	// PullStall is after how many seconds without progress a pull fails.
	PullStall int         `json:"pull_stall"`
	Job       jobapi.Spec `json:"job"`
}

// InstanceMount binds a directory of the host into the container.
type InstanceMount struct {
	Source string `json:"source"`
	Target string `json:"target"`
}

// Volume is a network volume, attached to the host, that the task mounts.
type Volume struct {
	// Name is the volume's in its project; no two volumes of a host share one.
	Name string `json:"name"`
	// ID is the cloud's. Most clouds make it the serial number of the disk.
	ID string `json:"id"`
	// Device is the name that the cloud gave to the disk of this host, and
	// SizeGB its size (0: not known), by which it is found if disks have no
	// serial numbers.
	Device string `json:"device"`
	SizeGB int    `json:"size_gb,omitempty"`
	// Format says that nobody ever used it: if nothing is on it, it gets a
	// file system.
	Format bool `json:"format,omitempty"`
	// Target is where the container has it.
	Target string `json:"target"`
}

// TaskState is where a task stands on its host.
type TaskState string

// States of a task, in order. Terminated is reachable from any.
const (
	TaskPreparing  TaskState = "preparing"
	TaskPulling    TaskState = "pulling"
	TaskCreating   TaskState = "creating"
	TaskRunning    TaskState = "running" // the agent started the job
	TaskTerminated TaskState = "terminated"
)

// Task is a task as the shim reports it.
type Task struct {
	ID    string    `json:"id"`
	State TaskState `json:"state"`
	// Reason is a job termination reason of the REST API, set at the end.
	Reason     string        `json:"reason,omitempty"`
	Message    string        `json:"message,omitempty"`
	ExitStatus *int          `json:"exit_status,omitempty"`
	Pull       *PullProgress `json:"pull,omitempty"`
	// Ports maps container ports to host ports on 127.0.0.1; key 10022 is SSH.
	Ports      map[int]int `json:"ports,omitempty"`
	Username   string      `json:"username,omitempty"`
	WorkingDir string      `json:"working_dir,omitempty"`
	// Diagnostics is the beginning of the agent's own log, at most
	// [MaxDiagnostics] bytes; it comes when the job started and when it ended.
	Diagnostics string `json:"diagnostics,omitempty"`
	// PlainSize is the final size of the plain log, set at the end, when
	// every byte of it is known. The controller uses a final state only when
	// it has stored that much, so it is never more than can be sent.
	PlainSize *int64 `json:"plain_size,omitempty"`
}

// PullProgress counts bytes of an image pull.
type PullProgress struct {
	Downloaded int64 `json:"downloaded"`
	Extracted  int64 `json:"extracted"`
	Total      int64 `json:"total"`
	TotalFinal bool  `json:"total_final"`
}

// StopTask ends a task.
type StopTask struct {
	// Grace is seconds until KILL; 0 kills at once.
	Grace   int    `json:"grace"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Ack is one line from the controller on /v1/stream. The first line opens the
// stream: it says up to where everything is stored, and the shim resumes there.
// To fill it in, the controller calls GET /v1/info and GET /v1/tasks before;
// it is written before the response's header is awaited. The shim serves one
// stream at a time: a new one ends the one before.
type Ack struct {
	// Seq acknowledges all events up to it; the shim forgets them. It is 0 in
	// a first line when HostID is not the one that the controller knew.
	Seq uint64 `json:"seq"`
	// Logs acknowledges the plain logs of tasks up to an offset. In the first
	// line the shim starts sending there, and at 0 for a task that is not
	// named (a later one, too). In later lines it only opens the window.
	Logs map[string]int64 `json:"logs,omitempty"`
	// Resend, never in the first line, asks to go back and send a task's log
	// again from an offset: everything from there on is to be sent once more.
	Resend map[string]int64 `json:"resend,omitempty"`
}

// Event is one line from the shim on /v1/stream; exactly one field is set.
type Event struct {
	// Hello comes first: everything that exists on the host now.
	Hello *Hello `json:"hello,omitempty"`
	// Task is a change of a task. Seq numbers such events, without gaps,
	// for the life of HostID; an event is repeated until acknowledged.
	Seq  uint64 `json:"seq,omitempty"`
	Task *Task  `json:"task,omitempty"`
	// Log is a piece of a task's plain log; it has no Seq, its offset orders it.
	Log *LogChunk `json:"log,omitempty"`
	// Pull is the latest progress of a pull; it has no Seq and may be lost.
	Pull *PullUpdate `json:"pull,omitempty"`
	// Usage is what a job used at a moment; it has no Seq and may be lost.
	Usage *TaskUsage `json:"usage,omitempty"`
	// Info comes when the host's facts or its problem changed.
	Info *Info `json:"info,omitempty"`
}

// Hello starts a stream.
type Hello struct {
	Info Info `json:"info"`
	// NextSeq is the number that the next new event will get.
	NextSeq uint64 `json:"next_seq"`
	Tasks   []Task `json:"tasks"`
}

// LogChunk is a piece of a task's plain log. Data is base64 in JSON.
type LogChunk struct {
	TaskID string    `json:"task_id"`
	Offset int64     `json:"offset"`
	At     time.Time `json:"at"`
	Data   []byte    `json:"data"`
}

// PullUpdate is progress of a task's image pull.
type PullUpdate struct {
	TaskID   string       `json:"task_id"`
	Progress PullProgress `json:"progress"`
}

// TaskUsage is what a task used at a moment.
type TaskUsage struct {
	TaskID string `json:"task_id"`
	// AgeMillis is how long ago that was when it was sent: the clocks of host
	// and controller may differ.
	AgeMillis int64        `json:"age_millis"`
	Usage     jobapi.Usage `json:"usage"`
}

// Shutdown ends the shim.
type Shutdown struct {
	// Uninstall kills all tasks and removes containers, unit, binaries and
	// the keys that dstack added, then the shim's home.
	Uninstall bool `json:"uninstall"`
}

// UsageEvery is how often at most the usage of one task is told, and MaxUsage
// how many measurements of it are kept while nobody listens; MaxGPUs bounds
// their lists.
const (
	UsageEvery = time.Second
	MaxUsage   = 60
	MaxGPUs    = 64
)

// MaxDiagnostics bounds Task.Diagnostics in bytes.
const MaxDiagnostics = 64 << 10

// LogWindow is how many bytes of one task's log may be sent unacknowledged.
const LogWindow = 4 << 20

// MaxChunk bounds LogChunk.Data, and MaxLine one line of the stream in bytes;
// a longer line ends the stream.
const (
	MaxChunk = 256 << 10
	MaxLine  = 8 << 20
)
