package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

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

// Probe is what one look at a server told.
type Probe struct {
	Version string
	// Date is the server's clock at the middle of the call, to the second;
	// zero if it did not say.
	Date time.Time
	// RoundTrip is how long the call took.
	RoundTrip time.Duration
}

// Probe asks the server for its version, without a token's rights.
func (c *Client) Probe(ctx context.Context) (Probe, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	began := time.Now()
	resp, err := c.postPatiently(ctx, read("/api/server/get_info"), nil)
	if err != nil {
		return Probe{}, err
	}
	probe := Probe{RoundTrip: time.Since(began)}
	data, err := readAll(resp)
	if err != nil {
		return Probe{}, c.lost(ctx, err)
	}
	var info api.ServerInfo
	if err := json.Unmarshal(data, &info); err != nil {
		return Probe{}, fmt.Errorf("the answer of %s cannot be read, is a dstack server there? %w", c.base, err)
	}
	probe.Version = info.ServerVersion
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		probe.Date = date.Add(probe.RoundTrip / 2)
	}
	return probe, nil
}
