package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// endpoint is a call: where, and whether a repeat after a lost answer does no
// harm.
type endpoint struct {
	path       string
	idempotent bool
}

func read(path string) endpoint  { return endpoint{path: path, idempotent: true} }
func write(path string) endpoint { return endpoint{path: path} }

// maxErrorBody is how much of an error answer is read.
const maxErrorBody = 1 << 20

// call posts in and reads the answer as an Out. A nil in sends no body.
func call[Out any](ctx context.Context, c *Client, e endpoint, in any) (Out, error) {
	var out Out
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	body, err := encode(in)
	if err != nil {
		return out, fmt.Errorf("call %s: %w", e.path, err)
	}
	resp, err := c.postPatiently(ctx, e, body) //nolint:bodyclose // decode closes it
	if err != nil {
		return out, err
	}
	return decode[Out](ctx, c, e.path, resp)
}

// decode reads an answer.
func decode[Out any](ctx context.Context, c *Client, path string, resp *http.Response) (Out, error) {
	var out Out
	data, err := readAll(resp)
	if err != nil {
		return out, c.lost(ctx, err)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, fmt.Errorf("the answer of %s cannot be read, is a dstack server there? %w", c.base+path, err)
	}
	return out, nil
}

func encode(in any) ([]byte, error) {
	if in == nil {
		return nil, nil
	}
	return json.Marshal(in)
}

func readAll(resp *http.Response) ([]byte, error) {
	data, err := io.ReadAll(resp.Body)
	return data, errors.Join(err, resp.Body.Close())
}

// postPatiently posts, and again after a failed connection: always if nothing
// was sent, else only where a repeat does no harm.
func (c *Client) postPatiently(ctx context.Context, e endpoint, body []byte) (*http.Response, error) {
	return c.patiently(ctx, e.idempotent, func() (*http.Response, error) { return c.post(ctx, e.path, body) })
}

// patiently sends a request, and again after a failed connection.
func (c *Client) patiently(ctx context.Context, idempotent bool, send func() (*http.Response, error)) (*http.Response, error) {
	patience := c.options.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	wait := newBackoff(patience)
	for {
		resp, err := send()
		if err == nil || !mayRetry(err, idempotent) || !wait.next(ctx) {
			return resp, err
		}
	}
}

// mayRetry says whether a call may be made again after err.
func mayRetry(err error, idempotent bool) bool {
	if e, ok := errors.AsType[*APIError](err); ok {
		return idempotent && (e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	_, lost := errors.AsType[*ConnectionError](err)
	return idempotent && lost
}

// post sends one request and returns an answer of status 200.
func (c *Client) post(ctx context.Context, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.target+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.send(ctx, path, req)
}

// send sends a request in the caller's name and returns an answer of status 200.
func (c *Client) send(ctx context.Context, path string, req *http.Request) (*http.Response, error) {
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set("X-Api-Version", c.options.APIVersion)
	resp, err := c.http.Do(req) //nolint:gosec // to the server that the user chose
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxErrorBody), resp.Body}
	data, err := readAll(resp)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	apiErr := parseError(c.base+path, resp.StatusCode, data)
	if location := resp.Header.Get("Location"); location != "" {
		apiErr.Msg = location
	}
	return nil, apiErr
}

// lost turns the end of a connection into what the caller should see: why ctx
// ended, if it did, else a [ConnectionError].
func (c *Client) lost(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, context.DeadlineExceeded):
		err = errors.New("no answer in time")
	case cause != nil:
		return cause
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err // the message names the server already
	}
	return &ConnectionError{BaseURL: c.base, Err: err}
}

// backoff waits longer each time until its patience is used up.
type backoff struct {
	delay    time.Duration
	deadline time.Time
}

const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = 2 * time.Second
)

func newBackoff(patience time.Duration) *backoff {
	return &backoff{delay: firstDelay, deadline: time.Now().Add(patience)}
}

// next waits; false means that it is time to give up.
func (b *backoff) next(ctx context.Context) bool {
	if time.Now().Add(b.delay).After(b.deadline) {
		return false
	}
	timer := time.NewTimer(b.delay)
	defer timer.Stop()
	b.delay = min(2*b.delay, lastDelay)
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
