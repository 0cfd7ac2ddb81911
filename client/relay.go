package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// relayTimeout bounds how long the server may take to reach a job.
const relayTimeout = 30 * time.Second

// Relay opens a connection to the SSH server of a job through the server,
// which can not read what is said. ctx bounds the opening only; the connection
// lives until Close. A server that knows no relay answers with an error that
// [IsUnsupported] tells.
func (p *Project) Relay(ctx context.Context, run string, replica, job int) (net.Conn, error) {
	path := p.path("runs/"+url.PathEscape(run)+"/relay") +
		"?" + url.Values{"replica": {strconv.Itoa(replica)}, "job": {strconv.Itoa(job)}}.Encode()
	header := http.Header{}
	if p.token != "" {
		header.Set("Authorization", "Bearer "+p.token)
	}
	header.Set("X-Api-Version", p.options.APIVersion)
	opening, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	ws, resp, err := websocket.Dial(opening, p.target+path, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: p.upgradable(), CheckRedirect: keepMethod}, HTTPHeader: header,
	})
	if err == nil {
		return &relayed{websocket.NetConn(context.WithoutCancel(ctx), ws, websocket.MessageBinary), ws}, nil
	}
	if resp == nil {
		return nil, p.lost(opening, err)
	}
	data, readErr := readAll(resp)
	if readErr != nil {
		return nil, p.lost(opening, readErr)
	}
	return nil, parseError(p.base+path, resp.StatusCode, data)
}

// upgradable is a transport for HTTP/1.1, the only one that a WebSocket can
// come from here.
func (c *Client) upgradable() *http.Transport {
	transport, ok := c.http.Transport.(*http.Transport)
	if !ok {
		return &http.Transport{}
	}
	transport = transport.Clone()
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true)
	transport.ForceAttemptHTTP2 = false
	transport.DisableKeepAlives = true // nothing else comes through it
	return transport
}

// relayed says why the server ended a connection.
type relayed struct {
	net.Conn

	ws *websocket.Conn
}

// Close waits for nobody: SSH has said good-bye already.
func (r *relayed) Close() error {
	if err := r.ws.CloseNow(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close relay: %w", err)
	}
	return nil
}

func (r *relayed) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	if end, ok := errors.AsType[websocket.CloseError](err); ok && end.Reason != "" {
		err = fmt.Errorf("the server ended the connection: %s", end.Reason)
	}
	return n, err //nolint:wrapcheck // io.EOF stays as it is
}
