package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"dstack/protocol/api"
)

// JobMetrics tells what a job of a run used, up to limit values of each
// series, the newest first.
func (p *Project) JobMetrics(ctx context.Context, run string, replica, job, limit int) (api.JobMetrics, error) {
	ctx, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	query := url.Values{
		"replica_num": {strconv.Itoa(replica)}, "job_num": {strconv.Itoa(job)}, "limit": {strconv.Itoa(limit)},
	}
	path := p.path("metrics/job/"+url.PathEscape(run)) + "?" + query.Encode()
	resp, err := p.patiently(ctx, true, func() (*http.Response, error) { //nolint:bodyclose // decode closes it
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.target+path, http.NoBody)
		if err != nil {
			return nil, fmt.Errorf("call %s: %w", path, err)
		}
		return p.send(ctx, path, req)
	})
	if err != nil {
		return api.JobMetrics{}, err
	}
	return decode[api.JobMetrics](ctx, p.Client, path, resp)
}

// Usage tells what the running jobs of the named runs use now, or those of
// all active runs of the project. Servers of 0.22.5 do not have it.
func (p *Project) Usage(ctx context.Context, runs []string) ([]api.JobUsage, error) {
	usage, err := call[api.ProjectUsage](ctx, p.Client, read(p.path("metrics/usage")), api.UsageRequest{RunNames: runs})
	return usage.Jobs, err
}
