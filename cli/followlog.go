package cli

import (
	"context"
	"time"

	"dstack/cli/tunnel"
	"dstack/protocol/ansi"
	"dstack/protocol/api"
)

// The log comes from two places, and either can take over from the other
// without a gap or a repeat: the job's own output, with its colours, through
// the tunnel; and the server's copy of it, without escape sequences. What
// they have in common is the offset in the latter.

const (
	// rawPatience is how long a log waits for the tunnel: what is read before
	// has no colours.
	rawPatience = 500 * time.Millisecond
	// rawGrace is how long the job's own output may go on after the server
	// has seen the job's end.
	rawGrace = 3 * time.Second
	// flushTime is how long what may become a URL is held back.
	flushTime = 100 * time.Millisecond
)

// startLog shows the log of the submission logOf. If expect is set, a tunnel
// is on its way.
func (f *follower) startLog(ctx context.Context, expect bool) {
	f.logging = true
	rawCtx, endRaw := context.WithCancel(ctx)
	f.endRaw = endRaw
	r := &logReader{
		s: f.s, run: f.run, source: f.source, write: send(ctx, f.chunks),
		req: api.FollowLogsRequest{JobSubmissionID: f.logOf, Since: f.attach.since},
	}
	f.workers.Go(func() {
		defer endRaw()
		err := guard(func() error { return r.read(ctx, rawCtx, expect) })
		select {
		case f.ended <- err:
		case <-ctx.Done():
		}
	})
}

// logReader reads one submission's log.
type logReader struct {
	s      *session
	run    api.Run
	source <-chan *tunnel.Tunnel
	write  func([]byte) error
	// req.Offset is how much of the server's copy was passed on.
	req api.FollowLogsRequest
}

// read passes the log on until it is complete. The job itself is asked as
// long as rawCtx allows.
func (r *logReader) read(ctx, rawCtx context.Context, expect bool) error {
	if expect && r.req.Since == nil {
		select {
		case t := <-r.source:
			if t != nil && r.fromJob(rawCtx, t) {
				return nil
			}
			r.source = nil
		case <-time.After(rawPatience):
		case <-rawCtx.Done():
		}
	}
	for {
		complete, err := r.fromServer(ctx, rawCtx)
		if complete || err != nil {
			return err
		}
	}
}

// fromServer passes the server's copy on until it is complete, or until a
// tunnel came and the job itself could be asked. A server that is away is
// waited for: whether that makes sense is for others to say.
func (r *logReader) fromServer(ctx, rawCtx context.Context) (complete bool, err error) {
	followCtx, stop := context.WithCancel(ctx)
	defer stop()
	result := make(chan error, 1)
	go func() { // awaited below in each case
		result <- guard(func() error {
			return r.s.followLog(followCtx, r.run, r.req, func(c api.LogChunk) error {
				if err := r.write(c.Message); err != nil {
					return err
				}
				r.req.Offset += int64(len(c.Message))
				return nil
			})
		})
	}()
	var source <-chan *tunnel.Tunnel
	if r.req.Since == nil {
		source = r.source
	}
	select {
	case err = <-result:
		if isConnectionError(err) {
			return false, nil
		}
		return true, err
	case t := <-source:
		stop()
		err = <-result
		r.source = nil
		switch {
		case err == nil:
			return true, nil
		case t == nil:
			return false, nil
		}
		return r.fromJob(rawCtx, t), nil
	}
}

// fromJob passes the job's own output on, from where the log stands; true
// means to its end.
func (r *logReader) fromJob(ctx context.Context, t *tunnel.Tunnel) bool {
	var strip ansi.Stripper
	var plain []byte
	skip := r.req.Offset
	err := t.Logs(ctx, nil, func(text []byte) error {
		for skip > 0 && len(text) > 0 {
			n := len(text)
			if int64(n) > skip { // not too far
				n = 1
			}
			plain = strip.Append(plain[:0], text[:n])
			skip, text = skip-int64(len(plain)), text[n:]
		}
		if len(text) == 0 {
			return nil
		}
		if err := r.write(text); err != nil {
			return err
		}
		plain = strip.Append(plain[:0], text)
		r.req.Offset += int64(len(plain))
		return nil
	})
	return err == nil
}

// jobEnded takes care that the log of an ended job gets complete even if the
// job can't be reached any more.
func (f *follower) jobEnded() {
	f.stopAttach()
	if f.source != nil {
		select {
		case f.source <- nil:
		default: // the reader has its tunnel
		}
		f.source = nil
		f.late.Reset(rawGrace)
	}
	if !f.logging {
		f.detach()
	}
}

// print passes log text on and remembers whether its last line is complete.
func (f *follower) print(text []byte) error {
	if f.urls != nil {
		text = f.urls.Append(nil, text)
		f.flush.Stop()
		if f.urls.Held() {
			f.flush.Reset(flushTime)
		}
	}
	return f.show(text)
}

func (f *follower) show(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	f.lineOpen = text[len(text)-1] != '\n'
	return f.a.writeLog(text)
}

// endText shows what was held back of the log.
func (f *follower) endText() error {
	if f.urls == nil {
		return nil
	}
	return f.show(f.urls.Flush(nil))
}

// endLine completes a line that the job left open.
func (f *follower) endLine() {
	if f.lineOpen {
		f.a.Print("")
		f.lineOpen = false
	}
}
