package config

import "encoding/json"

// Fleet is `type: fleet` (spec: configuration.md 7).
type Fleet struct {
	Type              string            `json:"type"`
	Name              *string           `json:"name"`
	Placement         *string           `json:"placement"`
	Blocks            Blocks            `json:"blocks"`
	Nodes             *FleetNodes       `json:"nodes"`
	Reservation       *string           `json:"reservation"`
	Resources         *Resources        `json:"resources"`
	Backends          []string          `json:"backends"`
	Regions           []string          `json:"regions"`
	AvailabilityZones []string          `json:"availability_zones"`
	InstanceTypes     []string          `json:"instance_types"`
	SpotPolicy        *string           `json:"spot_policy"`
	Retry             *RetryPolicy      `json:"retry"`
	MaxPrice          *float64          `json:"max_price"`
	IdleDuration      *int              `json:"idle_duration"`
	Tags              map[string]string `json:"tags"`
	BackendOptions    []json.RawMessage `json:"backend_options"`
	SSHConfig         *SSHParams        `json:"ssh_config"`
	Env               Env               `json:"env"`
}

// Blocks is into how many equal parts each host is divided; Auto lets the
// server choose. On the wire it is a number or "auto".
type Blocks struct {
	Auto  bool
	Count int
}

// FleetNodes is `nodes` of a cloud fleet; on the wire target is left out
// when it equals min.
type FleetNodes struct {
	Min    int
	Target int
	Max    *int
}

// SSHParams is `ssh_config` of an SSH fleet.
type SSHParams struct {
	User         *string       `json:"user"`
	Port         *int          `json:"port"`
	IdentityFile *string       `json:"identity_file"`
	SSHKey       *SSHKey       `json:"ssh_key"`
	ProxyJump    *SSHProxy     `json:"proxy_jump"`
	Hosts        List[SSHHost] `json:"hosts"`
	Network      *string       `json:"network"`
}

// SSHHost is one host; on the wire it is a plain string if the file had one.
type SSHHost struct {
	Hostname     string
	Port         *int
	User         *string
	IdentityFile *string
	ProxyJump    *SSHProxy
	InternalIP   *string
	SSHKey       *SSHKey
	Blocks       Blocks
	// Plain says that the host was written as a bare string.
	Plain bool
}

// SSHProxy is the jump host in front of SSH hosts.
type SSHProxy struct {
	Hostname     string  `json:"hostname"`
	Port         *int    `json:"port"`
	User         string  `json:"user"`
	IdentityFile *string `json:"identity_file"`
	SSHKey       *SSHKey `json:"ssh_key"`
}

// SSHKey is a key pair as PEM and authorized_keys text.
type SSHKey struct {
	Public  string  `json:"public"`
	Private *string `json:"private"`
}
