// Package ship copies logs from the disk to the storage that is set. The disk
// stays the first place of every line: a storage that is slow or away costs
// nobody a line, only time. Each log is copied in its order, and how far is
// recorded beside it after the storage has it: after a crash the last batch
// may come again, and storages drop what they have where they can tell.
package ship

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/logs"
)

const (
	// workers is how many logs are sent at once.
	workers = 8
	// putLimit is how long a storage may take for one batch.
	putLimit = 30 * time.Second
	// full is how many bytes are sent at once rather than after the delay.
	full = 1 << 20
	// maxBackoff is the longest pause after a failure; it begins with a second.
	maxBackoff = 30 * time.Second
	// maxEvents bounds a batch.
	maxEvents = 10_000
	// flushLimit is how long what is left is sent at the end.
	flushLimit = 1500 * time.Millisecond
)

// UnreachableError means that a storage gives no answer, or none that says that
// anything is wrong with its settings.
type UnreachableError struct{ Err error }

func (e *UnreachableError) Error() string { return e.Err.Error() }

func (e *UnreachableError) Unwrap() error { return e.Err }

// Batch is what a storage is asked to keep: consecutive events of one log.
type Batch struct {
	Key logs.Key
	logs.Batch
	// Resumed says that what is sent may be there already: it is the first of this
	// log that this process sends, or the last attempt failed.
	Resumed bool
}

// Backend is a storage of logs. Its methods are safe for concurrent use; of one
// log there is one Put at a time.
type Backend interface {
	// Name says where logs go: for people, and to know one's own positions.
	Name() string
	// Put stores events; its errors name the storage. It returns how many of them,
	// counted from the first, are stored then: less than all only to be called
	// again with the rest.
	Put(ctx context.Context, b Batch) (stored int, err error)
	// Traits say how it wants its batches.
	Traits() Traits
}

// Traits are what differs between storages.
type Traits struct {
	// Delay is how long bytes may wait for more before they are sent.
	Delay time.Duration
	// Grows says that a batch that is no full one is sent again later, with more
	// behind it: the storage replaces what it has of it.
	Grows bool
}

// Store is where logs lie; see [logs.Store].
type Store interface {
	List(ctx context.Context, fn func(logs.Entry) error) error
	Batch(k logs.Key, from int64, limit int) (logs.Batch, error)
	Shipped(k logs.Key, to string) (logs.Position, error)
	SetShipped(k logs.Key, p logs.Position) error
}

// Text is what an event says, for storages that keep text: bytes that are no
// UTF-8 are replaced, as logs/poll does.
func Text(data []byte) string { return strings.ToValidUTF8(string(data), "\uFFFD") }

// Options say what is copied where.
type Options struct {
	Store   Store
	Backend Backend
	Log     zerolog.Logger
}

// Status is how the copying stands.
type Status struct {
	// Bytes wait, the oldest of them for Lag.
	Bytes int64
	Lag   time.Duration
	// Failures counts attempts that failed; Failing says that the last one of
	// some log did.
	Failures int64
	Failing  bool
}

// Shipper copies logs. Appended and Status may be called at any time.
type Shipper struct {
	opts   Options
	traits Traits
	wake   chan struct{}

	mu       sync.Mutex
	waiting  map[logs.Key]*waiting
	busy     int
	failing  int // logs whose last attempt failed
	failures int64
	sent     map[logs.Key]struct{} // by this process
}

// waiting is a log that has more than the storage.
type waiting struct {
	size    int64 // bytes of the log, as far as known
	shipped int64
	since   time.Time // when the oldest byte that waits came
	due     time.Time
	busy    bool
	fails   int
	idle    bool // the last attempt found nothing to send
}

// maxSent bounds the memory of what was sent; what is forgotten counts as
// resumed.
const maxSent = 10_000

// New makes a shipper; Run does the work.
func New(opts Options) *Shipper {
	return &Shipper{
		opts: opts, traits: opts.Backend.Traits(), wake: make(chan struct{}, 1),
		waiting: map[logs.Key]*waiting{}, sent: map[logs.Key]struct{}{},
	}
}

// Appended says that a log has grown to size bytes. It never blocks.
func (s *Shipper) Appended(k logs.Key, before, size int64) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting[k]
	if w == nil {
		w = &waiting{since: now, due: now.Add(s.traits.Delay), shipped: before}
		s.waiting[k] = w
	}
	w.size = max(w.size, size)
	if w.fails == 0 && w.size-w.shipped >= full && now.Before(w.due) {
		w.due = now
	}
	s.signal()
}

func (s *Shipper) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // a value is waiting already
	}
}

// Status says how it stands.
func (s *Shipper) Status() Status {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Failures: s.failures, Failing: s.failing > 0}
	for _, w := range s.waiting {
		st.Bytes += max(0, w.size-w.shipped)
		st.Lag = max(st.Lag, now.Sub(w.since))
	}
	return st
}

// Run copies until ctx ends, and then what is left for a moment. It begins
// with what earlier processes left.
func (s *Shipper) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.find(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(s.start(work, &running))
		select {
		case <-ctx.Done():
			s.flush(work, &running)
			stop()
			return nil
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// find looks for logs that have more than the storage.
func (s *Shipper) find(ctx context.Context) {
	err := s.opts.Store.List(ctx, func(e logs.Entry) error {
		// An error shows again when the log is sent.
		p, err := s.opts.Store.Shipped(e.Key, s.opts.Backend.Name())
		if err == nil && p.Next.Offset >= e.Size {
			return nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		w := s.waiting[e.Key]
		if w == nil {
			w = &waiting{since: e.Written, due: time.Now()}
			s.waiting[e.Key] = w
		}
		w.size, w.shipped = max(w.size, e.Size), p.Next.Offset
		s.signal()
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.opts.Log.Error().Err(err).Msg("Logs of earlier jobs could not be looked through: some may not reach the log storage before the next start")
	}
}

// start begins with logs that are due, and says when the next one will be.
func (s *Shipper) start(ctx context.Context, running *sync.WaitGroup) time.Duration {
	now := time.Now()
	next := time.Hour
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, w := range s.waiting {
		if w.busy {
			continue
		}
		if wait := w.due.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		if s.busy >= workers {
			break // each one that ends wakes Run
		}
		w.busy = true
		s.busy++
		_, known := s.sent[k]
		running.Go(func() { s.finish(k, w, s.ship(ctx, k, !known)) })
	}
	return next
}

// flush sends what waits, without delay, for as long as there is time.
func (s *Shipper) flush(ctx context.Context, running *sync.WaitGroup) {
	ctx, cancel := context.WithTimeout(ctx, flushLimit)
	defer cancel()
	for {
		s.mu.Lock()
		left := 0
		for _, w := range s.waiting {
			if w.fails == 0 && !w.idle {
				w.due = time.Time{}
				left++
			}
		}
		s.mu.Unlock()
		if left == 0 {
			return
		}
		s.start(ctx, running)
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
	}
}

// outcome is what one attempt achieved.
type outcome struct {
	position logs.Position
	size     int64
	more     bool // there are more events now
	gone     bool
	err      error
}

// ship sends one batch.
func (s *Shipper) ship(ctx context.Context, k logs.Key, resumed bool) outcome {
	p, err := s.opts.Store.Shipped(k, s.opts.Backend.Name())
	if err != nil {
		return outcome{err: err}
	}
	out := outcome{position: p}
	b, err := s.opts.Store.Batch(k, p.Piece.Event, maxEvents)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		out.gone = true
		return out
	case err != nil:
		out.err = err
		return out
	}
	out.size = b.Size
	if len(b.Events) == 0 || b.End.Event <= p.Next.Event {
		return out
	}
	whole := b.More || len(b.Events) == maxEvents || b.End.Offset-b.First.Offset >= full
	ctx, cancel := context.WithTimeout(ctx, putLimit)
	defer cancel()
	n, err := s.opts.Backend.Put(ctx, Batch{Key: k, Batch: b, Resumed: resumed})
	if err != nil {
		out.err = err
		return out
	}
	end := b.End
	if n < len(b.Events) {
		end = logs.Mark{Event: b.First.Event + int64(n), Offset: b.Events[n].Offset}
	}
	out.more = b.More || n < len(b.Events)
	out.position.Next = end
	if out.position.Piece = end; s.traits.Grows && !whole {
		out.position.Piece = b.First
	}
	if out.err = s.opts.Store.SetShipped(k, out.position); errors.Is(out.err, fs.ErrNotExist) {
		out.gone, out.err = true, nil // it was removed meanwhile
	}
	return out
}

// finish takes the outcome of an attempt.
func (s *Shipper) finish(k logs.Key, w *waiting, out outcome) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	w.busy = false
	s.signal()
	if out.err != nil {
		s.failed(k, w, out.err, now)
		return
	}
	if w.fails > 0 {
		s.recovered(w)
	}
	s.remember(k)
	w.idle = w.shipped == out.position.Next.Offset && !out.more
	w.size = max(w.size, out.size)
	w.shipped = out.position.Next.Offset
	switch {
	case out.gone || w.shipped >= w.size:
		delete(s.waiting, k)
	case out.more:
		w.due = now
	default:
		// It grew meanwhile, or its last character is not complete.
		w.since, w.due = now, now.Add(max(s.traits.Delay, time.Second))
	}
}

func (s *Shipper) remember(k logs.Key) {
	if len(s.sent) >= maxSent {
		clear(s.sent)
	}
	s.sent[k] = struct{}{}
}

func (s *Shipper) failed(k logs.Key, w *waiting, err error, now time.Time) {
	s.failures++
	delete(s.sent, k)
	if w.fails == 0 {
		s.failing++
	}
	if w.fails == 0 && s.failing == 1 {
		s.opts.Log.Warn().Err(err).Msg("Logs don't reach the log storage; they are kept on the disk and sent later")
	}
	w.due = now.Add(min(time.Second<<min(w.fails, 5), maxBackoff))
	w.fails++
}

// recovered is called when a log that failed goes on: so may the others.
func (s *Shipper) recovered(w *waiting) {
	w.fails = 0
	s.failing--
	if s.failing == 0 {
		s.opts.Log.Info().Msg("Logs reach the log storage again")
	}
	for _, other := range s.waiting {
		if other.fails > 0 && !other.busy {
			other.due = time.Time{}
		}
	}
}
