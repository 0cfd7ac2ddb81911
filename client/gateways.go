package client

import (
	"context"

	"dstack/protocol/api"
)

// ListGateways gives the project's gateways and those that it imports.
func (p *Project) ListGateways(ctx context.Context) ([]api.Gateway, error) {
	return call[[]api.Gateway](ctx, p.Client, read(p.path("gateways/list")), api.ListGatewaysRequest{IncludeImported: true})
}

// GetGateway gives the project's own gateway of that name; see [IsNotExist].
func (p *Project) GetGateway(ctx context.Context, name string) (api.Gateway, error) {
	return call[api.Gateway](ctx, p.Client, read(p.path("gateways/get")), api.GetGatewayRequest{Name: name})
}

// PlanGateway asks what applying a gateway would do.
func (p *Project) PlanGateway(ctx context.Context, spec api.GatewaySpec) (api.GatewayPlan, error) {
	return call[api.GatewayPlan](ctx, p.Client, read(p.path("gateways/get_plan")), api.GetGatewayPlanRequest{Spec: spec})
}

// ApplyGateway creates or updates a gateway.
func (p *Project) ApplyGateway(ctx context.Context, req api.ApplyGatewayPlanRequest) (api.Gateway, error) {
	return call[api.Gateway](ctx, p.Client, write(p.path("gateways/apply")), req)
}

// DeleteGateways starts the deletion of gateways.
func (p *Project) DeleteGateways(ctx context.Context, names []string) error {
	return p.do(ctx, read(p.path("gateways/delete")), api.DeleteGatewaysRequest{Names: names})
}

// SetDefaultGateway makes a gateway the project's default; of is the project
// that an imported one belongs to, else empty.
func (p *Project) SetDefaultGateway(ctx context.Context, of, name string) error {
	req := api.SetDefaultGatewayRequest{Name: name}
	if of != "" {
		req.GatewayProject = &of
	}
	return p.do(ctx, read(p.path("gateways/set_default")), req)
}

// SetWildcardDomain changes a gateway's domain.
func (p *Project) SetWildcardDomain(ctx context.Context, name, domain string) (api.Gateway, error) {
	return call[api.Gateway](ctx, p.Client, read(p.path("gateways/set_wildcard_domain")), api.SetWildcardDomainRequest{Name: name, WildcardDomain: domain})
}
