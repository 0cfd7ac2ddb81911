package config

// Preset is `type: preset` (spec: configuration.md 9.1): what to search a
// serving configuration for. It is processed by the client only.
type Preset struct {
	ProfileParams
	Type  string      `json:"type"`
	Name  *string     `json:"name"`
	Model PresetModel `json:"model"`
	// Base and Repo are shorthands of Model and always null on the wire.
	Base               *string        `json:"base"`
	Repo               *string        `json:"repo"`
	Prompt             *PresetPrompt  `json:"prompt"`
	MinContextLength   *int           `json:"min_context_length"`
	MaxTTFT            *int           `json:"max_ttft"`
	Trials             *int           `json:"trials"`
	Previous           []string       `json:"previous"`
	Concurrency        *int           `json:"concurrency"`
	InputTokens        *int           `json:"input_tokens"`
	OutputTokens       *int           `json:"output_tokens"`
	SharedPrefixTokens *int           `json:"shared_prefix_tokens"`
	Dataset            *string        `json:"dataset"`
	Baseline           *bool          `json:"baseline"`
	Gateway            *PresetGateway `json:"gateway"`
	Agent              *PresetAgent   `json:"agent"`
	Env                Env            `json:"env"`
}

// PresetModel is the model to serve: any variant of Base, or exactly Repo
// under Name.
type PresetModel struct {
	Base string
	Repo string
	Name *string
}

// PresetGateway is the gateway of the service that is tried; Text is a
// reference as it was written.
type PresetGateway struct {
	ServiceGateway
	Text string
}

// PresetPrompt is advice for the agent: a text, or a file next to the
// configuration.
type PresetPrompt struct {
	Text string
	Path string
}

// Providers of PresetAgent.
const (
	AgentClaude = "claude"
	AgentCodex  = "codex"
)

// PresetAgent is the coding agent that searches.
type PresetAgent struct {
	Provider string  `json:"provider"`
	Model    *string `json:"model"`
	Effort   *string `json:"effort"`
}
