package sweep

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/backends"
	"dstack/controller/market"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// When a sweeper looks: soon after a start, then now and then, and sooner while
// something is being ended.
const (
	firstAfter = time.Minute
	every      = 10 * time.Minute
)

// Clouds lead to the accounts of projects.
type Clouds interface {
	Open(ctx context.Context, projectID, backend string) (backends.Backend, error)
	Peek(configured []store.Backend) []market.Shelf
}

// Options are what a sweeper needs.
type Options struct {
	Store  *store.Store
	Clouds Clouds
	// Has says whether this build can use a type of backend.
	Has   func(backend string) bool
	Now   func() time.Time
	NewID func() string
	Log   zerolog.Logger
}

// Sweeper finds what nobody knows, again and again. Its methods are safe for
// concurrent use.
type Sweeper struct {
	opts Options

	mu      sync.Mutex // of one sweep
	endings map[Key]ending
}

// New makes a sweeper; Run must follow for anything to happen by itself.
func New(opts Options) *Sweeper { return &Sweeper{opts: opts, endings: map[Key]ending{}} }

// Report is what a sweep found.
type Report struct {
	Strays []store.Stray
	// Missing says of which accounts nothing is known, a sentence each.
	Missing []string
}

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	wait := firstAfter
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		_, err := s.sweep(ctx, false)
		if err != nil && ctx.Err() == nil {
			s.opts.Log.Warn().Err(err).Msg("machines that nobody knows could not be looked for")
		}
		wait = s.next()
	}
}

// Confirm says that strays shall end, by their ids, and sweeps. Volumes are
// named apart: nobody who ends machines deletes data unaware. An id that is none
// is left out: it is gone.
func (s *Sweeper) Confirm(ctx context.Context, ids []string, volumes ...string) (Report, error) {
	err := s.opts.Store.Write(ctx, func(tx *store.Tx) error {
		list, err := tx.Strays()
		if err != nil {
			return err //nolint:wrapcheck // says what it was doing
		}
		now := s.now()
		for i := range list {
			x, named := &list[i], ids
			if x.Found.Kind == KindVolume {
				named = volumes
			}
			if slices.Contains(named, x.ID) && x.ConfirmedAt == nil {
				x.ConfirmedAt = &now
				if err := tx.UpdateStray(x); err != nil {
					return err //nolint:wrapcheck // says what it was doing
				}
			}
		}
		return nil
	})
	if err != nil {
		return Report{}, fmt.Errorf("confirm: %w", err)
	}
	return s.Sweep(ctx)
}

func (s *Sweeper) now() time.Time { return s.opts.Now().UTC().Truncate(time.Microsecond) }

// Sweep looks once, for somebody who wants to know now: what is being ended is
// asked for again, however often it was.
func (s *Sweeper) Sweep(ctx context.Context) (Report, error) { return s.sweep(ctx, true) }

// sweep asks the clouds first, then reads the database: what is unknown then
// was not made meanwhile.
func (s *Sweeper) sweep(ctx context.Context, now bool) (Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var (
		slots  []store.Slot
		memory Memory
	)
	err := s.opts.Store.Read(ctx, func(tx *store.Tx) (err error) {
		if memory, _, err = load(tx); err != nil {
			return err
		}
		slots, err = tx.Slots()
		return err //nolint:wrapcheck // says what it was doing
	})
	if err != nil {
		return Report{}, fmt.Errorf("sweep: %w", err)
	}
	look := Look{Now: s.now(), Server: memory.Tag, Blind: memory.Blind}
	var report Report
	look.Asked = slices.DeleteFunc(slots, func(x store.Slot) bool { return !s.opts.Has(x.Backend) })
	for _, slot := range look.Asked {
		if err := s.ask(ctx, slot, memory, &look); err != nil {
			report.Missing = append(report.Missing, fmt.Sprintf("Project %s: %v", slot.Project, err))
		}
	}
	if ctx.Err() != nil {
		return report, context.Cause(ctx)
	}
	list, err := s.record(ctx, look, memory)
	if err != nil {
		return report, fmt.Errorf("sweep: %w", err)
	}
	s.endAll(ctx, list, now)
	report.Strays = list
	return report, nil
}

// ask finds what an account has of this server's tags.
func (s *Sweeper) ask(ctx context.Context, slot store.Slot, memory Memory, look *Look) error {
	cloud, err := s.opts.Clouds.Open(ctx, slot.ProjectID, slot.Backend)
	if err != nil {
		look.Silent = append(look.Silent, slot)
		return err //nolint:wrapcheck // a sentence
	}
	tags := []string{memory.Tag}
	for _, f := range memory.Former {
		tags = append(tags, f.Tag)
	}
	var machines []Machine
	var errs []error
	for _, tag := range tags {
		found, err := cloud.List(ctx, tag)
		errs = append(errs, err)
		for _, m := range found {
			machines = append(machines, Machine{Machine: m, Backend: slot.Backend, ProjectID: slot.ProjectID, Project: slot.Project, Server: tag})
		}
	}
	s.price(ctx, slot, machines)
	look.Machines = append(look.Machines, machines...)
	if err := errors.Join(errs...); err != nil {
		look.Silent = append(look.Silent, slot)
		return err
	}
	rest, err := remains(ctx, slot, cloud, tags)
	look.Remains = append(look.Remains, rest...)
	if err != nil {
		look.Mute = append(look.Mute, slot)
	}
	return err
}

// record decides, and writes down what is new. It returns all strays.
func (s *Sweeper) record(ctx context.Context, look Look, memory Memory) (list []store.Stray, err error) {
	var told []store.Stray
	err = s.opts.Store.Write(ctx, func(tx *store.Tx) error {
		told = nil
		if err := s.fill(tx, &look); err != nil {
			return err
		}
		before, err := tx.Strays()
		if err != nil {
			return err //nolint:wrapcheck // says what it was doing
		}
		for _, x := range before {
			look.Strays[Key{x.Backend, x.MachineID}] = Earlier{x.Found.Kind, x.ProjectID, Hold(x.Hold), x.ConfirmedAt != nil}
		}
		changes := s.compare(look, before)
		list, told = changes.now, changes.told
		for i := range changes.fresh {
			if err := tx.InsertStray(&changes.fresh[i]); err != nil {
				return err //nolint:wrapcheck // says what it was doing
			}
		}
		for i := range changes.changed {
			if err := tx.UpdateStray(&changes.changed[i]); err != nil {
				return err //nolint:wrapcheck // says what it was doing
			}
		}
		for _, x := range changes.gone {
			if err := tx.DeleteStray(x.ID); err != nil {
				return err //nolint:wrapcheck // says what it was doing
			}
		}
		if err := tx.InsertEvents(s.events(look.Now, changes)...); err != nil {
			return err //nolint:wrapcheck // says what it was doing
		}
		return s.prune(tx, look, memory, list)
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	for _, x := range told {
		s.opts.Log.Warn().Str("machine", x.MachineID).Str("backend", x.Backend).Str("region", x.Found.Region).
			Str("type", x.Found.Type).Float64("price", x.Found.Price).Str("hold", x.Hold).Str("kind", x.Found.Kind).Msg("something of this server in a cloud is nobody's")
	}
	return list, nil
}

func (s *Sweeper) prune(tx *store.Tx, look Look, memory Memory, list []store.Stray) error {
	if len(look.Silent)+len(look.Mute) > 0 || len(look.Asked) == 0 {
		return nil // who was not asked may have more
	}
	tags := map[string]bool{}
	for _, m := range look.Machines {
		tags[m.Server] = tags[m.Server] || m.State != backends.MachineGone
	}
	for _, x := range list {
		tags[x.Found.Server] = true // also of an account that was not asked
	}
	if now := memory.pruned(look.Now, tags); !reflect.DeepEqual(now, memory) {
		return save(tx, now)
	}
	return nil
}

// fill adds what the database knows.
func (s *Sweeper) fill(tx *store.Tx, look *Look) error {
	look.Strays, look.GivenUp, look.Known = map[Key]Earlier{}, map[string]bool{}, nil
	rows, err := tx.Machines()
	if err != nil {
		return err //nolint:wrapcheck // says what it was doing
	}
	for _, i := range rows {
		if i.Status != api.InstanceTerminated {
			look.Known = append(look.Known, Known{i.ProjectID, i.Machine.Backend, i.Machine.ID, i.Machine.Token})
		}
	}
	if look.Volumes, err = volumesOf(tx, look.Now); err != nil {
		return err
	}
	if !slices.ContainsFunc(look.Machines, func(m Machine) bool { return !look.knows(&m) }) {
		return nil
	}
	tokens, err := tx.GivenUpTokens()
	for _, t := range tokens {
		look.GivenUp[t] = true
	}
	return err //nolint:wrapcheck // says what it was doing
}

// price fills in what machines cost an hour, if their cloud was asked lately.
func (s *Sweeper) price(ctx context.Context, slot store.Slot, list []Machine) {
	if len(list) == 0 {
		return
	}
	var row store.Backend
	err := s.opts.Store.Read(ctx, func(tx *store.Tx) (err error) {
		row, err = tx.Backend(slot.ProjectID, slot.Backend)
		return err //nolint:wrapcheck // machines without a price will do
	})
	if err != nil {
		return
	}
	for _, shelf := range s.opts.Clouds.Peek([]store.Backend{row}) {
		for i := range list {
			m := &list[i]
			n := slices.IndexFunc(shelf.Offers, func(o backends.Offer) bool {
				return o.Instance.Name == m.Type && o.Region == m.Region && o.Instance.Resources.Spot == m.Spot
			})
			if n >= 0 {
				m.Price = shelf.Offers[n].Price
			}
		}
	}
}
