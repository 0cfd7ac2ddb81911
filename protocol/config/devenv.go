package config

// IDEs of a development environment.
const (
	IDEVSCode   = "vscode"
	IDECursor   = "cursor"
	IDEWindsurf = "windsurf"
	IDEZed      = "zed"
)

// DevEnvironment is `type: dev-environment` (spec: configuration.md 6.3).
type DevEnvironment struct {
	// IDE is nil for SSH only.
	IDE     *string      `json:"ide"`
	Version *string      `json:"version"`
	Init    List[string] `json:"init"`
	// InactivityDuration is the seconds without a connection after which the
	// run is stopped; nil means never.
	InactivityDuration *int              `json:"inactivity_duration"`
	Ports              List[PortMapping] `json:"ports"`
	Type               string            `json:"type"`
	RunBase
	ProfileParams
}
