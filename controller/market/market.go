// Package market knows what the clouds of projects offer now, from memory: a
// plan never waits for a slow cloud beyond its limit, a decision not at all.
//
// The list of an account is fetched by one call at a time and used for
// [Config.Fresh]; after that it is still shown while the next one is fetched,
// so that only the first who asks ever waits. What a cloud refused is
// remembered for a while: see memory.go.
package market

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"dstack/controller/backends"
)

// Account is a backend of a project as it is configured now: another
// configuration is another account.
type Account struct {
	ProjectID string
	// Backend is its type, Config tells its configurations apart.
	Backend, Config string
}

// Seller is where offers come from; [backends.Backend] is one.
type Seller interface {
	Offers(ctx context.Context) ([]backends.Offer, error)
}

// Config is how a market works.
type Config struct {
	Now func() time.Time
	// Fresh is how long a list is used without asking again (0.22.5: 3 minutes),
	// Limit how long a cloud may take to answer.
	Fresh, Limit time.Duration
	// Arrived is called when the list of an account came, or failed to.
	Arrived func(Account)
}

// List is what an account offers.
type List struct {
	// Offers are the cheapest first; what was refused lately says so in its
	// availability. They are shared: nobody changes them.
	Offers []backends.Offer
	// At is when the cloud said so; zero if it never did.
	At time.Time
	// Missing says what is left out and why, in a sentence; empty for nothing.
	Missing string
}

// Shelf is what one backend of a project offers.
type Shelf struct {
	Backend string
	List
	// Ready is false while the cloud has not answered for the first time.
	Ready bool
}

// Market holds the lists. Its methods may be called at the same time.
type Market struct {
	cfg  Config
	ctx  context.Context //nolint:containedctx // of the calls that the market itself makes
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	stalls map[Account]*stall
}

// stall is one account.
type stall struct {
	offers []backends.Offer
	at     time.Time // of the last answer
	asked  time.Time // when the last call ended
	err    error     // of the last call
	// arriving is closed when the call that is in flight ended; nil if none is.
	arriving chan struct{}
	memory   memory
}

// New makes an empty market. Close it in the end.
func New(cfg Config) *Market {
	ctx, stop := context.WithCancelCause(context.Background())
	return &Market{cfg: cfg, ctx: ctx, stop: stop, stalls: map[Account]*stall{}}
}

// Close ends the calls that are in flight and waits for them.
func (m *Market) Close() {
	m.stop(fmt.Errorf("the server stops"))
	m.wg.Wait()
}

// Peek is what is known now; ready is false if the cloud was never asked, or
// has not answered yet. A list that is old or missing is fetched meanwhile.
func (m *Market) Peek(a Account, s Seller) (list List, ready bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.stall(a)
	m.refresh(a, st, s)
	return m.list(st), !st.asked.IsZero()
}

// Offers is Peek for somebody who can wait until ctx ends. If nothing came
// until then, the list says so.
func (m *Market) Offers(ctx context.Context, a Account, s Seller) List {
	m.mu.Lock()
	st := m.stall(a)
	m.refresh(a, st, s) //nolint:contextcheck // the list is for others, too: it does not end with one who asks
	arriving := st.arriving
	known := !st.asked.IsZero()
	m.mu.Unlock()
	if !known && arriving != nil {
		select {
		case <-arriving:
		case <-ctx.Done():
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list(st)
}

// Forget drops what is known of a project's backend, whatever its
// configuration.
func (m *Market) Forget(projectID, backend string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for a := range m.stalls {
		if a.ProjectID == projectID && a.Backend == backend {
			delete(m.stalls, a)
		}
	}
}

// Refused remembers that a cloud did not give a machine.
func (m *Market) Refused(a Account, o backends.Offer, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stall(a).memory.refused(m.cfg.Now(), o, err)
}

// Given forgets what was held against an offer: the cloud gave such a machine.
func (m *Market) Given(a Account, o backends.Offer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stall(a).memory.given(o)
}

// stall is that of an account; the caller holds the lock.
func (m *Market) stall(a Account) *stall {
	st := m.stalls[a]
	if st == nil {
		st = &stall{}
		m.stalls[a] = st
	}
	return st
}

// retryAfter is how soon a cloud that failed to answer is asked again.
const retryAfter = 15 * time.Second

// refresh starts a call if one is due; the caller holds the lock.
func (m *Market) refresh(a Account, st *stall, s Seller) {
	wait := m.cfg.Fresh
	if st.err != nil {
		wait = min(wait, retryAfter)
	}
	due := st.asked.IsZero() || !m.cfg.Now().Before(st.asked.Add(wait))
	if !due || st.arriving != nil || m.ctx.Err() != nil {
		return
	}
	done := make(chan struct{})
	st.arriving = done
	m.wg.Go(func() {
		ctx, cancel := context.WithTimeoutCause(m.ctx, m.cfg.Limit, fmt.Errorf("%s did not list its offers in %s", a.Backend, m.cfg.Limit))
		defer cancel()
		got, err := s.Offers(ctx)
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		m.mu.Lock()
		st.arriving, st.asked, st.err = nil, m.cfg.Now(), err
		if err == nil || len(got) > 0 {
			// Of a cloud whose regions answered in part, that part is true.
			st.offers, st.at = got, st.asked
		}
		m.mu.Unlock()
		close(done)
		if m.cfg.Arrived != nil && m.ctx.Err() == nil {
			m.cfg.Arrived(a)
		}
	})
}

// list is what to show of an account; the caller holds the lock.
func (m *Market) list(st *stall) List {
	out := List{Offers: st.offers, At: st.at}
	switch {
	case st.err != nil && st.at.IsZero():
		out.Missing = "its offers are missing: " + st.err.Error()
	case st.err != nil:
		out.Missing = "its offers are of " + st.at.UTC().Format(time.RFC3339) + " or incomplete: " + st.err.Error()
	case st.at.IsZero():
		out.Missing = "its offers have not arrived yet"
	}
	now := m.cfg.Now()
	if why := st.memory.stopped(now); why != "" {
		out.Missing = why
	}
	if !st.memory.empty() {
		out.Offers = slices.Clone(out.Offers)
		for i := range out.Offers {
			st.memory.mark(now, &out.Offers[i])
		}
	}
	return out
}
