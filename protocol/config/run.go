package config

// RunBase holds the fields that task, dev-environment and service share
// (spec: configuration.md 6.1). It is embedded, so it must not define
// MarshalJSON or UnmarshalJSON.
type RunBase struct {
	Name         *string           `json:"name"`
	Image        *string           `json:"image"`
	User         *string           `json:"user"`
	Privileged   bool              `json:"privileged"`
	Entrypoint   *string           `json:"entrypoint"`
	WorkingDir   *string           `json:"working_dir"`
	HomeDir      string            `json:"home_dir"`
	RegistryAuth *RegistryAuth     `json:"registry_auth"`
	Python       *string           `json:"python"`
	NVCC         *bool             `json:"nvcc"`
	SingleBranch *bool             `json:"single_branch"`
	Env          Env               `json:"env"`
	Shell        *string           `json:"shell"`
	Resources    Resources         `json:"resources"`
	Priority     *int              `json:"priority"`
	Volumes      List[Mount]       `json:"volumes"`
	Docker       *bool             `json:"docker"`
	Repos        List[RepoSpec]    `json:"repos"`
	Files        List[FileMapping] `json:"files"`
	Dstack       bool              `json:"dstack"`
	Setup        List[string]      `json:"setup"`
}

// Values of "type" in a configuration.
const (
	TypeTask           = "task"
	TypeDevEnvironment = "dev-environment"
	TypeService        = "service"
	TypeFleet          = "fleet"
	TypeGateway        = "gateway"
	TypeVolume         = "volume"
	TypePreset         = "preset"
)

// Task is `type: task` (spec: configuration.md 6.2).
type Task struct {
	Nodes    *int              `json:"nodes"`
	Groups   []NodeGroup       `json:"groups"`
	Ports    List[PortMapping] `json:"ports"`
	Commands List[string]      `json:"commands"`
	Type     string            `json:"type"`
	RunBase
	ProfileParams
}

// NodeGroup is one group of equal nodes of a heterogeneous task.
type NodeGroup struct {
	Name      *string           `json:"name"`
	Nodes     int               `json:"nodes"`
	Resources Resources         `json:"resources"`
	Commands  List[string]      `json:"commands"`
	Ports     List[PortMapping] `json:"ports"`
}

// Run is a run configuration: exactly one pointer is set. On the wire it is
// the configuration itself, told apart by its "type".
type Run struct {
	Task           *Task
	DevEnvironment *DevEnvironment
	Service        *Service
}

// Type is the value of "type"; empty if no pointer is set.
func (r Run) Type() string {
	switch {
	case r.Task != nil:
		return TypeTask
	case r.DevEnvironment != nil:
		return TypeDevEnvironment
	case r.Service != nil:
		return TypeService
	}
	return ""
}

// Base gives the fields that all run types share, to read or to change; nil if
// no pointer is set.
func (r Run) Base() *RunBase {
	switch {
	case r.Task != nil:
		return &r.Task.RunBase
	case r.DevEnvironment != nil:
		return &r.DevEnvironment.RunBase
	case r.Service != nil:
		return &r.Service.RunBase
	}
	return nil
}

// OwnParams gives the profile parameters that the run itself sets, to read or
// to change; nil if no pointer is set.
func (r Run) OwnParams() *ProfileParams {
	switch {
	case r.Task != nil:
		return &r.Task.ProfileParams
	case r.DevEnvironment != nil:
		return &r.DevEnvironment.ProfileParams
	case r.Service != nil:
		return &r.Service.ProfileParams
	}
	return nil
}

// Params gives a copy of the profile parameters that the run itself sets.
func (r Run) Params() ProfileParams {
	if own := r.OwnParams(); own != nil {
		return *own
	}
	return ProfileParams{}
}

// Ports gives the ports to forward, to read or to change; nil for a service.
func (r Run) Ports() *List[PortMapping] {
	switch {
	case r.Task != nil:
		return &r.Task.Ports
	case r.DevEnvironment != nil:
		return &r.DevEnvironment.Ports
	}
	return nil
}

// Clone gives a copy whose own fields can be set without changing r. What
// they point to is shared.
func (r Run) Clone() Run {
	switch {
	case r.Task != nil:
		return Run{Task: new(*r.Task)}
	case r.DevEnvironment != nil:
		return Run{DevEnvironment: new(*r.DevEnvironment)}
	case r.Service != nil:
		return Run{Service: new(*r.Service)}
	}
	return Run{}
}

// RegistryAuth logs in to the registry of the image.
type RegistryAuth struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// Env maps names to values. A nil value is a sentinel: the client fills it
// from its own environment. On the wire a sentinel is {"key": NAME}.
type Env map[string]EnvValue

// EnvValue is a value, or the name of the variable to take it from.
type EnvValue struct {
	Value string
	// From, if set, makes this a sentinel that reads variable From.
	From string
}

// PortMapping forwards a container port; a nil LocalPort means any free one.
type PortMapping struct {
	LocalPort     *int `json:"local_port"`
	ContainerPort int  `json:"container_port"`
}

// Mount is a network volume (Names set) or an instance mount (InstancePath set).
type Mount struct {
	// Names are the candidate volumes; on the wire "name" is a string if
	// the configuration had a string.
	Names        []string
	NameIsList   bool
	InstancePath string
	Optional     bool
	Path         string
}

// RepoSpec is one entry of `repos` (spec: configuration.md 2.11).
type RepoSpec struct {
	LocalPath *string `json:"local_path"`
	URL       *string `json:"url"`
	Branch    *string `json:"branch"`
	Hash      *string `json:"hash"`
	Path      string  `json:"path"`
	IfExists  string  `json:"if_exists"`
}

// FileMapping is one entry of `files` (spec: configuration.md 2.10).
type FileMapping struct {
	LocalPath string `json:"local_path"`
	Path      string `json:"path"`
}
