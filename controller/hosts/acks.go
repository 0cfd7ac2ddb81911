package hosts

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"sync"

	"dstack/protocol/hostapi"
)

// acks collects what is to be acknowledged while a line is being written, so
// that one line says all of it.
type acks struct {
	mu      sync.Mutex
	next    hostapi.Ack
	changed chan struct{} // holds one token while next is to be sent
}

func newAcks(first hostapi.Ack) *acks {
	first.Logs = maps.Clone(first.Logs)
	a := &acks{next: first, changed: make(chan struct{}, 1)}
	a.changed <- struct{}{}
	return a
}

// events acknowledges all events up to seq.
func (a *acks) events(seq uint64) {
	a.update(func(n *hostapi.Ack) { n.Seq = seq })
}

// log acknowledges a log up to size.
func (a *acks) log(task string, size int64) {
	a.update(func(n *hostapi.Ack) {
		if n.Logs == nil {
			n.Logs = map[string]int64{}
		}
		n.Logs[task] = size
	})
}

// resend asks for a log again from an offset.
func (a *acks) resend(task string, from int64) {
	a.update(func(n *hostapi.Ack) {
		if n.Resend == nil {
			n.Resend = map[string]int64{}
		}
		n.Resend[task] = from
	})
}

func (a *acks) update(change func(*hostapi.Ack)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.next)
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// run writes acknowledgements as lines until ctx ends or the writer fails.
func (a *acks) run(ctx context.Context, w io.Writer) error {
	enc := json.NewEncoder(w)
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("write acknowledgements: %w", context.Cause(ctx))
		case <-a.changed:
		}
		a.mu.Lock()
		line := a.next
		a.next = hostapi.Ack{Seq: line.Seq}
		a.mu.Unlock()
		if err := enc.Encode(line); err != nil {
			return fmt.Errorf("write acknowledgements: %w", err)
		}
	}
}
