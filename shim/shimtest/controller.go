// Package shimtest is a controller for tests: it speaks hostapi with a shim
// and keeps what it was told.
package shimtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"dstack/protocol/hostapi"
)

// Controller is safe for concurrent use. Its zero value is not.
type Controller struct {
	t    testing.TB
	http *http.Client

	mu    sync.Mutex
	seq   uint64
	told  []hostapi.Task // events in their order
	hello *hostapi.Hello
	logs  map[string][]byte
	ats   map[string][]time.Time
	pulls map[string]hostapi.PullProgress
	infos []hostapi.Info
	used  []hostapi.TaskUsage
	news  chan struct{} // closed and replaced at each change
}

// New makes a controller that reaches the shim by dial, over HTTP/2 or HTTP/1.1.
func New(t testing.TB, dial func(ctx context.Context) (net.Conn, error), http2 bool) *Controller {
	var p http.Protocols
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		Protocols:   &p,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &Controller{
		t: t, http: &http.Client{Transport: tr}, news: make(chan struct{}),
		logs: map[string][]byte{}, ats: map[string][]time.Time{}, pulls: map[string]hostapi.PullProgress{},
	}
}

// Call makes one call; an error of the shim comes back as [*hostapi.Error].
// A body that is a reader is sent as it is.
func (c *Controller) Call(ctx context.Context, method, path string, body, into any) error {
	var buf bytes.Buffer
	raw, ok := body.(io.Reader)
	if !ok {
		raw = &buf
		if body != nil {
			if err := json.NewEncoder(&buf).Encode(body); err != nil {
				return err
			}
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://shim"+path, raw)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		e := &hostapi.Error{}
		if err := json.NewDecoder(resp.Body).Decode(e); err != nil {
			return fmt.Errorf("status %d: %w", resp.StatusCode, err)
		}
		return e
	}
	if into == nil {
		into = &struct{}{}
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// Put submits a task and fails the test if it is refused.
func (c *Controller) Put(id string, spec hostapi.TaskSpec) hostapi.Task {
	c.t.Helper()
	var task hostapi.Task
	if err := c.Call(c.t.Context(), http.MethodPut, "/v1/tasks/"+id, spec, &task); err != nil {
		c.t.Fatalf("put %s: %v", id, err)
	}
	return task
}

// Stop stops a task.
func (c *Controller) Stop(id string, stop hostapi.StopTask) {
	c.t.Helper()
	if err := c.Call(c.t.Context(), http.MethodPost, "/v1/tasks/"+id+"/stop", stop, &hostapi.Task{}); err != nil {
		c.t.Fatalf("stop %s: %v", id, err)
	}
}

// Remove removes a task.
func (c *Controller) Remove(id string) {
	c.t.Helper()
	if err := c.Call(c.t.Context(), http.MethodPost, "/v1/tasks/"+id+"/remove", nil, nil); err != nil {
		c.t.Fatalf("remove %s: %v", id, err)
	}
}

// Stream follows the shim, acknowledging everything, until ctx ends or the
// shim goes away.
func (c *Controller) Stream(ctx context.Context) error {
	pr, pw := io.Pipe()
	acks := json.NewEncoder(pw)
	c.mu.Lock()
	first := hostapi.Ack{Seq: c.seq, Logs: map[string]int64{}}
	for id, b := range c.logs {
		first.Logs[id] = int64(len(b))
	}
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := make(chan hostapi.Ack, 1024)
	out <- first
	written := make(chan struct{})
	go func() {
		defer close(written)
		for {
			select {
			case a := <-out:
				if err := acks.Encode(a); err != nil {
					return
				}
			case <-ctx.Done():
				_ = pw.CloseWithError(io.ErrClosedPipe)
				return
			}
		}
	}()
	defer func() { cancel(); _ = pr.Close(); <-written }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://shim/v1/stream", pr)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, hostapi.MaxLine)
	for lines.Scan() {
		var e hostapi.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return err
		}
		ack, err := c.take(e)
		if err != nil {
			return err
		}
		select {
		case out <- ack:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.Join(lines.Err(), io.EOF)
}

func (c *Controller) take(e hostapi.Event) (hostapi.Ack, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ack := hostapi.Ack{Seq: c.seq}
	switch {
	case e.Hello != nil:
		c.hello = e.Hello
	case e.Task != nil:
		if e.Seq <= c.seq {
			break // a repeat
		}
		if e.Seq != c.seq+1 && c.seq != 0 {
			return ack, fmt.Errorf("event %d after %d", e.Seq, c.seq)
		}
		if p := e.Task.PlainSize; p != nil && int64(len(c.logs[e.Task.ID])) < *p {
			return ack, fmt.Errorf("task %s ended with %d of %d bytes of its log sent", e.Task.ID, len(c.logs[e.Task.ID]), *p)
		}
		c.seq, ack.Seq = e.Seq, e.Seq
		c.told = append(c.told, *e.Task)
	case e.Log != nil:
		id, have := e.Log.TaskID, int64(len(c.logs[e.Log.TaskID]))
		if e.Log.Offset > have {
			return ack, fmt.Errorf("log of %s goes on at %d, %d are here", id, e.Log.Offset, have)
		}
		if end := e.Log.Offset + int64(len(e.Log.Data)); end > have {
			c.logs[id] = append(c.logs[id], e.Log.Data[have-e.Log.Offset:]...)
			c.ats[id] = append(c.ats[id], e.Log.At)
		}
		ack.Logs = map[string]int64{id: int64(len(c.logs[id]))}
	case e.Pull != nil:
		c.pulls[e.Pull.TaskID] = e.Pull.Progress
	case e.Info != nil:
		c.infos = append(c.infos, *e.Info)
	case e.Usage != nil:
		c.used = append(c.used, *e.Usage)
	}
	close(c.news)
	c.news = make(chan struct{})
	return ack, nil
}

// Await waits until the shim told that the task is in a state (or beyond it).
func (c *Controller) Await(id string, state hostapi.TaskState) hostapi.Task {
	c.t.Helper()
	var found hostapi.Task
	c.AwaitThat(fmt.Sprintf("task %s is %s", id, state), func() bool {
		for _, t := range c.told {
			if t.ID == id && (t.State == state || t.State == hostapi.TaskTerminated) {
				found = t
				return true
			}
		}
		return false
	})
	return found
}

// limit ends a test that waits in vain.
const limit = 60 * time.Second

// AwaitThat waits until what was told makes cond true.
func (c *Controller) AwaitThat(what string, cond func() bool) {
	c.t.Helper()
	timeout := time.After(limit)
	for {
		c.mu.Lock()
		ok, news := cond(), c.news
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-news:
		case <-timeout:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.t.Fatalf("waited in vain: %s; told: %+v", what, c.told)
		}
	}
}

// Told is all events so far.
func (c *Controller) Told() []hostapi.Task {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]hostapi.Task(nil), c.told...)
}

// Log is a task's log so far.
func (c *Controller) Log(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.logs[id])
}

// Hello is the last greeting, and Infos the news of the host since the first.
func (c *Controller) Hello() *hostapi.Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hello
}

// AwaitHello waits for the greeting of a stream.
func (c *Controller) AwaitHello() *hostapi.Hello {
	c.t.Helper()
	c.AwaitThat("a greeting came", func() bool { return c.hello != nil })
	return c.Hello()
}

// AwaitLog waits until a task's log contains text.
func (c *Controller) AwaitLog(id, text string) {
	c.t.Helper()
	c.AwaitThat(fmt.Sprintf("the log of %s contains %q", id, text), func() bool {
		return bytes.Contains(c.logs[id], []byte(text))
	})
}

// Restore makes the controller forget how far it has seen events: its database
// is an old one. No stream is open meanwhile.
func (c *Controller) Restore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq = 0
}

// AwaitEnds waits until the end of a task was told n times.
func (c *Controller) AwaitEnds(id string, n int) hostapi.Task {
	c.t.Helper()
	return c.AwaitTimes(id, hostapi.TaskTerminated, n)
}

// AwaitTimes waits until a state of a task was told n times.
func (c *Controller) AwaitTimes(id string, state hostapi.TaskState, n int) hostapi.Task {
	c.t.Helper()
	var last hostapi.Task
	c.AwaitThat(fmt.Sprintf("task %s is told to be %s %d times", id, state, n), func() bool {
		seen := 0
		for _, t := range c.told {
			if t.ID == id && t.State == state {
				seen++
				last = t
			}
		}
		return seen >= n
	})
	return last
}

// AwaitUsage waits until n measurements were told, and returns all.
func (c *Controller) AwaitUsage(n int) []hostapi.TaskUsage {
	c.t.Helper()
	var all []hostapi.TaskUsage
	c.AwaitThat(fmt.Sprintf("%d measurements came", n), func() bool {
		all = append([]hostapi.TaskUsage(nil), c.used...)
		return len(all) >= n
	})
	return all
}

// Infos are the changes of the host that were told.
func (c *Controller) Infos() []hostapi.Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]hostapi.Info(nil), c.infos...)
}

// AwaitNotice waits until what the cloud announced was told.
func (c *Controller) AwaitNotice() hostapi.Notice {
	c.t.Helper()
	var notice hostapi.Notice
	c.AwaitThat("a notice of the cloud was told", func() bool {
		for _, i := range c.infos {
			if i.Notice != nil {
				notice = *i.Notice
			}
		}
		return notice.Kind != ""
	})
	return notice
}
