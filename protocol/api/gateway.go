package api

import (
	"dstack/protocol/config"
	"dstack/protocol/internal/decode"
)

// GatewayStatus is the state of a gateway (spec: rest-api.md 10).
type GatewayStatus string

// Gateway statuses.
const (
	GatewaySubmitted    GatewayStatus = "submitted"
	GatewayProvisioning GatewayStatus = "provisioning"
	GatewayRunning      GatewayStatus = "running"
	GatewayFailed       GatewayStatus = "failed"
)

// GatewayReplicaStatus is the state of one host of a gateway.
type GatewayReplicaStatus string

// Statuses of replicas.
const (
	ReplicaSubmitted    GatewayReplicaStatus = "submitted"
	ReplicaProvisioning GatewayReplicaStatus = "provisioning"
	ReplicaRunning      GatewayReplicaStatus = "running"
	ReplicaTerminating  GatewayReplicaStatus = "terminating"
	ReplicaTerminated   GatewayReplicaStatus = "terminated"
)

// GatewaySpec is what a user submits for a gateway.
type GatewaySpec struct {
	Configuration     config.Gateway `json:"configuration"`
	ConfigurationPath *string        `json:"configuration_path"`
}

// Gateway is a gateway as clients see it. Default is relative to the project
// that asks.
type Gateway struct {
	ID             string                      `json:"id"`
	Name           string                      `json:"name"`
	ProjectName    string                      `json:"project_name"`
	Configuration  config.Gateway              `json:"configuration"`
	CreatedAt      Time                        `json:"created_at"`
	Status         GatewayStatus               `json:"status"`
	StatusMessage  *string                     `json:"status_message"`
	Hostname       *string                     `json:"hostname"`
	WildcardDomain *string                     `json:"wildcard_domain"`
	Default        bool                        `json:"default"`
	Replicas       config.List[GatewayReplica] `json:"replicas"`
	Backend        *string                     `json:"backend"`
	Region         *string                     `json:"region"`
	IPAddress      *string                     `json:"ip_address"`
	InstanceID     *string                     `json:"instance_id"`
}

// GatewayReplica is one machine of a gateway.
type GatewayReplica struct {
	Hostname      *string              `json:"hostname"`
	ReplicaNum    int                  `json:"replica_num"`
	Backend       *string              `json:"backend"`
	Region        *string              `json:"region"`
	CreatedAt     Time                 `json:"created_at"`
	Status        GatewayReplicaStatus `json:"status"`
	StatusMessage *string              `json:"status_message"`
}

// GatewayPlan is what would happen if a gateway were applied.
type GatewayPlan struct {
	ProjectName     string      `json:"project_name"`
	User            string      `json:"user"`
	Spec            GatewaySpec `json:"spec"`
	EffectiveSpec   GatewaySpec `json:"effective_spec"`
	CurrentResource *Gateway    `json:"current_resource"`
	Action          string      `json:"action"`
}

// ListGatewaysRequest is the optional body of gateways/list.
type ListGatewaysRequest struct {
	IncludeImported bool `json:"include_imported,omitempty"`
}

// GetGatewayRequest names a gateway of the project.
type GetGatewayRequest struct {
	Name string `json:"name"`
}

// GetGatewayPlanRequest asks what applying a gateway would do.
type GetGatewayPlanRequest struct {
	Spec GatewaySpec `json:"spec"`
}

// ApplyGatewayPlanRequest creates or updates a gateway.
type ApplyGatewayPlanRequest struct {
	Plan  ApplyGatewayPlanInput `json:"plan"`
	Force bool                  `json:"force"`
}

// ApplyGatewayPlanInput is the wish and what the client believes exists.
type ApplyGatewayPlanInput struct {
	Spec            GatewaySpec `json:"spec"`
	CurrentResource *Gateway    `json:"current_resource"`
}

// CreateGatewayRequest creates a gateway; clients use apply instead.
type CreateGatewayRequest struct {
	Configuration config.Gateway `json:"configuration"`
}

// DeleteGatewaysRequest names the gateways to delete.
type DeleteGatewaysRequest struct {
	Names []string `json:"names"`
}

// SetDefaultGatewayRequest makes a gateway, maybe one imported from
// GatewayProject, the project's default.
type SetDefaultGatewayRequest struct {
	Name           string  `json:"name"`
	GatewayProject *string `json:"gateway_project,omitempty"`
}

// SetWildcardDomainRequest changes a gateway's domain.
type SetWildcardDomainRequest struct {
	Name           string `json:"name"`
	WildcardDomain string `json:"wildcard_domain"`
}

func (ListGatewaysRequest) optionalBody() {}

// oldRouter takes `router: null` out of a gateway's configuration: clients
// before 0.21 send it.
func oldRouter(v decode.Value) decode.Value {
	n := v.Node()
	router := n.Lookup("router")
	if router == nil || router.Kind != decode.Null {
		return v
	}
	return v.At(n.Without("router"))
}
