package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"dstack/sshlink"
)

// Way opens the byte stream to the SSH server of a job's agent. It is used
// again for each connection.
type Way interface {
	// Dial opens a new stream. Closing it frees all that was opened for it.
	Dial(ctx context.Context) (net.Conn, error)
	// String names the way in messages: "the host 192.0.2.7".
	String() string
}

// Direct is the way through the hosts. It remembers their keys: another key
// than the first time is an error.
type Direct struct {
	hops  []sshlink.Endpoint
	agent string // "host:port" as seen from the last hop

	mu   sync.Mutex
	keys []string // of the hops, empty until seen
}

// NewDirect makes the way to the agent at the address (host:port) through
// hops, in the order of dialling. Without hops the agent is dialled itself.
func NewDirect(hops []sshlink.Endpoint, agent string) *Direct {
	return &Direct{hops: hops, agent: agent, keys: make([]string, len(hops))}
}

// String names the first machine on the way.
func (d *Direct) String() string {
	if len(d.hops) > 0 {
		return "the host " + d.hops[0].Host
	}
	return "the job's SSH port at " + d.agent
}

// hopTimeout bounds the login at one hop.
const hopTimeout = 10 * time.Second

// Dial logs in at one hop after the other. Failures are of type
// *[sshlink.Error], which tells the hop.
func (d *Direct) Dial(ctx context.Context) (net.Conn, error) {
	stream := &chain{}
	dial := sshlink.Dialer((&net.Dialer{Timeout: hopTimeout}).DialContext)
	for i, hop := range d.hops {
		if key := d.key(i); key != "" {
			hop.HostKeys = []string{key}
		}
		client, err := sshlink.Dial(ctx, sshlink.Config{Endpoint: hop, Via: dial, Timeout: hopTimeout})
		if err != nil {
			return nil, errors.Join(jumpError(err), stream.Close())
		}
		d.learn(i, client.HostKey())
		stream.hops = append(stream.hops, client)
		dial = client.DialContext
	}
	conn, err := dial(ctx, "tcp", d.agent)
	if err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	stream.Conn = conn
	return stream, nil
}

// jumpError marks a failed login as that of a hop.
func jumpError(err error) error {
	if e, ok := errors.AsType[*sshlink.Error](err); ok {
		e.Jump = true
		return e
	}
	return err
}

func (d *Direct) key(i int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keys[i]
}

func (d *Direct) learn(i int, key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys[i] = key
}

// chain is a stream through hops that live as long as it does.
type chain struct {
	net.Conn

	hops []*sshlink.Client
}

// Cause is what the first of the hops that broke says; nil if none knows more
// than that its connection ended.
func (c *chain) Cause() error {
	for _, hop := range c.hops {
		if err := hop.Err(); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, sshlink.ErrClosed) {
			return err
		}
	}
	return nil
}

// Close ends the hops from the outside in, so that nothing waits for a peer
// that is gone.
func (c *chain) Close() error {
	var errs []error
	for _, hop := range c.hops {
		errs = append(errs, hop.Close())
	}
	if c.Conn != nil && len(c.hops) == 0 {
		errs = append(errs, c.Conn.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close way to the job: %w", err)
	}
	return nil
}
