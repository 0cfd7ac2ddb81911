package store

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// maxGroup is how many writes share a COMMIT at most, so that the first of
// them does not wait for ever.
const maxGroup = 256

// request is one call of Write on its way through the writer.
type request struct {
	fn    func(*Tx) error
	err   error
	wakes []Key
	done  chan struct{}
}

// Write runs fn in a transaction and returns after the COMMIT returned. Calls
// that come at the same time share one COMMIT; each is undone alone when its
// fn fails, and all fail when the COMMIT fails. fn does no I/O, takes no lock
// and must not call Read or Write; after an error of tx it returns an error.
// When ctx ends, Write stops waiting and
// returns its cause: whether fn's changes are stored is then not known, and
// what fn wrote to must not be looked at.
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error {
	r := &request{fn: fn, done: make(chan struct{})}
	if s.opts.Inline {
		return s.writeInline(ctx, r)
	}
	select {
	case <-s.stop:
		return ErrClosed
	default:
	}
	select {
	case s.requests <- r:
	case <-s.stop:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("wait for the writer: %w", context.Cause(ctx))
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the commit: %w", context.Cause(ctx))
	}
}

// writeLoop is the one writer. It ends when the store is closed.
func (s *Store) writeLoop(ctx context.Context) {
	defer close(s.done)
	for {
		select {
		case r := <-s.requests:
			s.commitGroup(ctx, s.gather(r))
		case <-s.stop:
			return
		}
	}
}

// gather takes the requests that are waiting now.
func (s *Store) gather(first *request) []*request {
	group := []*request{first}
	for len(group) < maxGroup {
		select {
		case r := <-s.requests:
			group = append(group, r)
		default:
			return group
		}
	}
	return group
}

func (s *Store) commitGroup(ctx context.Context, group []*request) {
	c := s.writer
	if c == nil {
		c = <-s.readers
	}
	err := s.runGroup(ctx, c, group)
	if s.writer == nil {
		s.readers <- c
	}
	if err == nil && s.opts.AfterCommit != nil {
		err = s.opts.AfterCommit()
	}
	s.answer(group, err)
}

// answer tells the listener, then the callers. A caller whose own fn failed
// gets that error: its changes are not stored in either case.
func (s *Store) answer(group []*request, err error) {
	if err == nil {
		var keys []Key
		for _, r := range group {
			if r.err == nil {
				keys = append(keys, r.wakes...)
			}
		}
		s.wake(keys)
	}
	for _, r := range group {
		if r.err == nil {
			r.err = err
		}
		close(r.done)
	}
}

func (s *Store) wake(keys []Key) {
	if fn := s.onWake.Load(); fn != nil && len(keys) > 0 {
		(*fn)(distinct(keys))
	}
}

// runGroup runs every request under its own savepoint and commits them
// together. An error means that nothing of the group is stored.
func (s *Store) runGroup(ctx context.Context, c *conn, group []*request) error {
	if _, err := c.exec(ctx, beginWrite); err != nil {
		return err
	}
	if err := s.runAll(ctx, c, group); err != nil {
		return errors.Join(err, rollback(ctx, c))
	}
	return s.commit(ctx, c)
}

// runAll runs every request and, where they are replicated, marks what they
// changed.
func (s *Store) runAll(ctx context.Context, c *conn, group []*request) (err error) {
	before := int64(0)
	if s.opts.Replicated {
		if before, err = changes(ctx, c); err != nil {
			return err
		}
	}
	for _, r := range group {
		if err := s.runOne(ctx, c, r); err != nil {
			return err
		}
	}
	if !s.opts.Replicated {
		return nil
	}
	after, err := changes(ctx, c)
	if err != nil || after == before {
		return err
	}
	return count(ctx, c)
}

// runOne runs one request; a failure of its fn undoes only its own changes.
// An error means that SQLite undid the whole transaction (disk full, I/O
// error) or that the savepoint could not be handled.
func (s *Store) runOne(ctx context.Context, c *conn, r *request) error {
	if _, err := c.exec(ctx, "SAVEPOINT member"); err != nil {
		return err
	}
	tx := &Tx{c: c, ctx: ctx}
	r.err = protect(tx, r.fn)
	r.wakes = tx.wakes
	if r.err != nil {
		if _, err := c.exec(ctx, "ROLLBACK TO member"); err != nil {
			return errors.Join(r.err, err)
		}
	}
	_, err := c.exec(ctx, "RELEASE member")
	return err
}

// protect turns a panic into an error: the writer serves others, too.
func protect(tx *Tx, fn func(*Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("write: panic: %v\n%s", p, debug.Stack())
		}
	}()
	return fn(tx)
}

// commit makes the transaction durable, or undoes it.
func (s *Store) commit(ctx context.Context, c *conn) error {
	if s.opts.BeforeCommit != nil {
		if err := s.opts.BeforeCommit(); err != nil {
			return errors.Join(err, rollback(ctx, c))
		}
	}
	_, err := c.exec(ctx, "COMMIT")
	s.revision.Add(1) // also after an error: rather once too often
	if err != nil {
		return errors.Join(err, rollback(ctx, c))
	}
	return nil
}

// rollback undoes the transaction if SQLite has not done so already, which it
// does after some errors; ROLLBACK then fails, and that is fine.
func rollback(ctx context.Context, c *conn) error {
	_, err := c.exec(ctx, "ROLLBACK")
	if err == nil {
		return nil
	}
	if _, err := c.exec(ctx, beginWrite); err != nil {
		return fmt.Errorf("undo transaction: %w", err)
	}
	_, err = c.exec(ctx, "ROLLBACK")
	return err
}

// writeInline runs r on the caller's goroutine, alone.
func (s *Store) writeInline(ctx context.Context, r *request) error {
	c, err := s.take(ctx)
	if err != nil {
		return err
	}
	err = s.runInline(context.WithoutCancel(ctx), c, r)
	if err == nil && s.opts.AfterCommit != nil {
		err = s.opts.AfterCommit()
	}
	if err == nil {
		s.wake(r.wakes)
	}
	return err
}

// runInline gives the connection back also when fn or a hook panics: a
// simulated crash may be a panic.
func (s *Store) runInline(ctx context.Context, c *conn, r *request) (err error) {
	committed := false
	defer func() {
		if !committed && err == nil { // a panic is passing through
			_ = rollback(ctx, c)
		}
		s.readers <- c
	}()
	if _, err := c.exec(ctx, beginWrite); err != nil {
		return err
	}
	tx := &Tx{c: c, ctx: ctx}
	if err := r.fn(tx); err != nil {
		return errors.Join(err, rollback(ctx, c))
	}
	if err := s.commit(ctx, c); err != nil {
		return err
	}
	committed = true
	r.wakes = tx.wakes
	return nil
}
