package config

import "dstack/protocol/internal/decode"

// APIKey are credentials of one key.
type APIKey struct {
	Type   string `json:"type"`
	APIKey string `json:"api_key"`
}

// AccessKey are credentials of a key pair.
type AccessKey struct {
	Type      string `json:"type"`
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// APIToken are credentials of Seeweb.
type APIToken struct {
	Type     string `json:"type"`
	APIToken string `json:"api_token"`
}

// ClientKey are credentials of Verda.
type ClientKey struct {
	Type         string `json:"type"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// TensorDockKey are credentials of TensorDock.
type TensorDockKey struct {
	Type     string `json:"type"`
	APIKey   string `json:"api_key"`
	APIToken string `json:"api_token"`
}

// APIKeyBackend is cloudrift, daytona, jarvislabs, lambda, lium or vultr. Nil
// Regions means all, here and in all other backends.
type APIKeyBackend struct {
	Type    string   `json:"type"`
	Regions []string `json:"regions"`
	Creds   *APIKey  `json:"creds,omitempty"`
}

// DigitalOceanBackend is digitalocean or amddevcloud.
type DigitalOceanBackend struct {
	Type        string   `json:"type"`
	ProjectName *string  `json:"project_name"`
	Regions     []string `json:"regions"`
	Creds       *APIKey  `json:"creds,omitempty"`
}

// CommunityBackend is runpod or vastai; a nil CommunityCloud is false there
// and true here.
type CommunityBackend struct {
	Type           string   `json:"type"`
	Regions        []string `json:"regions"`
	CommunityCloud *bool    `json:"community_cloud"`
	Creds          *APIKey  `json:"creds,omitempty"`
}

// HotAisleBackend is hotaisle.
type HotAisleBackend struct {
	Type       string   `json:"type"`
	TeamHandle string   `json:"team_handle"`
	Regions    []string `json:"regions"`
	BareMetal  *bool    `json:"bare_metal"`
	Creds      *APIKey  `json:"creds,omitempty"`
}

// CrusoeBackend is crusoe.
type CrusoeBackend struct {
	Type      string     `json:"type"`
	ProjectID string     `json:"project_id"`
	Regions   []string   `json:"regions"`
	Creds     *AccessKey `json:"creds,omitempty"`
}

// CudoBackend is cudo, which is gone: it can be configured, but not used.
type CudoBackend struct {
	Type      string   `json:"type"`
	Regions   []string `json:"regions"`
	ProjectID string   `json:"project_id"`
	Creds     *APIKey  `json:"creds,omitempty"`
}

// SeewebBackend is seeweb.
type SeewebBackend struct {
	Type    string    `json:"type"`
	Regions []string  `json:"regions"`
	Creds   *APIToken `json:"creds,omitempty"`
}

// TensorDockBackend is tensordock, which is gone like cudo.
type TensorDockBackend struct {
	Type    string         `json:"type"`
	Regions []string       `json:"regions"`
	Creds   *TensorDockKey `json:"creds,omitempty"`
}

// VerdaBackend is verda, or datacrunch as it was called before.
type VerdaBackend struct {
	Type    string     `json:"type"`
	Regions []string   `json:"regions"`
	Creds   *ClientKey `json:"creds,omitempty"`
}

// readSmall reads the backends with few fields.
func readSmall(typ string, o *decode.Object) any {
	regions := readRegions(o)
	switch typ {
	case "amddevcloud", "digitalocean":
		return &DigitalOceanBackend{typ, optionalText(o, "project_name"), regions, readAPIKey(o, 0)}
	case "runpod", "vastai":
		return &CommunityBackend{typ, regions, optionalBool(o, "community_cloud"), readAPIKey(o, 0)}
	case "hotaisle":
		return &HotAisleBackend{typ, decode.Required(o, "team_handle", decode.Text), regions, optionalBool(o, "bare_metal"), readAPIKey(o, 0)}
	case "crusoe":
		return &CrusoeBackend{typ, decode.Required(o, "project_id", decode.Text), regions, readAccessKey(o)}
	case "cudo":
		return &CudoBackend{typ, regions, decode.Required(o, "project_id", decode.Text), readAPIKey(o, 0)}
	case "seeweb":
		return &SeewebBackend{typ, regions, readCreds(o, "api_token", func(c *decode.Object) *APIToken {
			return &APIToken{"api_token", decode.Required(c, "api_token", decode.Text)}
		})}
	case "tensordock":
		return &TensorDockBackend{typ, regions, readCreds(o, "api_key", func(c *decode.Object) *TensorDockKey {
			return &TensorDockKey{"api_key", decode.Required(c, "api_key", decode.Text), decode.Required(c, "api_token", decode.Text)}
		})}
	case "verda", "datacrunch":
		return &VerdaBackend{typ, regions, readCreds(o, "api_key", func(c *decode.Object) *ClientKey {
			return &ClientKey{"api_key", decode.Required(c, "client_id", decode.Text), decode.Required(c, "client_secret", decode.Text)}
		})}
	case "daytona", "lium":
		return &APIKeyBackend{typ, regions, readAPIKey(o, 1)}
	}
	return &APIKeyBackend{typ, regions, readAPIKey(o, 0)}
}

// readAPIKey reads a key of at least low characters.
func readAPIKey(o *decode.Object, low int) *APIKey {
	return readCreds(o, "api_key", func(c *decode.Object) *APIKey {
		return &APIKey{"api_key", decode.Required(c, "api_key", decode.TextOf(low, maxText))}
	})
}

func readAccessKey(o *decode.Object) *AccessKey {
	return readCreds(o, "access_key", func(c *decode.Object) *AccessKey {
		return &AccessKey{"access_key", decode.Required(c, "access_key", decode.Text), decode.Required(c, "secret_key", decode.Text)}
	})
}
