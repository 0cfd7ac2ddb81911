// Package clouds keeps the accounts of projects: it opens the backends that are
// stored, puts time limit, rate limit, metrics and log around each call, and
// knows what they offer. The engine decides what is asked of them.
package clouds

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"dstack/controller/backends"
	"dstack/controller/market"
	"dstack/controller/store"
	"dstack/protocol/config"
)

// Options are what the accounts need.
type Options struct {
	Store *store.Store
	// Drivers are those of this build, by type of backend.
	Drivers map[string]backends.Driver
	Now     func() time.Time
	Log     zerolog.Logger
	// Report is told how long each call took and how it ended; the kind is
	// empty if all went well.
	Report func(c backends.Call, took time.Duration, kind backends.Kind)
	// Arrived is called when the offers of a backend of a project came, or
	// failed to.
	Arrived func(projectID string)
}

// How long calls may take, and how many there may be.
const (
	shortCall   = 20 * time.Second
	longCall    = time.Minute
	offersLimit = 30 * time.Second
	// offersFresh is how long a list of offers is used (0.22.5: 3 minutes).
	offersFresh = 3 * time.Minute
	callsPerSec = 10
	callsAtOnce = 20
)

// CreateLimit is how long a call that makes something may take.
const CreateLimit = longCall

// Clouds are the accounts of all projects. Its methods are safe for concurrent
// use.
type Clouds struct {
	opts   Options
	market *market.Market

	mu       sync.Mutex
	accounts map[slot]account
}

// slot is where a project has one account.
type slot struct{ projectID, backend string }

// account is a backend as it was configured when it was opened.
type account struct {
	id      market.Account
	backend backends.Backend
	err     error
}

// New opens nothing yet. Close it in the end.
func New(opts Options) *Clouds {
	c := &Clouds{opts: opts, accounts: map[slot]account{}}
	c.market = market.New(market.Config{
		Now: opts.Now, Fresh: offersFresh, Limit: offersLimit,
		Arrived: func(a market.Account) { opts.Arrived(a.ProjectID) },
	})
	return c
}

// Close waits for what is in flight.
func (c *Clouds) Close() { c.market.Close() }

// Has says whether this build can use a type of backend.
func (c *Clouds) Has(backend string) bool { return c.opts.Drivers[backend] != nil }

// Open is the account of a project at a backend, as it is configured now. It
// fails with a [backends.Error]: of kind Config if there is none.
func (c *Clouds) Open(ctx context.Context, projectID, backend string) (backends.Backend, error) {
	row, err := c.row(ctx, projectID, backend)
	if err != nil {
		return nil, err
	}
	a := c.account(ctx, row)
	return a.backend, a.err
}

func (c *Clouds) row(ctx context.Context, projectID, backend string) (row store.Backend, err error) {
	err = c.opts.Store.Read(ctx, func(tx *store.Tx) error {
		row, err = tx.Backend(projectID, backend)
		return err //nolint:wrapcheck // told apart below
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return row, &backends.Error{
			Kind: backends.Config, Backend: backend, Message: "the project has no such backend any more", Remedy: "Configure it again",
		}
	case err != nil:
		return row, &backends.Error{Kind: backends.Transient, Backend: backend, Message: "its configuration cannot be read: " + err.Error(), Err: err}
	}
	return row, nil
}

// Peek is what the configured backends of a project offer, from memory: it
// never waits. Those that this build cannot use, and that have nothing to say
// about it, are left out.
func (c *Clouds) Peek(configured []store.Backend) []market.Shelf {
	return c.shelves(context.Background(), configured, func(a account) (market.List, bool) { return c.market.Peek(a.id, a.backend) })
}

// Stock is what the backends of a project offer, for somebody who can wait
// until ctx ends. What did not come until then is named in the shelves.
func (c *Clouds) Stock(ctx context.Context, projectID string) ([]market.Shelf, error) {
	var configured []store.Backend
	err := c.opts.Store.Read(ctx, func(tx *store.Tx) (err error) {
		configured, err = tx.Backends(projectID)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return nil, fmt.Errorf("read backends: %w", err)
	}
	c.Peek(configured) //nolint:contextcheck // so that all are asked at the same time; the answers are for others, too
	return c.shelves(ctx, configured, func(a account) (market.List, bool) {
		list := c.market.Offers(ctx, a.id, a.backend)
		return list, !list.At.IsZero()
	}), nil
}

func (c *Clouds) shelves(ctx context.Context, configured []store.Backend, look func(account) (market.List, bool)) []market.Shelf {
	var out []market.Shelf
	for _, row := range configured {
		if !c.Has(row.Type) {
			continue
		}
		s := market.Shelf{Backend: row.Type}
		if a := c.account(ctx, row); a.err != nil {
			s.Missing, s.Ready = a.err.Error(), true
		} else {
			s.List, s.Ready = look(a)
		}
		out = append(out, s)
	}
	return out
}

// Refused remembers that a backend did not give what it offered.
func (c *Clouds) Refused(projectID, backend string, o backends.Offer, err error) {
	if a, ok := c.known(projectID, backend); ok {
		c.market.Refused(a.id, o, err)
	}
}

// Given forgets what was held against an offer.
func (c *Clouds) Given(projectID, backend string, o backends.Offer) {
	if a, ok := c.known(projectID, backend); ok {
		c.market.Given(a.id, o)
	}
}

func (c *Clouds) known(projectID, backend string) (account, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.accounts[slot{projectID, backend}]
	return a, ok
}

// account opens a backend, or finds it if it is open with the same
// configuration.
func (c *Clouds) account(ctx context.Context, row store.Backend) account {
	sum := sha256.Sum256(row.Spec)
	id := market.Account{ProjectID: row.ProjectID, Backend: row.Type, Config: hex.EncodeToString(sum[:8])}
	at := slot{row.ProjectID, row.Type}
	c.mu.Lock()
	defer c.mu.Unlock()
	a, open := c.accounts[at]
	if open && a.id == id {
		return a
	}
	if open {
		c.market.Forget(row.ProjectID, row.Type)
	}
	a = account{id: id}
	if a.backend, a.err = c.dial(ctx, row); a.err != nil {
		delete(c.accounts, at)
		return a
	}
	c.accounts[at] = a
	return a
}

// dial opens a backend; it asks the cloud nothing.
func (c *Clouds) dial(ctx context.Context, row store.Backend) (backends.Backend, error) {
	driver := c.opts.Drivers[row.Type]
	if driver == nil {
		return nil, &backends.Error{Kind: backends.Config, Backend: row.Type, Message: "this build of the server has no driver for it"}
	}
	parsed := config.Backend{Type: row.Type}
	if slices.Contains(backends.Clouds{}.Types(), row.Type) {
		var err error
		if parsed, err = config.DecodeBackend(row.Spec); err != nil {
			return nil, &backends.Error{Kind: backends.Config, Backend: row.Type, Message: fmt.Sprintf("its stored configuration cannot be read: %v", err), Err: err}
		}
	}
	b, err := driver.Open(ctx, parsed)
	if err != nil {
		var known *backends.Error
		if errors.As(err, &known) {
			return nil, err
		}
		return nil, &backends.Error{Kind: backends.Config, Backend: row.Type, Message: err.Error(), Err: err}
	}
	return backends.Guard(row.Type, b,
		backends.Measure(c.opts.Now, c.opts.Report),
		backends.Trace(c.opts.Log),
		backends.TimeLimit(limitOf),
		backends.RateLimit(rate.NewLimiter(callsPerSec, callsAtOnce)),
	), nil
}

// limitOf is how long a call may take.
func limitOf(c backends.Call) time.Duration {
	switch c.Op {
	case "create", "list", "list volumes", "list addresses", "offers":
		return longCall
	}
	return shortCall
}
