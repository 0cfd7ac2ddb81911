package hosts

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"dstack/protocol/hostapi"
)

// helloTimeout is how long a shim may take to start the stream.
const helloTimeout = 15 * time.Second

// errStreamEnded says that the shim closed the stream.
var errStreamEnded = errors.New("the shim closed the connection")

var errLongLine = fmt.Errorf("the shim sent a line of more than %d bytes", hostapi.MaxLine)

// stream carries what happens on one host to the observer and the log sink,
// until the connection ends. first is the acknowledgement that opens it.
func (l *link) stream(ctx context.Context, first hostapi.Ack, f *feed) error {
	group, ctx := errgroup.WithContext(ctx)
	body, lines := io.Pipe()
	acks := newAcks(first)
	f.acks = acks
	events := make(chan hostapi.Event, 8)

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://shim/v1/stream", body)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set(hostapi.ServerHeader, l.server)
	group.Go(func() error {
		err := acks.run(ctx, lines)
		_ = lines.CloseWithError(err) // never fails
		return err
	})
	group.Go(func() error {
		defer close(events)
		defer body.Close() //nolint:errcheck // unblocks the writer of acks; never fails
		resp, err := l.conn.RoundTrip(req)
		if err != nil {
			return fmt.Errorf("%w: %w", errStreamEnded, err)
		}
		defer resp.Body.Close() //nolint:errcheck // only read
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("open stream: %w", answerError(resp))
		}
		return readEvents(ctx, resp.Body, events)
	})
	group.Go(func() error { return f.run(ctx, events) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("event stream: %w", err)
	}
	return nil
}

// readEvents decodes lines until the stream ends, which is an error.
func readEvents(ctx context.Context, r io.Reader, to chan<- hostapi.Event) error {
	buf := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(buf, hostapi.MaxLine)
		if errors.Is(err, errLongLine) {
			return err
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errStreamEnded, err)
		}
		event, err := decodeEvent(line)
		if err != nil {
			return err
		}
		select {
		case to <- event:
		case <-ctx.Done():
			return fmt.Errorf("read events: %w", context.Cause(ctx))
		}
	}
}

// readLine reads up to and without the next newline, at most limit bytes. The
// slice is valid until the next call if it fits the buffer.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var long []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(long)+len(part) > limit {
			return nil, errLongLine
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, part...)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read line: %w", err)
		}
		part = part[:len(part)-1]
		if long == nil {
			return part, nil
		}
		return append(long, part...), nil
	}
}

// decodeEvent checks what the rest relies on.
func decodeEvent(line []byte) (hostapi.Event, error) {
	var e hostapi.Event
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("decode event: %w", err)
	}
	switch {
	case e.Task != nil && (e.Seq == 0 || e.Task.ID == ""):
		return e, errors.New("decode event: a task event without number or id")
	case e.Log != nil && (e.Log.TaskID == "" || e.Log.Offset < 0 || len(e.Log.Data) == 0):
		return e, errors.New("decode event: a log chunk without task, offset or data")
	case e.Pull != nil && e.Pull.TaskID == "":
		return e, errors.New("decode event: pull progress without task")
	case e.Usage != nil && (e.Usage.TaskID == "" || len(e.Usage.Usage.GPUs) > hostapi.MaxGPUs):
		return e, errors.New("decode event: usage without task, or of too many accelerators")
	}
	return e, nil
}
