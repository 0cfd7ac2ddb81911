package client

import (
	"context"

	"dstack/protocol/api"
)

// ServerInfo asks for the server's version; it needs no token.
func (c *Client) ServerInfo(ctx context.Context) (api.ServerInfo, error) {
	return call[api.ServerInfo](ctx, c, read("/api/server/get_info"), nil)
}

// MyUser gives the user whose token this is.
func (c *Client) MyUser(ctx context.Context) (api.UserWithCreds, error) {
	return call[api.UserWithCreds](ctx, c, read("/api/users/get_my_user"), nil)
}

// ListProjects gives the projects that the user may see.
func (c *Client) ListProjects(ctx context.Context, req api.ListProjectsRequest) ([]api.Project, error) {
	req.ReturnTotalCount = false // it would change the shape of the answer
	return call[[]api.Project](ctx, c, read("/api/projects/list"), req)
}

// ListAllFleets gives one page of the fleets of all projects.
func (c *Client) ListAllFleets(ctx context.Context, req api.ListFleetsRequest) ([]api.Fleet, error) {
	return call[[]api.Fleet](ctx, c, read("/api/fleets/list"), req)
}

// ListInstances gives one page of the instances of all projects.
func (c *Client) ListInstances(ctx context.Context, req api.ListInstancesRequest) ([]api.Instance, error) {
	return call[[]api.Instance](ctx, c, read("/api/instances/list"), req)
}

// ListAllRuns gives one page of the runs of all projects.
func (c *Client) ListAllRuns(ctx context.Context, req api.ListRunsRequest) ([]api.Run, error) {
	return call[[]api.Run](ctx, c, read("/api/runs/list"), req)
}

// ListEvents gives one page of events.
func (c *Client) ListEvents(ctx context.Context, req api.ListEventsRequest) ([]api.Event, error) {
	return call[[]api.Event](ctx, c, read("/api/events/list"), req)
}
