package agentlink

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
	"os"
	"time"

	"golang.org/x/sys/unix"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// Client talks to one agent over the socket in its folder.
type Client struct {
	folder *Folder
	http   *http.Client
}

// NewClient makes a client; it connects at each call.
func NewClient(folder *Folder) *Client {
	c := &Client{folder: folder}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return folder.dial(ctx)
			},
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 16 << 10,
			ResponseHeaderTimeout:  10 * time.Second,
		},
		// An agent that redirects is none of ours.
		CheckRedirect: func(*http.Request, []*http.Request) error { return ErrUnsafe },
	}
	return c
}

// dial connects to the socket itself: a symbolic link there could lead to any
// socket of the host, so the name is resolved once, to a descriptor, judged,
// and that descriptor is connected to.
func (f *Folder) dial(ctx context.Context) (conn net.Conn, err error) {
	file, err := f.root.OpenFile(jobapi.Socket, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open agent's socket: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at agent's socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("agent's socket is a %s: %w", info.Mode().Type(), ErrUnsafe)
	}
	var d net.Dialer
	conn, err = d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("connect to agent: %w", err)
	}
	return conn, nil
}

// Answers says whether an agent listens in a task's folder.
func Answers(ctx context.Context, path string) bool {
	folder, err := OpenFolder(path)
	if err != nil {
		return false
	}
	conn, err := folder.dial(ctx)
	if err == nil {
		err = conn.Close()
	}
	return errors.Join(err, folder.Close()) == nil
}

// Events follows the agent's events until ctx ends or the agent goes away.
// connected is called when the agent answered.
func (c *Client) Events(ctx context.Context, connected func(), see func(jobapi.Event)) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/v1/events", nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask agent for events: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("agent answered %d to events", resp.StatusCode)
	}
	connected()
	return readEvents(resp.Body, see)
}

func readEvents(r io.Reader, see func(jobapi.Event)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), MaxStatus)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var e jobapi.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("decode agent's event: %w", err)
		}
		if e.Status != nil {
			if err := checkStatus(e.Status); err != nil {
				return err
			}
		}
		e.PlainSize = max(e.PlainSize, 0)
		if e.Usage != nil {
			if err := checkUsage(e.Usage); err != nil {
				return err
			}
		}
		see(e)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read agent's events: %w", err)
	}
	return nil
}

// checkUsage refuses a measurement that makes no sense.
func checkUsage(u *jobapi.Usage) error {
	if u.CPUMicro < 0 || u.MemoryBytes < 0 || u.WorkingSetBytes < 0 || len(u.GPUs) > hostapi.MaxGPUs ||
		u.NoConnectionsSecs != nil && *u.NoConnectionsSecs < 0 {
		return fmt.Errorf("usage %+v: %w", *u, ErrUnsafe)
	}
	for _, g := range u.GPUs {
		if g.MemoryBytes < 0 || g.UtilPercent < -1 || g.UtilPercent > 100 {
			return fmt.Errorf("usage of GPU %+v: %w", g, ErrUnsafe)
		}
	}
	return nil
}

// Stop asks the agent to end the job.
func (c *Client) Stop(ctx context.Context, stop jobapi.StopRequest) error {
	body, err := json.Marshal(stop)
	if err != nil {
		return fmt.Errorf("encode stop: %w", err)
	}
	return c.post(ctx, "stop", body)
}

// Warn asks the agent to tell the job that its host goes away.
func (c *Client) Warn(ctx context.Context) error { return c.post(ctx, "warn", nil) }

func (c *Client) post(ctx context.Context, verb string, body []byte) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/"+verb, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask agent to %s: %w", verb, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("agent answered %d to %s", resp.StatusCode, verb)
	}
	return nil
}
