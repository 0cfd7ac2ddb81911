package client

import (
	"context"

	"dstack/protocol/api"
)

// Sweep finds machines of clouds that are in no fleet, after those that
// confirm names were told to end.
func (c *Client) Sweep(ctx context.Context, confirm []string) (api.SweepReport, error) {
	return call[api.SweepReport](ctx, c, read("/api/server/sweep"), api.SweepRequest{Confirm: confirm})
}
