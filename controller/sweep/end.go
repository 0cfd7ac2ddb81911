package sweep

import (
	"context"
	"errors"
	"time"

	"dstack/controller/backends"
	"dstack/controller/store"
)

// endAgain is when the cloud is asked again to end a stray for the first time;
// each time it takes twice as long, until a sweep comes anyway.
const endAgain = 30 * time.Second

// errPower is for an account that could list what it cannot delete.
var errPower = errors.New("this build of the server cannot delete it")

// ending is what was asked of a cloud for a stray since the server's start.
type ending struct {
	asked int
	due   time.Time
	// told says that somebody was told that the cloud does not do it.
	told bool
}

// next is how long it takes until the next sweep.
func (s *Sweeper) next() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := every
	for _, e := range s.endings {
		wait = min(wait, e.due.Sub(s.opts.Now()))
	}
	return max(wait, time.Second)
}

// endAll asks for the end of all strays that nothing holds, if it is time to,
// or now.
func (s *Sweeper) endAll(ctx context.Context, list []store.Stray, now bool) {
	before := s.endings
	s.endings = map[Key]ending{}
	for i := range list {
		x := &list[i]
		if x.Hold != "" {
			continue
		}
		key := Key{x.Backend, x.MachineID}
		e := before[key]
		if now || !s.now().Before(e.due) {
			s.end(ctx, x, &e)
			e.due = s.now().Add(min(endAgain<<min(e.asked, 10), every))
			e.asked++
		}
		s.endings[key] = e
	}
}

// end asks the cloud to end a stray. That it is gone is seen by the next sweep.
func (s *Sweeper) end(ctx context.Context, x *store.Stray, e *ending) {
	trouble := ""
	cloud, err := s.opts.Clouds.Open(ctx, x.ProjectID, x.Backend)
	if err == nil {
		err = remove(ctx, cloud, x)
	}
	if err != nil {
		trouble = err.Error()
	}
	tell := trouble != "" && e.asked > 0 && !e.told // the first time it may be a whim
	if trouble == x.Trouble && !tell {
		return
	}
	e.told = e.told || tell
	x.Trouble = trouble
	err = s.opts.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.UpdateStray(x); err != nil || !tell {
			return err //nolint:wrapcheck // logged below
		}
		return tx.InsertEvents(s.event(s.now(), x, Describe(x)+" could not be "+wordsOf(x).ended+", and goes on costing money: "+trouble)) //nolint:wrapcheck // logged below
	})
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.opts.Log.Warn().Err(err).Str("machine", x.MachineID).Msg("trouble of a machine could not be kept")
	}
	if tell {
		s.opts.Log.Warn().Str("machine", x.MachineID).Str("backend", x.Backend).Str("region", x.Found.Region).
			Str("trouble", trouble).Msg("something of this server in a cloud that is nobody's could not be ended")
	}
}

func remove(ctx context.Context, cloud backends.Backend, x *store.Stray) error {
	f := x.Found
	switch f.Kind {
	case KindVolume:
		if power, ok := backends.VolumesOf(cloud); ok {
			return power.DeleteVolume(ctx, backends.VolumeRef{ID: x.MachineID, Token: f.Token, Region: f.Region}) //nolint:wrapcheck // a sentence
		}
	case KindAddress:
		if power, ok := backends.RemainsOf(cloud); ok {
			return power.ReleaseAddress(ctx, backends.Address{ID: x.MachineID, Region: f.Region}) //nolint:wrapcheck // a sentence
		}
	default:
		return cloud.Delete(ctx, backends.Ref{ID: x.MachineID, Token: f.Token, Region: f.Region, Data: f.Data}) //nolint:wrapcheck // a sentence
	}
	return errPower
}
