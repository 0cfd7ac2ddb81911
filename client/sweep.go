package client

import (
	"context"

	"dstack/protocol/api"
)

// Sweep finds machines, volumes and addresses of clouds that are nobody's, after
// those that confirm and volumes name were told to end.
func (c *Client) Sweep(ctx context.Context, confirm, volumes []string) (api.SweepReport, error) {
	return call[api.SweepReport](ctx, c, read("/api/server/sweep"), api.SweepRequest{Confirm: confirm, ConfirmVolumes: volumes})
}
