// Package store keeps what the controller knows in SQL. It is the only
// package with SQL. See docs/development/engine.md.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"modernc.org/sqlite"
)

// defaultReaders is how many reads run at the same time.
const defaultReaders = 4

// Options says where and how a store keeps its rows.
type Options struct {
	// Path is the database file; its folder is made. Empty with Memory.
	Path string
	// Memory keeps everything in memory, on a single connection.
	Memory bool
	// Inline runs Write on the caller's goroutine and everything on one
	// connection, without a writer goroutine: for a caller that is itself the
	// scheduler, such as the simulator. What the specs of rows point to is
	// then shared between reads and must not be changed.
	Inline bool
	// Sealer encrypts at rest; nil keeps plain text.
	Sealer *Sealer
	// Readers is how many reads run at the same time; 0 means 4.
	Readers int
	// Replicated leaves it to Litestream to fold the log into the file: only it
	// knows what of the log it has read.
	Replicated bool
	// NoEvents leaves events out instead of keeping them.
	NoEvents bool
	// BeforeCommit, if set, is called before each COMMIT of a write. An error
	// rolls back and is what every caller of the group gets.
	BeforeCommit func() error
	// AfterCommit, if set, is called after each COMMIT of a write. An error
	// is what the callers get, although the rows are stored; nobody is woken.
	AfterCommit func() error
}

// Store is an open database. Its methods are safe for concurrent use.
type Store struct {
	opts    Options
	sealer  *Sealer
	db      *sql.DB
	lock    *fileLock
	readers chan *conn
	pooled  int // how many connections readers holds when all are idle
	// writer is nil when readers holds the only connection.
	writer   *conn
	requests chan *request
	stop     chan struct{}
	stopOnce sync.Once
	done     chan struct{} // closed when the writer goroutine ended
	closeErr error
	onWake   atomic.Pointer[func([]Key)]
	revision atomic.Uint64
}

// Open opens the database, bringing its schema up to date. A file that is
// damaged, newer, in use or encrypted with another key is refused with a
// [Fault] and left as it is. The caller closes the store.
func Open(ctx context.Context, opts Options) (*Store, error) {
	s := &Store{opts: opts, sealer: opts.Sealer, stop: make(chan struct{}), done: make(chan struct{})}
	if s.sealer == nil {
		s.sealer = PlainSealer()
	}
	if opts.Memory {
		s.opts.Path = ""
	} else if err := s.claimFile(); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(explain(s.name(), err), s.closeAll())
	}
	if s.opts.Inline {
		close(s.done)
		return s, nil
	}
	s.requests = make(chan *request)
	go s.writeLoop(context.WithoutCancel(ctx)) // Close ends it and waits
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	connector, err := sqlite.NewConnector(dataSource(s.opts.Path, s.opts.Replicated))
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	s.db = sql.OpenDB(connector)
	first, err := s.connect(ctx)
	if err != nil {
		return err
	}
	readers := s.opts.Readers
	if readers <= 0 {
		readers = defaultReaders
	}
	if s.opts.Memory || s.opts.Inline {
		s.readers = make(chan *conn, 1)
		s.pool(first)
		return prepare(ctx, first, s.sealer, s.opts.Memory)
	}
	s.writer = first
	s.readers = make(chan *conn, readers)
	if err := prepare(ctx, first, s.sealer, false); err != nil {
		return err
	}
	for range readers {
		c, err := s.connect(ctx)
		if err != nil {
			return err
		}
		s.pool(c)
		if _, err := c.exec(ctx, "PRAGMA query_only = 1"); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) connect(ctx context.Context) (*conn, error) {
	raw, err := s.db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	c := &conn{name: s.name(), raw: raw, stmts: map[string]*sql.Stmt{}, codec: &codec{sealer: s.sealer}, noEvents: s.opts.NoEvents}
	if s.opts.Inline {
		c.codec.memo = map[string]any{}
	}
	return c, nil
}

func (s *Store) pool(c *conn) {
	s.pooled++
	s.readers <- c
}

// name is how errors call the database.
func (s *Store) name() string {
	if s.opts.Path == "" {
		return "database in memory"
	}
	return s.opts.Path
}

// Close finishes the writes that were accepted and closes the database.
func (s *Store) Close() error {
	s.stopOnce.Do(func() {
		close(s.stop)
		<-s.done
		s.closeErr = s.closeAll()
	})
	return s.closeErr
}

func (s *Store) closeAll() error {
	var errs []error
	if s.writer != nil {
		errs = append(errs, s.writer.close())
	}
	// A reader in use is waited for: it comes back to the channel.
	for range s.pooled {
		errs = append(errs, (<-s.readers).close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.release())
	}
	return errors.Join(errs...)
}

// OnWake sets the listener that hears of woken keys after their COMMIT. It
// must not block and not use the store.
func (s *Store) OnWake(fn func([]Key)) { s.onWake.Store(&fn) }

// Revision changes with every COMMIT, before the writer hears of it. Who asks
// for it and then reads knows that the rows are those until it is another one.
// It counts the changes of this process only.
func (s *Store) Revision() uint64 { return s.revision.Load() }

// Tx is a transaction; it is used only inside the function that got it.
type Tx struct {
	c *conn
	//nolint:containedctx // a Tx lives inside one call; its context is the store's, not the caller's
	ctx   context.Context
	wakes []Key
}

func (tx *Tx) exec(query string, args ...any) (int64, error) {
	return tx.c.exec(tx.ctx, query, args...)
}

func (tx *Tx) query(each func(*sql.Rows) error, query string, args ...any) error {
	return tx.c.query(tx.ctx, each, query, args...)
}

// take waits for an idle connection; the caller gives it back.
func (s *Store) take(ctx context.Context) (*conn, error) {
	select {
	case <-s.stop:
		return nil, ErrClosed
	default:
	}
	select {
	case c := <-s.readers:
		return c, nil
	case <-s.stop:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a connection: %w", context.Cause(ctx))
	}
}

// Read runs fn on a snapshot. fn must not call Read or Write.
func (s *Store) Read(ctx context.Context, fn func(*Tx) error) error {
	c, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer func() { s.readers <- c }()
	// Reads are short; a caller's cancellation would only break the connection.
	ctx = context.WithoutCancel(ctx)
	if _, err := c.exec(ctx, beginRead); err != nil {
		return err
	}
	defer func() {
		// Nothing was written, so there is nothing that could fail to be undone.
		_, _ = c.exec(ctx, "ROLLBACK")
	}()
	return fn(&Tx{c: c, ctx: ctx})
}

// tables in an order in which children come before their parents.
func tables() []string {
	return []string{
		"work", "strays", "health_checks", "volume_attachments", "volumes", "default_gateways", "gateway_replicas", "gateways", "backends",
		"event_targets", "events", "secrets", "file_archives", "repo_codes", "repo_creds", "repos", "job_metrics", "jobs", "instances", "runs",
		"imports", "exported_fleets", "exported_gateways", "exports", "fleets", "members", "projects", "public_keys", "users",
	}
}

// Reset deletes all rows but those that were there when the database was new,
// for simulators that run many worlds on one store.
func (s *Store) Reset(ctx context.Context) error {
	return s.Write(ctx, func(tx *Tx) error {
		for _, t := range append(tables(), "settings WHERE name <> 'encryption_check'") {
			if _, err := tx.exec("DELETE FROM " + t); err != nil {
				return fmt.Errorf("empty %s: %w", t, err)
			}
		}
		return nil
	})
}

// distinct keeps the first of each key.
func distinct(keys []Key) []Key {
	var out []Key
	for _, k := range keys {
		if !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}
