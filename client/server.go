package client

import (
	"context"

	"dstack/protocol/api"
)

// MyUser gives the user whose token this is.
func (c *Client) MyUser(ctx context.Context) (api.UserWithCreds, error) {
	return call[api.UserWithCreds](ctx, c, read("/api/users/get_my_user"), nil)
}

// ListAllRuns gives one page of the runs of all projects.
func (c *Client) ListAllRuns(ctx context.Context, req api.ListRunsRequest) ([]api.Run, error) {
	return call[[]api.Run](ctx, c, read("/api/runs/list"), req)
}

// ListEvents gives one page of events.
func (c *Client) ListEvents(ctx context.Context, req api.ListEventsRequest) ([]api.Event, error) {
	return call[[]api.Event](ctx, c, read("/api/events/list"), req)
}
