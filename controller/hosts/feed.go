package hosts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
)

// A final state waits for a log of which nothing more comes: each logStall
// the rest is asked for again, and after logTries the state is handed over
// with a note, for a run must end.
const (
	logStall = 10 * time.Second
	logTries = 6
)

// feed hands the events of one stream over, in order. A final state, and what
// comes after it, waits until the log of its task is stored.
type feed struct {
	instance string
	observer Observer
	logs     LogSink
	acks     *acks
	log      zerolog.Logger
	// up is called with the Hello, after which calls may be made.
	up func(ctx context.Context, hello hostapi.Hello) error
	// seq is the last event handed over; moved tells the owner of the stream.
	seq   uint64
	moved func(seq uint64)

	// last is the newest event received, 0 before the first.
	last   uint64
	stored map[string]int64 // log sizes, as far as known
	asked  map[string]int64 // offsets that a resend was asked for
	wait   []numbered       // not handed over yet; the first lacks its log
	stall  time.Duration    // logStall
	tries  int              // of the log that is waited for
}

type numbered struct {
	seq  uint64
	task hostapi.Task
}

// run works until the events end or something cannot go on.
func (f *feed) run(ctx context.Context, events <-chan hostapi.Event) error {
	stall := time.NewTimer(helloTimeout)
	defer stall.Stop()
	greeted := false
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("handle events: %w", context.Cause(ctx))
		case <-stall.C:
			if !greeted {
				return errors.New("the shim did not start the event stream in time")
			}
			if err := f.stalled(ctx); err != nil {
				return err
			}
			stall.Reset(f.stall)
		case e, ok := <-events:
			if !ok {
				return nil // the reader says why
			}
			if !greeted {
				if e.Hello == nil {
					return errors.New("the shim's first event is no hello")
				}
				greeted = true
				stall.Reset(f.stall)
			}
			progress, err := f.handle(ctx, e)
			if err != nil {
				return err
			}
			if progress {
				f.tries = 0
				stall.Reset(f.stall)
			}
		}
	}
}

// handle takes one event; progress says that something moved that a waiting
// final state may wait for.
func (f *feed) handle(ctx context.Context, e hostapi.Event) (progress bool, err error) {
	switch {
	case e.Hello != nil:
		return false, f.up(ctx, *e.Hello)
	case e.Task != nil:
		return f.task(ctx, numbered{e.Seq, *e.Task})
	case e.Log != nil:
		return f.chunk(ctx, e.Log)
	case e.Pull != nil:
		f.observer.PullProgress(e.Pull.TaskID, e.Pull.Progress)
	case e.Usage != nil:
		f.observer.TaskUsed(f.instance, *e.Usage)
	case e.Info != nil:
		return false, retry(ctx, f.log, "store host facts", func() error {
			return f.observer.HostInfo(ctx, f.instance, *e.Info)
		})
	}
	return false, nil
}

func (f *feed) task(ctx context.Context, n numbered) (bool, error) {
	// The first event may leave a gap: another server took those before it.
	if f.last != 0 && n.seq > f.last+1 {
		return false, fmt.Errorf("event %d came after event %d", n.seq, f.last)
	}
	if n.seq <= max(f.last, f.seq) {
		f.acks.events(f.seq)
		return false, nil
	}
	f.last = n.seq
	f.wait = append(f.wait, n)
	return len(f.wait) == 1, f.handOver(ctx)
}

// handOver gives the observer all waiting events whose logs are complete.
func (f *feed) handOver(ctx context.Context) error {
	for len(f.wait) > 0 {
		n := f.wait[0]
		if n.task.PlainSize != nil {
			size, err := f.size(ctx, n.task.ID)
			if err != nil {
				return err
			}
			if size < *n.task.PlainSize {
				return nil
			}
		}
		if err := f.give(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (f *feed) give(ctx context.Context, n numbered) error {
	err := retry(ctx, f.log, "store task event", func() error {
		return f.observer.TaskChanged(ctx, f.instance, n.seq, n.task)
	})
	if err != nil {
		return err
	}
	f.wait = f.wait[1:]
	if n.task.State == hostapi.TaskTerminated {
		delete(f.stored, n.task.ID)
		delete(f.asked, n.task.ID)
	}
	f.seq = n.seq
	f.moved(n.seq)
	f.acks.events(n.seq)
	return nil
}

// stalled asks for the rest of the log that is waited for, and in the end
// hands the final state over without it.
func (f *feed) stalled(ctx context.Context) error {
	if len(f.wait) == 0 {
		return nil
	}
	n := f.wait[0]
	size := f.stored[n.task.ID]
	if f.tries++; f.tries <= logTries {
		delete(f.asked, n.task.ID)
		f.askAgain(n.task.ID, size)
		return nil
	}
	f.tries = 0
	note := fmt.Sprintf("the log is incomplete: %d of %d bytes arrived from the host", size, *n.task.PlainSize)
	if n.task.Message != "" {
		note = n.task.Message + " (" + note + ")"
	}
	n.task.Message = note
	f.log.Warn().Str("instance", f.instance).Str("job", n.task.ID).
		Int64("stored", size).Int64("size", *n.task.PlainSize).Msg("log incomplete")
	if err := f.give(ctx, n); err != nil {
		return err
	}
	return f.handOver(ctx)
}

func (f *feed) chunk(ctx context.Context, c *hostapi.LogChunk) (bool, error) {
	size, err := f.size(ctx, c.TaskID)
	if err != nil {
		return false, err
	}
	end := c.Offset + int64(len(c.Data))
	switch {
	case c.Offset > size:
		f.askAgain(c.TaskID, size)
		return false, nil
	case end <= size:
		f.acks.log(c.TaskID, size)
		return false, nil
	}
	err = retry(ctx, f.log, "store log", func() (err error) {
		size, err = f.logs.Append(ctx, f.instance, c.TaskID, c.Offset, c.At, c.Data)
		return err
	})
	if err != nil {
		return false, err
	}
	grown := size > f.stored[c.TaskID]
	f.stored[c.TaskID] = size
	awaited := len(f.wait) > 0 && f.wait[0].task.ID == c.TaskID
	if size < end { // the store has lost something
		f.askAgain(c.TaskID, size)
		return grown && awaited, nil
	}
	delete(f.asked, c.TaskID)
	f.acks.log(c.TaskID, size)
	// A neighbour that talks all the time must not hold the others for ever.
	return awaited, f.handOver(ctx)
}

// askAgain asks once for each offset: what was under way is dropped until the
// resent part comes.
func (f *feed) askAgain(task string, from int64) {
	if at, ok := f.asked[task]; ok && at == from {
		return
	}
	f.asked[task] = from
	f.log.Warn().Str("instance", f.instance).Str("job", task).Int64("offset", from).Msg("log gap")
	f.acks.resend(task, from)
}

func (f *feed) size(ctx context.Context, task string) (int64, error) {
	if size, ok := f.stored[task]; ok {
		return size, nil
	}
	var size int64
	err := retry(ctx, f.log, "read log size", func() (err error) {
		size, err = f.logs.Size(ctx, f.instance, task)
		return err
	})
	if err != nil {
		return 0, err
	}
	f.stored[task] = size
	return size, nil
}

// retry does something until it works or ctx ends. Meanwhile nothing more is
// read, so the shim keeps what it has.
func retry(ctx context.Context, log zerolog.Logger, what string, do func() error) error {
	for n := 0; ; n++ {
		err := do()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			log.Error().Err(err).Str("step", what).Int("attempt", n+1).Msg("store failed")
		}
		if err := sleep(ctx, double(50*time.Millisecond, n, 5*time.Second)); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
