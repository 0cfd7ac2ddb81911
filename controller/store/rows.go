package store

import (
	"time"

	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// Kind is a kind of resource that the engine drives.
type Kind string

// Kinds of resources with a state machine.
const (
	KindRun      Kind = "run"
	KindJob      Kind = "job"
	KindInstance Kind = "instance"
	KindFleet    Kind = "fleet"
	KindGateway  Kind = "gateway"
	KindVolume   Kind = "volume"
)

// Key names one resource that the engine drives.
type Key struct {
	Kind Kind
	ID   string
}

// User is an account. Token and PrivateKey are encrypted at rest.
type User struct {
	ID         string
	Name       string
	GlobalRole string // "admin" or "user"
	Email      *string
	Active     bool
	Token      string
	PublicKey  string // authorized_keys line with trailing newline
	PrivateKey string // PKCS#8 PEM
	CreatedAt  time.Time
	Deleted    bool
	// OriginalName is what a deleted user was called; nil before that.
	OriginalName *string
}

// EventName is what events call the user: also the name of a deleted one.
func (u *User) EventName() string {
	if u.OriginalName != nil {
		return *u.OriginalName
	}
	return u.Name
}

// Project owns runs, fleets and members. PrivateKey is encrypted at rest.
type Project struct {
	ID            string
	Name          string
	OwnerID       string
	IsPublic      bool
	TemplatesRepo *string
	PublicKey     string
	PrivateKey    string
	CreatedAt     time.Time
	Deleted       bool
	// OriginalName is what a deleted project was called; nil before that.
	OriginalName *string
}

// EventName is what events call the project: also the name of a deleted one.
func (p *Project) EventName() string {
	if p.OriginalName != nil {
		return *p.OriginalName
	}
	return p.Name
}

// Member is a user's role in a project, in the order of Num.
type Member struct {
	ProjectID string
	UserID    string
	Role      string // "admin", "manager", "user"
	Num       int
}

// Run is one run. Spec is encrypted at rest: it may hold secrets.
type Run struct {
	ID              string
	ProjectID       string
	UserID          string
	FleetID         *string
	Name            string
	SubmittedAt     time.Time
	LastProcessedAt time.Time
	Status          api.RunStatus
	Reason          *api.RunReason
	Spec            api.RunSpec
	Priority        int
	DeploymentNum   int
	// Resubmissions counts the retries in a row; it decides the back-off.
	Resubmissions int
	// NextTriggerAt is when a scheduled run starts next.
	NextTriggerAt *time.Time
	// Stop is the user's wish to end the run. It is a fact that every later
	// decision sees, never a status that a concurrent pass can overwrite.
	Stop *api.RunReason
	// Service says where a service is reached; nil for other runs.
	Service *api.Service
	// GatewayID is the gateway of a service, if it has one.
	GatewayID *string
	// RequestKey is the user's own name for the request that made the run.
	RequestKey *string
	Deleted    bool
	Version    int64
}

// JobStop is the wish to end a job: by the user, by the run, by a limit.
type JobStop struct {
	Reason  api.JobReason `json:"reason"`
	Message string        `json:"message"`
	// Grace is how many seconds the job gets; 0 kills at once.
	Grace int       `json:"grace"`
	At    time.Time `json:"at"`
}

// Job is one submission of a run's job. Spec is encrypted at rest.
type Job struct {
	ID              string
	RunID           string
	ProjectID       string
	RunName         string
	ReplicaNum      int
	JobNum          int
	SubmissionNum   int
	DeploymentNum   int
	SubmittedAt     time.Time
	LastProcessedAt time.Time
	FinishedAt      *time.Time
	Status          api.JobStatus
	Reason          *api.JobReason
	ReasonMessage   *string
	ExitStatus      *int
	Spec            api.JobSpec
	Provisioning    *api.JobProvisioningData
	Runtime         *api.JobRuntimeData
	// InstanceID is set while the job holds (a share of) the instance;
	// UsedInstanceID stays for history.
	InstanceID     *string
	UsedInstanceID *string
	// Blocks is the share of the instance that the job holds.
	Blocks int
	Stop   *JobStop
	// Task is the last state that the host reported; nil until it did.
	Task           *hostapi.Task
	RunningAt      *time.Time
	DisconnectedAt *time.Time
	Version        int64
}

// Instance is one host. Access is encrypted at rest.
type Instance struct {
	ID              string
	ProjectID       string
	FleetID         string
	Name            string
	Num             int
	Backend         string // "remote", or the cloud; empty until one is found
	Status          api.InstanceStatus
	Reason          *api.InstanceReason
	ReasonMessage   *string
	CreatedAt       time.Time
	StartedAt       *time.Time
	FinishedAt      *time.Time
	LastProcessedAt time.Time
	Hostname        string
	Region          string
	Price           float64
	Type            *api.InstanceType
	GPUDriver       *api.GPUDriverInfo
	BlocksWanted    config.Blocks
	TotalBlocks     int // 0 until known
	BusyBlocks      int
	Access          Access
	// HostKeys are the pinned SSH host keys, authorized_keys format; the
	// last one may be that of the jump host, prefixed with "jump ".
	HostKeys    []string
	InternalIP  *string
	Info        *hostapi.Info
	Unreachable bool
	// UnreachableSince is when the connection was lost or never came.
	UnreachableSince *time.Time
	// HostID and Seq are where the shim's event stream stands: everything
	// up to Seq of the installation HostID is stored.
	HostID string
	Seq    uint64
	// Orphans are tasks on the host that no job here owns; they are removed
	// before the instance takes a new job.
	Orphans   []string
	Unhealthy bool
	// Uninstalled says that nothing of ours is left on the host, or that
	// giving up on that was decided.
	Uninstalled bool
	// Wish is what a machine of a cloud shall be; nil for hosts that are given.
	Wish *Wish
	// Machine is what is rented for the wish, or is being asked for; nil while
	// nothing is.
	Machine *Machine
	// Tried is what was asked for in vain.
	Tried []Try
	// IdleSince is when the last job left, or when the host came into service;
	// nil while it is not idle.
	IdleSince *time.Time
	Deleted   bool
	Version   int64
}

// Access is how to reach a host.
type Access struct {
	// Local is the shim of this machine; the other fields are then empty.
	Local    bool              `json:"local"`
	Host     string            `json:"host"`
	Port     int               `json:"port"`
	User     string            `json:"user"`
	Keys     []string          `json:"keys"` // private keys, PEM
	Jump     *Jump             `json:"jump"`
	Env      map[string]string `json:"env"` // for the shim and for jobs
	Internal string            `json:"internal_ip"`
	Network  string            `json:"network"`
}

// Jump is an SSH proxy in front of a host.
type Jump struct {
	Host string   `json:"host"`
	Port int      `json:"port"`
	User string   `json:"user"`
	Keys []string `json:"keys"`
}

// Fleet is a group of instances. Spec is encrypted at rest.
type Fleet struct {
	ID              string
	ProjectID       string
	Name            string
	Spec            api.FleetSpec
	Status          api.FleetStatus
	StatusMessage   *string
	CreatedAt       time.Time
	LastProcessedAt time.Time
	// Attempts counts how often in a row a cloud fleet was brought to its
	// size; AttemptedAt is when that was last.
	Attempts    int
	AttemptedAt *time.Time
	// PlacementGroups are those that its machines may have made.
	PlacementGroups []PlacementGroup
	Deleted         bool
	Version         int64
}

// Repo is a code repository known to a project; Info is JSON as it came.
type Repo struct {
	ID        string
	ProjectID string
	RepoID    string
	Info      []byte
}

// RepoCreds are one user's credentials for a repo, encrypted at rest.
type RepoCreds struct {
	RepoPK string
	UserID string
	Creds  api.RemoteRepoCreds
}

// Event is something that happened. A nil ActorID is the system.
type Event struct {
	ID         string
	Message    string
	RecordedAt time.Time
	ActorID    *string
	Targets    []EventTarget
}

// EventTarget is what an event is about. RunID, FleetID and GatewayID make
// `within` filters possible: a job's event is within its run.
type EventTarget struct {
	Type      string
	ProjectID *string
	ID        string
	Name      string
	RunID     *string
	FleetID   *string
	GatewayID *string
}
