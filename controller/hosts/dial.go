package hosts

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// loopback is where the ports of tasks are on their hosts (hostapi.Task.Ports).
const loopback = "127.0.0.1"

// Dial opens a connection to a port on the loopback interface of a host. Through
// SSH it is one more channel of the connection that there is already; it has no
// deadlines then, and ends with that connection. Fails with [ErrDown] if there
// is none.
func (p *Pool) Dial(ctx context.Context, instanceID string, port int) (net.Conn, error) {
	c, err := p.connectionOf(instanceID)
	if err != nil {
		return nil, err
	}
	dial := (&net.Dialer{}).DialContext
	if c.under != nil {
		dial = c.under.DialContext
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("connect to port %d of the host: %w", port, err)
	}
	return conn, nil
}
