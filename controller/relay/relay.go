// Package relay carries the bytes of SSH connections between the WebSockets of
// users and the SSH servers of their jobs. It cannot read them: SSH is between
// the user's client and the job. Nothing is kept: who reads slowly makes the
// other side wait.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Why a connection is ended from here; the user's side is told.
var (
	// ErrWithdrawn means that the user may not use it any more.
	ErrWithdrawn = errors.New("the access to the job was withdrawn")
	// ErrJobEnded means that there is nothing to reach any more.
	ErrJobEnded = errors.New("the job has ended")
	// ErrStopping means that this server stops; another try may find the next.
	ErrStopping = errors.New("the server stops")
	// ErrSilent means that the user's side shows no sign of life.
	ErrSilent = errors.New("no sign of life")
	// ErrTooMany refuses one more connection.
	ErrTooMany = errors.New("too many connections at once")
)

// Relays counts what is carried.
type Relays struct {
	limit int

	mu      sync.Mutex
	closed  bool
	byUser  map[string]int
	carried sync.WaitGroup
}

// New allows each user that many connections at once.
func New(limit int) *Relays { return &Relays{limit: limit, byUser: map[string]int{}} }

// Enter counts one more connection of a user, until leave is called. Fails
// with [ErrTooMany], and after Close with [ErrStopping].
func (r *Relays) Enter(user string) (leave func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrStopping
	}
	if r.byUser[user] >= r.limit {
		return nil, fmt.Errorf("%w: at most %d", ErrTooMany, r.limit)
	}
	r.byUser[user]++
	r.carried.Add(1)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.byUser[user]--; r.byUser[user] == 0 {
			delete(r.byUser, user)
		}
		r.carried.Done()
	}, nil
}

// Close lets nobody in any more and returns when everybody has left.
func (r *Relays) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.carried.Wait()
}

const (
	frameSize = 32 << 10
	// farewell is how long the user's side may take to agree to the end.
	farewell = time.Second
)

// Carry copies between a user's WebSocket and a job until one of them ends or
// ctx does, closes both, and returns why it ended: io.EOF when the job closed,
// the cause of ctx, or what failed. After a silence of the user's side it asks
// for a sign of life each keepAlive, and gives up when one more passes without
// any. A text message is a fault.
func Carry(ctx context.Context, ws *websocket.Conn, job net.Conn, keepAlive time.Duration) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	// To cut a read or a write of a WebSocket is to cut its farewell, too.
	life, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	ws.SetReadLimit(-1) // messages are passed on as they come, never kept
	c := &carrier{ws: ws, job: job, life: life}
	var workers sync.WaitGroup
	workers.Go(func() { end(c.up()) })
	workers.Go(func() { end(c.down()) })
	workers.Go(func() { end(c.watch(ctx, keepAlive)) })
	<-ctx.Done()
	cause := context.Cause(ctx)
	_ = job.Close() // ends both copies; what they say then is no news
	late := time.AfterFunc(farewell, cut)
	_ = ws.Close(code(cause), reason(cause)) // the other side may be gone
	late.Stop()
	cut()
	workers.Wait()
	return cause
}

type carrier struct {
	ws   *websocket.Conn
	job  net.Conn
	life context.Context //nolint:containedctx // that of reads and writes of the WebSocket
	// moved counts what passed in both directions.
	moved atomic.Int64
}

// up copies from the user to the job.
func (c *carrier) up() error {
	buf := make([]byte, frameSize)
	for {
		kind, message, err := c.ws.Reader(c.life)
		if err != nil {
			return fmt.Errorf("read from the user: %w", err)
		}
		if kind != websocket.MessageBinary {
			return errText
		}
		// Hidden behind plain interfaces, both are copied through buf.
		if _, err := io.CopyBuffer(&counted{c.job, &c.moved}, struct{ io.Reader }{message}, buf); err != nil {
			return fmt.Errorf("pass on to the job: %w", err)
		}
	}
}

// down copies from the job to the user.
func (c *carrier) down() error {
	buf := make([]byte, frameSize)
	for {
		n, err := c.job.Read(buf)
		if n > 0 {
			if err := c.ws.Write(c.life, websocket.MessageBinary, buf[:n]); err != nil {
				return fmt.Errorf("send to the user: %w", err)
			}
			c.moved.Add(int64(n))
		}
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		if err != nil {
			return fmt.Errorf("read from the job: %w", err)
		}
	}
}

// watch asks the user's side for a sign of life. What is under way may delay
// it, so whatever moves counts as one.
func (c *carrier) watch(ctx context.Context, keepAlive time.Duration) error {
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		before := c.moved.Load()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if c.moved.Load() != before {
			continue
		}
		asked, cancel := context.WithTimeout(ctx, keepAlive)
		err := c.ws.Ping(asked)
		cancel()
		if err != nil && c.moved.Load() == before {
			return ErrSilent
		}
	}
}

// counted counts what is written.
type counted struct {
	io.Writer

	n *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n.Add(int64(n))
	return n, err //nolint:wrapcheck // a plain writer
}

var errText = errors.New("only binary messages are carried")

// code is how a WebSocket says why it ends.
func code(cause error) websocket.StatusCode {
	switch {
	case errors.Is(cause, io.EOF), errors.Is(cause, ErrJobEnded):
		return websocket.StatusNormalClosure
	case errors.Is(cause, ErrStopping):
		return websocket.StatusGoingAway
	case errors.Is(cause, ErrWithdrawn), errors.Is(cause, ErrSilent):
		return websocket.StatusPolicyViolation
	case errors.Is(cause, errText):
		return websocket.StatusUnsupportedData
	}
	return websocket.StatusBadGateway
}

// reason is what the user's side may know.
func reason(cause error) string {
	for _, known := range []error{ErrWithdrawn, ErrJobEnded, ErrStopping, ErrSilent, errText} {
		if errors.Is(cause, known) {
			return known.Error()
		}
	}
	if errors.Is(cause, io.EOF) {
		return ""
	}
	return "the connection to the job was lost"
}
