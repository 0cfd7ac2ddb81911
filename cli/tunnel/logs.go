package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/crypto/ssh"

	"dstack/sshlink"
)

// logsURL is where the agent serves the raw log: its SSH server answers this
// address itself (spec: job-execution.md 9.6).
const logsURL = "ws://localhost:10999/logs_ws"

// Logs calls fn with the job's output, byte for byte, from its beginning or
// from since on, until the job has ended and everything was read. After the
// tunnel was made again it goes on where it stopped. It fails when the agent
// does not serve the log (any more), the tunnel or ctx ends, or with fn's error.
func (t *Tunnel) Logs(ctx context.Context, since *time.Time, fn func([]byte) error) error {
	address := logsURL
	if since != nil {
		address += "?start_time=" + url.QueryEscape(since.Format(time.RFC3339))
	}
	var read int64
	for {
		client, err := t.Client(ctx)
		if err != nil {
			return err
		}
		skip := read
		err = logsOnce(ctx, client, address, func(text []byte) error {
			// The log starts from its beginning each time.
			n := min(skip, int64(len(text)))
			skip, text = skip-n, text[n:]
			if len(text) == 0 {
				return nil
			}
			if err := fn(text); err != nil {
				return readerError{err}
			}
			read += int64(len(text))
			return nil
		})
		if failed, ok := errors.AsType[readerError](err); ok {
			return failed.err
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !endedWith(client, err):
			return err
		}
	}
}

// readerError is an error of the function that takes the log.
type readerError struct{ err error }

func (e readerError) Error() string { return e.err.Error() }

// endTime is how long the end of a connection may take to show, once a stream
// through it broke off.
const endTime = time.Second

// endedWith says whether a log broke off because its connection did.
func endedWith(client *sshlink.Client, err error) bool {
	if _, refused := errors.AsType[*ssh.OpenChannelError](err); refused || websocket.CloseStatus(err) != -1 {
		return client.Err() != nil
	}
	timer := time.NewTimer(endTime)
	defer timer.Stop()
	select {
	case <-client.Done():
		return true
	case <-timer.C:
		return false
	}
}

// logsOnce reads the log over one connection.
func logsOnce(ctx context.Context, client *sshlink.Client, address string, fn func([]byte) error) error {
	transport := &http.Transport{DialContext: client.DialContext}
	defer transport.CloseIdleConnections()
	conn, resp, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if resp != nil && resp.Body != nil {
		defer resp.Body.Close() //nolint:errcheck // an answer that is no log is dropped
	}
	if err != nil {
		return fmt.Errorf("read the job's log: %w", err)
	}
	defer conn.CloseNow() //nolint:errcheck // it has ended
	conn.SetReadLimit(-1) // frames are as large as the agent likes
	for {
		_, text, err := conn.Read(ctx)
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the job's log: %w", err)
		}
		if err := fn(text); err != nil {
			return err
		}
	}
}
