package client

import (
	"context"
	"net/url"

	"dstack/protocol/api"
)

// ListProviders gives the ways to log in.
func (c *Client) ListProviders(ctx context.Context) ([]api.OAuthProviderInfo, error) {
	return call[[]api.OAuthProviderInfo](ctx, c, read("/api/auth/list_providers"), nil)
}

// Authorize begins a login: the browser comes back to a port of this machine.
func (c *Client) Authorize(ctx context.Context, provider string, port int) (api.AuthorizeResponse, error) {
	return call[api.AuthorizeResponse](ctx, c, read("/api/auth/"+url.PathEscape(provider)+"/authorize"), api.AuthorizeRequest{LocalPort: &port})
}

// FinishLogin exchanges what the browser brought for a user with a token.
func (c *Client) FinishLogin(ctx context.Context, provider, code, state string) (api.UserWithCreds, error) {
	return call[api.UserWithCreds](ctx, c, write("/api/auth/"+url.PathEscape(provider)+"/callback"), api.AuthCallbackRequest{Code: code, State: state})
}

// ListProjects gives the projects that the user is a member of.
func (c *Client) ListProjects(ctx context.Context) ([]api.Project, error) {
	joined := false
	return call[[]api.Project](ctx, c, read("/api/projects/list"), api.ListProjectsRequest{IncludeNotJoined: &joined})
}
