// Package jobapi is what crosses between the shim and the agent of one task.
//
// The two share the task's folder, which the shim bind-mounts into the
// container at [Dir]. The shim writes [SpecFile] before the start; the agent
// reads and removes it, listens on [Socket] and leaves [StateFile] behind,
// so that a shim that was away when the job ended still learns how. Everything
// in the folder is hostile to the shim: root in the container wrote it.
//
// On the socket the agent serves plain HTTP/1.1:
//
//	GET  /v1/events   stream of JSON lines, [Event]; the current state first
//	POST /v1/stop     [StopRequest]; answers 202 at once, repeatable
//	POST /v1/warn     TERM to every process of the job's session; 202, repeatable.
//	                  The host is going away: the job may end by itself, or not
//	POST /v1/server   101 once the job has connected to its server's socket;
//	                  the bytes of that connection follow, see [ServerUpgrade]
//	GET  /logs_ws     WebSocket of the raw log, as 0.22.5's agent serves it
package jobapi

import (
	"slices"
	"time"
)

// Names inside a task's folder.
const (
	Dir       = "/dstack/.task" // where the folder is mounted in a container
	SpecFile  = "job.json"
	StateFile = "state.json"
	Socket    = "agent.sock"
	// RawLog is the pty's output, byte for byte.
	RawLog = "raw.log"
	// PlainLog is the same without ANSI escapes; chunks of it are forwarded.
	PlainLog = "plain.log"
	// PlainIndex tells when each part of PlainLog was written: records of
	// [IndexRecordSize] bytes, big endian: end offset in PlainLog (uint64),
	// Unix microseconds (int64). A record is appended after its bytes.
	PlainIndex = "plain.idx"
	// DiagnosticsLog is the agent's own log.
	DiagnosticsLog = "agent.log"
	// BlobsDir holds the files that Spec names by their SHA-256 in hex. The
	// agent removes them when it has used them.
	BlobsDir = "blobs"
)

// ServerUpgrade is the protocol that POST /v1/server changes to.
const ServerUpgrade = "dstack-server"

// ServerURL is the variable with the address of the server for clients in the
// job, and DefaultServerURL its value where the job has a container of its own:
// the socket [ServerSocket].
const (
	ServerURL        = "DSTACK_SERVER_URL"
	ServerSocket     = "/run/dstack/server.sock"
	DefaultServerURL = "http+unix://%2Frun%2Fdstack%2Fserver.sock"
)

// IndexRecordSize is the size of one record of PlainIndex in bytes.
const IndexRecordSize = 16

// Spec is one job, as the agent runs it. Secrets are already interpolated.
type Spec struct {
	ProjectName string `json:"project_name"`
	RunID       string `json:"run_id"`
	RunName     string `json:"run_name"`
	// JobID is the id of the job submission.
	JobID   string `json:"job_id"`
	JobName string `json:"job_name"`
	RepoID  string `json:"repo_id"`

	// Commands is the argument vector; the shim fills it from the image's
	// ENTRYPOINT and CMD if it comes empty.
	Commands []string `json:"commands"`
	// DevEnvironment is what the agent does around Commands, which are then a
	// shell with -i -c and a script; nil for other jobs.
	DevEnvironment *DevEnvironment `json:"dev_environment,omitempty"`
	// Env is the job's own environment; it wins over the container's and
	// over the DSTACK_* variables that the agent sets.
	Env map[string]string `json:"env"`
	// User is "user[:group]", names or numbers; empty means ImageUser, then root.
	User string `json:"user"`
	// ImageUser is USER of the image, filled by the shim.
	ImageUser string `json:"image_user"`
	// WorkingDir is absolute or starts with ~; empty means the image's.
	WorkingDir string `json:"working_dir"`
	// RepoDir is relative to the working dir or absolute; "" means /workflow.
	RepoDir string `json:"repo_dir"`
	// Repo is what comes into RepoDir before the start; nil for nothing.
	Repo *Repo `json:"repo,omitempty"`
	// Files are unpacked before the start, in order.
	Files []File `json:"files,omitempty"`
	// MaxDuration in seconds ends the job; 0 means no limit.
	MaxDuration int `json:"max_duration"`
	// LogQuotaHour is how many plain log bytes a clock hour may bring; 0 means no limit.
	LogQuotaHour int64 `json:"log_quota_hour"`

	// NodesIPs are the internal addresses of all nodes by job number.
	NodesIPs    []string `json:"nodes_ips"`
	MasterIP    string   `json:"master_ip"`
	NodeRank    int      `json:"node_rank"`
	NodesNum    int      `json:"nodes_num"`
	GPUsPerNode int      `json:"gpus_per_node"`
	GPUsNum     int      `json:"gpus_num"`
	// NodesGPUs are the accelerators of all nodes by job number; without it
	// all have GPUsPerNode.
	NodesGPUs []int `json:"nodes_gpus,omitempty"`

	// AuthorizedKeys may log in to the job over SSH.
	AuthorizedKeys []string `json:"authorized_keys"`
	// SSHListen is where the agent's SSH server listens, for example
	// ":10022" or "127.0.0.1:0"; empty means no SSH server.
	SSHListen string `json:"ssh_listen"`
	// ClusterListen is where other nodes reach the SSH server, in addition to
	// SSHListen; empty if there are none or SSHListen is enough.
	ClusterListen string `json:"cluster_listen,omitempty"`
	// ClusterKey is the private key (PKCS #8 in PEM) with which the nodes of a
	// replica log in to each other; empty if there is one node.
	ClusterKey string `json:"cluster_key,omitempty"`
	// ServerAccess lets the job reach the server at a socket; it does not start
	// before the server is there.
	ServerAccess bool `json:"server_access,omitempty"`
	// DeviceGroups own devices of the host that the job was given; whoever the
	// job runs as is in them. The host fills them in.
	DeviceGroups []uint32 `json:"device_groups,omitempty"`
	// Isolated is false when the job runs as a plain process on the host:
	// the agent then writes nothing outside its folder.
	Isolated bool `json:"isolated"`
}

// DevEnvironment is a job that is prepared and then waits for its user.
type DevEnvironment struct {
	// Editor is the name of the user's editor; empty for none. Link opens a
	// folder in it whose path is put at its end.
	Editor string `json:"editor,omitempty"`
	Link   string `json:"link,omitempty"`
	// Host is what the user gives to ssh.
	Host string `json:"host"`
	// NeedsShell says that Commands matter to the user; else they are only
	// run where there is a shell.
	NeedsShell bool `json:"needs_shell,omitempty"`
	// Server is what the editor needs; nil for nothing.
	Server *EditorServer `json:"server,omitempty"`
}

// EditorArch stands for the architecture, x64 or arm64, in EditorServer.URL.
const EditorArch = "$arch"

// EditorServer is the part of an editor that runs in the job.
type EditorServer struct {
	// URL is that of a tar.gz with all in one folder, which becomes Folder.
	URL string `json:"url"`
	// Folder starts with ~/.
	Folder string `json:"folder"`
	// Program is the path below Folder of what installs Extensions.
	Program    string   `json:"program"`
	Extensions []string `json:"extensions,omitempty"`
}

// Repo is code for a job: a Git repo to clone, or files of the user.
type Repo struct {
	// CloneURL is https or ssh; empty if Code is a tar file with everything.
	CloneURL string `json:"clone_url,omitempty"`
	// PrivateKey (PEM) or OAuthToken opens the repo, if it is not public.
	PrivateKey string `json:"private_key,omitempty"`
	OAuthToken string `json:"oauth_token,omitempty"`
	// Branch is cloned, or the default one if it is empty; Hash, which may be
	// abbreviated, is checked out.
	Branch string `json:"branch,omitempty"`
	Hash   string `json:"hash,omitempty"`
	// SingleBranch leaves other branches out.
	SingleBranch bool `json:"single_branch,omitempty"`
	// ConfigName and ConfigEmail become the repo's user.name and user.email.
	ConfigName  string `json:"config_name,omitempty"`
	ConfigEmail string `json:"config_email,omitempty"`
	// KeepExisting leaves a RepoDir that has something in it as it is; else
	// that is an error.
	KeepExisting bool `json:"keep_existing,omitempty"`
	// Code names the blob with the user's changes: a diff for a Git repo,
	// else a tar file; empty for none.
	Code string `json:"code,omitempty"`
}

// File is an archive of the user.
type File struct {
	// Blob names a tar file with one file or folder at its root, which is
	// put at Path: absolute, below ~, or relative to the working dir.
	Blob string `json:"blob"`
	Path string `json:"path"`
}

// Blobs are the blobs that the job needs, each once.
func (s *Spec) Blobs() []string {
	var out []string
	add := func(hash string) {
		if hash != "" && !slices.Contains(out, hash) {
			out = append(out, hash)
		}
	}
	if s.Repo != nil {
		add(s.Repo.Code)
	}
	for _, f := range s.Files {
		add(f.Blob)
	}
	return out
}

// State is the agent's view of its job.
type State string

// States of a job in its agent.
const (
	Starting State = "starting"
	Running  State = "running"
	Done     State = "done"
	Failed   State = "failed"
	// Terminated is the end after a stop or max_duration.
	Terminated State = "terminated"
)

// Ended says whether the state is final.
func (s State) Ended() bool { return s == Done || s == Failed || s == Terminated }

// Status is the content of StateFile and of state events.
type Status struct {
	State State `json:"state"`
	// Reason is a job termination reason of the REST API, set at the end.
	Reason string `json:"reason,omitempty"`
	// Message is a sentence for the user.
	Message string `json:"message,omitempty"`
	// ExitStatus is the exit status of the job, 128+n after signal n.
	ExitStatus *int `json:"exit_status,omitempty"`
	// Username and WorkingDir are what the job was started with.
	Username   string `json:"username,omitempty"`
	WorkingDir string `json:"working_dir,omitempty"`
	// SSHPort is the port on which the agent's SSH server listens; 0 if none.
	SSHPort int       `json:"ssh_port,omitempty"`
	At      time.Time `json:"at"`
}

// Event is one line of /v1/events: a state, sizes of the logs, what the job uses.
type Event struct {
	Status *Status `json:"status,omitempty"`
	// PlainSize is how much of PlainLog is complete, indexed and readable.
	PlainSize int64 `json:"plain_size,omitempty"`
	// Usage is told once, when it was measured; it may be lost.
	Usage *Usage `json:"usage,omitempty"`
}

// Usage is what a job uses at one moment.
type Usage struct {
	// CPUMicro is the CPU time used so far, in microseconds.
	CPUMicro int64 `json:"cpu_micro"`
	// MemoryBytes includes cached files, WorkingSetBytes leaves out those
	// that the kernel can drop at once.
	MemoryBytes     int64 `json:"memory_bytes"`
	WorkingSetBytes int64 `json:"working_set_bytes"`
	// GPUs are those of the job, always in the same order.
	GPUs []GPUUsage `json:"gpus,omitempty"`
	// NoConnectionsSecs is for how many seconds nobody has been logged in over
	// SSH; logins shorter than 10 s do not count. Nil means that it is not known.
	NoConnectionsSecs *int `json:"no_connections_secs,omitempty"`
}

// GPUUsage is what is used of one accelerator.
type GPUUsage struct {
	MemoryBytes int64 `json:"memory_bytes"`
	// UtilPercent is 0 to 100, or -1 if it is not known.
	UtilPercent int `json:"util_percent"`
}

// StopRequest asks the agent to end the job: INTR at once, HUP after 5 s,
// KILL after 10 s, or after Grace seconds if that is more; see [Kill].
type StopRequest struct {
	// Grace is how many seconds the job gets before KILL; 0 means 10.
	Grace int `json:"grace"`
	// Kill skips the grace.
	Kill bool `json:"kill"`
	// Reason and Message become those of the final status.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}
