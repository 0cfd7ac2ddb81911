package shim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dstack/protocol/hostapi"
	"dstack/shim/agentlink"
)

// stream is one connection of the controller: events, logs and progress go
// out, acknowledgements come in.
type stream struct {
	m     *Manager
	out   *bufio.Writer
	flush func() error
	// later wakes the stream within pullEvery, for news that may wait.
	later signal
	buf   []byte

	// These are the sending goroutine's own.
	seq  uint64 // of the last event that was sent
	info int    // number of the info that was sent last
	logs map[string]*agentlink.Log

	mu sync.Mutex
	// sent is where the log of each task goes on, acked up to where the
	// controller has it.
	sent, acked map[string]int64
}

// errReplaced ends a stream when the controller opened another.
var errReplaced = errors.New("another stream was opened")

// Serve speaks [hostapi] on an open stream until the peer goes away, ctx
// ends, or another stream is opened. cut is called to unblock reads and
// writes. It returns nil if the peer closed it properly.
func (m *Manager) Serve(ctx context.Context, in io.Reader, out io.Writer, flush func() error, cut func()) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 4096), hostapi.MaxLine)
	var first hostapi.Ack
	if err := nextAck(lines, &first); err != nil {
		return err
	}
	if err := m.journal.Ack(first.Seq); err != nil {
		return fmt.Errorf("take first acknowledgement: %w", err)
	}
	s := &stream{
		m: m, out: bufio.NewWriterSize(out, 64<<10), flush: flush, later: make(signal, 1),
		buf: make([]byte, hostapi.MaxChunk), seq: first.Seq,
		logs: map[string]*agentlink.Log{}, sent: map[string]int64{}, acked: map[string]int64{},
	}
	for id, offset := range first.Logs {
		s.sent[id], s.acked[id] = max(offset, 0), max(offset, 0)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	release := m.streams.enter(cancel)
	defer release()
	if m.journal.Forgot(first.Seq) {
		if err := m.tellAgain(); err != nil {
			return err
		}
	}
	m.setStream(s)
	defer m.setStream(nil)
	defer s.closeLogs()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		cut()
		return nil
	})
	g.Go(func() error { return s.receive(lines) })
	g.Go(func() error { return s.send(ctx) })
	err := g.Wait()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(context.Cause(ctx), errReplaced):
		return errReplaced
	}
	return err
}

func (m *Manager) setStream(s *stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stream = s
}

// turnstile lets one stream in at a time: entering ends the one inside, and
// waits until it has left.
type turnstile struct {
	mu   sync.Mutex
	out  context.CancelCauseFunc
	left chan struct{}
}

func (t *turnstile) enter(cancel context.CancelCauseFunc) (release func()) {
	mine := make(chan struct{})
	t.mu.Lock()
	before, left := t.out, t.left
	t.out, t.left = cancel, mine
	t.mu.Unlock()
	if before != nil {
		before(errReplaced)
		<-left
	}
	return func() { close(mine) }
}

func nextAck(lines *bufio.Scanner, a *hostapi.Ack) error {
	if !lines.Scan() {
		if err := lines.Err(); err != nil {
			return fmt.Errorf("read acknowledgement: %w", err)
		}
		return io.EOF
	}
	if err := json.Unmarshal(lines.Bytes(), a); err != nil {
		return fault(hostapi.CodeBadRequest, "acknowledgement is not JSON: %v", err)
	}
	return nil
}

// receive takes acknowledgements until the peer ends them.
func (s *stream) receive(lines *bufio.Scanner) error {
	for {
		var a hostapi.Ack
		if err := nextAck(lines, &a); err != nil {
			return err
		}
		// A number that was never sent can only be a mistake of the peer.
		if a.Seq < s.m.journal.NextSeq() {
			if err := s.m.journal.Ack(a.Seq); err != nil {
				return fmt.Errorf("take acknowledgement: %w", err)
			}
		}
		s.mu.Lock()
		for id, offset := range a.Logs {
			s.acked[id] = max(s.acked[id], min(offset, s.sent[id]))
		}
		for id, offset := range a.Resend {
			back := max(0, min(offset, s.sent[id]))
			s.sent[id], s.acked[id] = back, min(back, s.acked[id])
		}
		s.mu.Unlock()
		s.m.wake()
	}
}

// send sends what there is, then waits for more.
func (s *stream) send(ctx context.Context) error {
	info, number := s.m.facts.get()
	s.info = number
	err := s.write(hostapi.Event{Hello: &hostapi.Hello{Info: info, NextSeq: s.m.journal.NextSeq(), Tasks: s.m.List()}})
	if err := errors.Join(err, s.sendUsage()); err != nil {
		return err
	}
	var soon <-chan time.Time
	for {
		more, err := s.round()
		if err != nil {
			return err
		}
		if more {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			continue
		}
		if err := errors.Join(s.out.Flush(), s.flush()); err != nil {
			return fmt.Errorf("send to controller: %w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.m.news:
		case <-s.later:
			if soon == nil {
				soon = time.After(pullEvery)
			}
		case <-soon:
			soon = nil
			if err := errors.Join(s.sendPulls(), s.sendUsage()); err != nil {
				return err
			}
		}
	}
}

// round sends a little of everything and says whether there may be more.
func (s *stream) round() (more bool, err error) {
	if info, number := s.m.facts.get(); number != s.info {
		s.info = number
		if err := s.write(hostapi.Event{Info: &info}); err != nil {
			return false, err
		}
	}
	sent, err := s.sendEvents()
	if err != nil {
		return false, err
	}
	more = sent
	for _, t := range s.m.all() {
		sent, err := s.sendLog(t)
		if err != nil {
			return false, err
		}
		published, err := s.publishEnd(t)
		if err != nil {
			return false, err
		}
		more = more || sent || published
	}
	return more, nil
}

func (s *stream) write(e hostapi.Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	if _, err := s.out.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("send to controller: %w", err)
	}
	return nil
}

// sendEvents sends events in their order. A final state waits until the log
// of its task was sent, and all events after it wait, too; that happens only
// with states that an earlier stream published and lost.
func (s *stream) sendEvents() (bool, error) {
	entries := s.m.journal.After(s.seq, 64)
	for i, e := range entries {
		if e.Task.State == hostapi.TaskTerminated && !s.logSent(e.Task.ID) {
			return i > 0, nil
		}
		if err := s.write(hostapi.Event{Seq: e.Seq, Task: &e.Task}); err != nil {
			return false, err
		}
		s.seq = e.Seq
	}
	return len(entries) > 0, nil
}

// logSent says whether the whole log of an ended task was sent.
func (s *stream) logSent(id string) bool {
	t := s.m.task(id)
	if t == nil { // it was removed, with its log
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent[id] >= t.available()
}

// publishEnd publishes a task's final state once its log was sent.
func (s *stream) publishEnd(t *task) (bool, error) {
	rec := t.record()
	if !rec.ended() || rec.Published || rec.Removing || !s.logSent(t.id) {
		return false, nil
	}
	return true, s.m.publish(t)
}

func (s *stream) sendPulls() error {
	for _, t := range s.m.all() {
		if p := t.takePull(); p != nil {
			if err := s.write(hostapi.Event{Pull: &hostapi.PullUpdate{TaskID: t.id, Progress: *p}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// available is how much of the task's log can be sent now.
func (t *task) available() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rec.ended() && t.rec.Task.PlainSize != nil {
		return *t.rec.Task.PlainSize
	}
	return t.plain
}

// sendLog sends one piece of a task's log, if the window allows.
func (s *stream) sendLog(t *task) (bool, error) {
	available := t.available()
	s.mu.Lock()
	offset := s.sent[t.id]
	limit := min(available, s.acked[t.id]+hostapi.LogWindow)
	s.mu.Unlock()
	if offset >= available {
		s.closeLog(t)
		return false, nil
	}
	if offset >= limit {
		return false, nil
	}
	log, err := s.openLog(t)
	if err != nil {
		return s.logGone(t, offset, err)
	}
	n, at, err := log.Read(s.buf, offset, limit, time.Now())
	if err != nil {
		return s.logGone(t, offset, err)
	}
	chunk := hostapi.LogChunk{TaskID: t.id, Offset: offset, At: at.UTC(), Data: s.buf[:n]}
	if err := s.write(hostapi.Event{Log: &chunk}); err != nil {
		return false, err
	}
	s.mu.Lock()
	if s.sent[t.id] == offset { // not asked to resend meanwhile
		s.sent[t.id] = offset + int64(n)
	}
	s.mu.Unlock()
	return true, nil
}

// logGone deals with a log that is shorter than what its agent said, or not
// readable: whatever is not there can never be sent.
func (s *stream) logGone(t *task, offset int64, cause error) (bool, error) {
	if rec := t.record(); !rec.ended() || rec.Removing {
		return false, nil // it may yet come, or nobody wants it any more
	}
	t.log.Warn().Err(cause).Int64("offset", offset).Msg("log is shorter than it was")
	return true, t.update(func(r *record) { r.Task.PlainSize = &offset })
}

func (s *stream) openLog(t *task) (*agentlink.Log, error) {
	if log := s.logs[t.id]; log != nil {
		return log, nil
	}
	folder, err := agentlink.OpenFolder(t.record().RunDir)
	if err != nil {
		return nil, err
	}
	log, err := folder.OpenLog()
	if err := errors.Join(err, folder.Close()); err != nil {
		return nil, err
	}
	s.logs[t.id] = log
	return log, nil
}

// closeLog closes the files of a log that was sent as far as it goes, once
// its task has ended.
func (s *stream) closeLog(t *task) {
	log := s.logs[t.id]
	if log == nil || !t.record().ended() {
		return
	}
	delete(s.logs, t.id)
	if err := log.Close(); err != nil {
		t.log.Warn().Err(err).Msg("log not closed")
	}
}

func (s *stream) closeLogs() {
	for id, log := range s.logs {
		if err := log.Close(); err != nil {
			s.m.cfg.Log.Warn().Err(err).Str("task", id).Msg("log not closed")
		}
	}
}
