// Package fluentbit sends logs to Fluent Bit or Fluentd, by the forward protocol
// or HTTP, with the records of 0.22.5 (spec: server-operations.md 6). It can
// only write: what becomes of the records is up to the receiver.
//
// The forward protocol is version 1 of
// https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1: a
// message in Forward mode with a chunk, which the receiver acknowledges.
package fluentbit

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"dstack/controller/logs"
	"dstack/controller/logs/ship"
)

// Variables say where the receiver is.
const (
	VariableHost     = "DSTACK_SERVER_FLUENTBIT_HOST"
	VariablePort     = "DSTACK_SERVER_FLUENTBIT_PORT"
	VariableProtocol = "DSTACK_SERVER_FLUENTBIT_PROTOCOL"
	VariablePrefix   = "DSTACK_SERVER_FLUENTBIT_TAG_PREFIX"
)

// Protocols of a receiver.
const (
	Forward = "forward"
	HTTP    = "http"
)

const (
	// delay is how long lines wait for more.
	delay = time.Second
	// maxEvents is how many records are sent at once, as 0.22.5 does.
	maxEvents = 100
	// maxBytes is what they may have: Fluent Bit refuses messages that are larger
	// than its buffer, of a few MiB if nothing else is set.
	maxBytes = 1 << 20
	// answerLimit is how long the receiver may take for its answer.
	answerLimit = 10 * time.Second
)

// Options say where the receiver is.
type Options struct {
	Host     string
	Port     int
	Protocol string // Forward or HTTP
	Prefix   string // of tags
}

// Receiver is a Fluent Bit or Fluentd.
type Receiver struct {
	opts Options
	send func(ctx context.Context, m message) error
}

// message are records with one tag. Its id is the same each time that it is
// sent.
type message struct {
	tag, stream, id string
	events          []logs.Event
}

// New returns a receiver. Nothing is sent yet.
func New(opts Options) *Receiver {
	r := &Receiver{opts: opts}
	r.send = r.forward
	if opts.Protocol == HTTP {
		r.send = r.post
	}
	return r
}

// Name is the receiver's address as a URL.
func (r *Receiver) Name() string { return r.opts.Protocol + "://" + r.address() }

func (r *Receiver) address() string {
	return net.JoinHostPort(r.opts.Host, strconv.Itoa(r.opts.Port))
}

// Traits say that events wait a moment for more.
func (*Receiver) Traits() ship.Traits { return ship.Traits{Delay: delay} }

// Check connects.
func (r *Receiver) Check(ctx context.Context) error {
	conn, err := r.dial(ctx)
	if err != nil {
		return &ship.UnreachableError{Err: r.failed(err)}
	}
	return conn.Close()
}

func (r *Receiver) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", r.address())
}

func (r *Receiver) failed(err error) error {
	return fmt.Errorf("Fluent Bit at %s: %w", r.Name(), err) //nolint:staticcheck // a name
}

// Put sends some of the events and waits until the receiver has them.
func (r *Receiver) Put(ctx context.Context, b ship.Batch) (int, error) {
	n, size := 0, 0
	for n < min(len(b.Events), maxEvents) {
		size += len(b.Events[n].Data)
		if n > 0 && size > maxBytes {
			break
		}
		n++
	}
	producer, job := b.Key.Producer()
	parts := []string{b.Key.Project, b.Key.Run, job, producer}
	m := message{
		tag: r.opts.Prefix + "." + strings.Join(parts, "."), stream: strings.Join(parts, "/"),
		id: job + "-" + producer + "-" + strconv.FormatInt(b.First.Event, 10), events: b.Events[:n],
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	if err := r.send(ctx, m); err != nil {
		return 0, r.failed(err)
	}
	return n, nil
}

// readLimit bounds what is read of an answer.
const readLimit = 64 << 10

func limited(r io.Reader) io.Reader { return io.LimitReader(r, readLimit) }
