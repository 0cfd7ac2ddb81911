package openapi

import (
	"reflect"

	"dstack/protocol/config"
)

// backendTypes are what a backend's configuration may be.
func backendTypes() []reflect.Type {
	return []reflect.Type{
		reflect.TypeFor[config.AWSBackend](), reflect.TypeFor[config.AzureBackend](), reflect.TypeFor[config.GCPBackend](),
		reflect.TypeFor[config.KubernetesBackend](), reflect.TypeFor[config.NebiusBackend](), reflect.TypeFor[config.OCIBackend](),
		reflect.TypeFor[config.SlurmBackend](), reflect.TypeFor[config.APIKeyBackend](), reflect.TypeFor[config.CommunityBackend](),
		reflect.TypeFor[config.CrusoeBackend](), reflect.TypeFor[config.CudoBackend](), reflect.TypeFor[config.DigitalOceanBackend](),
		reflect.TypeFor[config.HotAisleBackend](), reflect.TypeFor[config.SeewebBackend](), reflect.TypeFor[config.TensorDockBackend](),
		reflect.TypeFor[config.VerdaBackend](),
	}
}

// The types of this file have the fields that types of protocol/config have on
// the wire only; schemaName gives them the names of those.

type hostForm struct {
	Hostname     string           `json:"hostname"`
	Port         *int             `json:"port"`
	User         *string          `json:"user"`
	IdentityFile *string          `json:"identity_file"`
	ProxyJump    *config.SSHProxy `json:"proxy_jump"`
	InternalIP   *string          `json:"internal_ip"`
	SSHKey       *config.SSHKey   `json:"ssh_key"`
	Blocks       config.Blocks    `json:"blocks"`
}

type selectorForm struct {
	Name     *string                 `json:"name,omitempty"`
	Hostname *string                 `json:"hostname,omitempty"`
	Fleet    *config.EntityReference `json:"fleet,omitempty"`
	Instance *int                    `json:"instance,omitempty"`
}

type volumeForm config.Volume
