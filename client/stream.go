package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"dstack/protocol/api"
)

const (
	// streamSilence is how long a stream may say nothing: the server sends an
	// empty line every 15 seconds.
	streamSilence = 45 * time.Second
	// watchPoll is how often a run of an old server is looked at.
	watchPoll = time.Second
)

// errEnd is how a line handler ends a stream.
var errEnd = errors.New("end of stream")

// userError is an error of the caller's own function: it ends a stream.
type userError struct{ err error }

func (e userError) Error() string { return e.err.Error() }

// WatchRun calls fn with the run at once and after each change, until the run
// is finished, fn fails or ctx ends. A broken connection is made again. With
// a server that has no streams it polls.
func (p *Project) WatchRun(ctx context.Context, id string, fn func(api.Run) error) error {
	open := func() any { return api.WatchRunRequest{ID: &id} }
	err := stream(ctx, p.Client, p.path("runs/watch"), open, func(run api.Run) error {
		if err := fn(run); err != nil {
			return userError{err}
		}
		if run.Status.Finished() {
			return errEnd
		}
		return nil
	})
	if IsUnsupported(err) {
		return p.pollRun(ctx, id, fn)
	}
	return err
}

func (p *Project) pollRun(ctx context.Context, id string, fn func(api.Run) error) error {
	tick := time.NewTicker(watchPoll)
	defer tick.Stop()
	for {
		run, err := p.GetRunByID(ctx, id)
		if err != nil {
			return err
		}
		if err := fn(run); err != nil || run.Status.Finished() {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// FollowLogs calls fn with each piece of a submission's log, in order and
// once, until the log is complete, fn fails or ctx ends. A broken connection
// is made again where it stopped. A server without streams answers with an
// [APIError] of status 404 or 405: use PollLogs.
func (p *Project) FollowLogs(ctx context.Context, req api.FollowLogsRequest, fn func(api.LogChunk) error) error {
	started := false
	open := func() any { return req }
	return stream(ctx, p.Client, p.path("logs/follow"), open, func(chunk api.LogChunk) error {
		if started && chunk.Offset < req.Offset { // sent again
			skip := min(req.Offset-chunk.Offset, int64(len(chunk.Message)))
			chunk.Offset += skip
			chunk.Message = chunk.Message[skip:]
		}
		if len(chunk.Message) > 0 {
			if err := fn(chunk); err != nil {
				return userError{err}
			}
			started, req.Since = true, nil
			req.Offset = chunk.Offset + int64(len(chunk.Message))
		}
		if chunk.End {
			return errEnd
		}
		return nil
	})
}

// stream reads JSON lines until handle returns errEnd. After a break it opens
// the stream again with a new request from open, for as long as its patience
// lasts without a line.
func stream[Line any](ctx context.Context, c *Client, path string, open func() any, handle func(Line) error) error {
	patience := c.options.Patience
	if patience == 0 {
		patience = defaultStreamPatience
	}
	wait := newBackoff(patience)
	for {
		err := streamOnce(ctx, c, path, open(), func(line Line) error {
			wait = newBackoff(patience)
			return handle(line)
		})
		if errors.Is(err, errEnd) {
			return nil
		}
		if failed, ok := errors.AsType[userError](err); ok {
			return failed.err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !mayRetry(err, true) || !wait.next(ctx) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
}

// streamOnce reads one connection to its end.
func streamOnce[Line any](ctx context.Context, c *Client, path string, in any, handle func(Line) error) error {
	body, err := encode(in)
	if err != nil {
		return fmt.Errorf("call %s: %w", path, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(streamSilence, func() {
		cancel(&ConnectionError{BaseURL: c.base, Err: errors.New("no sign of life from the server")})
	})
	defer silence.Stop()
	resp, err := c.post(ctx, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // a stream that was read is only dropped
	lines := bufio.NewReader(resp.Body)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("connection closed")
			}
			return &ConnectionError{BaseURL: c.base, Err: err}
		}
		silence.Reset(streamSilence)
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		var line Line
		if err := json.Unmarshal(text, &line); err != nil {
			return fmt.Errorf("read stream of %s: %w", c.base+path, err)
		}
		if err := handle(line); err != nil {
			return err
		}
	}
}
