package hosts

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

	"dstack/protocol/hostapi"
)

// callTimeout bounds one short call; the shim answers from memory or disk.
const callTimeout = 20 * time.Second

// ErrDown says that there is no connection to the host now. Whether a call
// that was under way was executed is unknown; all calls may be repeated.
var ErrDown = errors.New("no connection to the host")

// link is HTTP/2 over one connection to a shim.
type link struct {
	conn *http.ClientConn
	raw  net.Conn
	// server is the id of this server.
	server string
}

// newLink takes conn over.
func newLink(ctx context.Context, conn net.Conn, server string) (*link, error) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols:   protocols,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		HTTP2: &http.HTTP2Config{
			// A shim that is stopped or hangs looks like a live connection to SSH.
			SendPingTimeout:           15 * time.Second,
			PingTimeout:               10 * time.Second,
			MaxReceiveBufferPerStream: 1 << 20,
		},
		DisableCompression: true,
	}
	c, err := transport.NewClientConn(ctx, "http", "shim:80")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start HTTP/2: %w", err), conn.Close())
	}
	return &link{conn: c, raw: conn, server: server}, nil
}

func (l *link) close() {
	_ = l.conn.Close() // what matters is that both are gone
	_ = l.raw.Close()
}

// call makes one short request. in and out may be nil. An answer of the shim
// that is an error is returned as *hostapi.Error.
func (l *link) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	resp, err := l.send(ctx, method, path, body, 0)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode >= http.StatusBadRequest {
		return answerError(resp)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, hostapi.MaxLine)).Decode(out); err != nil {
		return fmt.Errorf("read answer of the shim: %w", err)
	}
	return nil
}

// send makes one request and gives its answer, whatever that is. size is that
// of the body where body does not say itself.
func (l *link) send(ctx context.Context, method, path string, body io.Reader, size int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://shim"+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if size > 0 {
		req.ContentLength = size
	}
	req.Header.Set(hostapi.ServerHeader, l.server)
	resp, err := l.conn.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDown, err)
	}
	return resp, nil
}

func answerError(resp *http.Response) error {
	e := &hostapi.Error{}
	err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(e)
	if err != nil || e.Code == "" {
		return fmt.Errorf("the shim answered %s", resp.Status)
	}
	return e
}

func taskPath(jobID, verb string) string { return "/v1/tasks/" + url.PathEscape(jobID) + verb }
