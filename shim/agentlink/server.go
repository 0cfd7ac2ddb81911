package agentlink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"dstack/protocol/jobapi"
)

// maxHead bounds the head of the agent's answer in bytes.
const maxHead = 4 << 10

// Server waits until the job connects to its server's socket, and returns that
// connection. There is no limit for that but ctx.
func (f *Folder) Server(ctx context.Context) (_ net.Conn, err error) {
	conn, err := f.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, conn.Close())
		}
	}()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(conn, "POST /v1/server HTTP/1.1\r\nHost: agent\r\nConnection: Upgrade\r\nUpgrade: "+jobapi.ServerUpgrade+"\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return nil, fmt.Errorf("ask agent for a connection: %w", err)
	}
	head := &io.LimitedReader{R: conn, N: maxHead}
	buf := bufio.NewReader(head)
	resp, err := http.ReadResponse(buf, nil) //nolint:bodyclose // it has none, or the connection ends
	if err != nil {
		return nil, fmt.Errorf("wait for a connection of the job: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("agent answered %d to a request for a connection", resp.StatusCode)
	}
	head.N = 1<<63 - 1
	return &upgraded{conn, buf}, nil
}

// upgraded is a connection of which a part was read ahead.
type upgraded struct {
	net.Conn
	buf *bufio.Reader
}

func (u *upgraded) Read(p []byte) (int, error) { return u.buf.Read(p) }
