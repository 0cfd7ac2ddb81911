package backends

import (
	"context"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

// Call is one call to a cloud.
type Call struct {
	Backend string
	Op      string
	// Region is empty for calls that go to all of them.
	Region string
}

// Interceptor stands around each call to a backend.
type Interceptor func(ctx context.Context, c Call, next func(context.Context) error) error

// Guard puts interceptors around all calls of a backend, the first one
// outermost. [VolumesOf] and its like find what the backend can do besides.
func Guard(name string, b Backend, list ...Interceptor) *Guarded {
	return &Guarded{name: name, inner: b, list: list}
}

// Guarded is a backend with interceptors.
type Guarded struct {
	name  string
	inner Backend
	list  []Interceptor
}

func (g *Guarded) call(ctx context.Context, op, region string, act func(context.Context) error) error {
	c := Call{Backend: g.name, Op: op, Region: region}
	for i := len(g.list) - 1; i >= 0; i-- {
		around, next := g.list[i], act
		act = func(ctx context.Context) error { return around(ctx, c, next) }
	}
	return act(ctx)
}

// Offers is that of [Backend].
func (g *Guarded) Offers(ctx context.Context) (out []Offer, err error) {
	err = g.call(ctx, "offers", "", func(ctx context.Context) (err error) {
		out, err = g.inner.Offers(ctx)
		return err
	})
	return out, err
}

// Create is that of [Backend].
func (g *Guarded) Create(ctx context.Context, spec MachineSpec) (out Machine, err error) {
	err = g.call(ctx, "create", spec.Region, func(ctx context.Context) (err error) {
		out, err = g.inner.Create(ctx, spec)
		return err
	})
	return out, err
}

// Describe is that of [Backend].
func (g *Guarded) Describe(ctx context.Context, ref Ref) (out Machine, err error) {
	err = g.call(ctx, "describe", ref.Region, func(ctx context.Context) (err error) {
		out, err = g.inner.Describe(ctx, ref)
		return err
	})
	return out, err
}

// Delete is that of [Backend].
func (g *Guarded) Delete(ctx context.Context, ref Ref) error {
	return g.call(ctx, "delete", ref.Region, func(ctx context.Context) error { return g.inner.Delete(ctx, ref) })
}

// List is that of [Backend].
func (g *Guarded) List(ctx context.Context, server string) (out []Machine, err error) {
	err = g.call(ctx, "list", "", func(ctx context.Context) (err error) {
		out, err = g.inner.List(ctx, server)
		return err
	})
	return out, err
}

// TimeLimit ends calls that take too long, with a [Transient] error.
func TimeLimit(of func(Call) time.Duration) Interceptor {
	return func(ctx context.Context, c Call, next func(context.Context) error) error {
		limit := of(c)
		ctx, cancel := context.WithTimeoutCause(ctx, limit, tooLate(c, limit))
		defer cancel()
		if err := next(ctx); err != nil {
			return lateness(ctx, c, err)
		}
		return nil
	}
}

// RateLimit lets calls wait for their turn, so that a cloud need not refuse
// them. One limiter serves all regions of an account.
func RateLimit(limiter *rate.Limiter) Interceptor {
	return func(ctx context.Context, c Call, next func(context.Context) error) error {
		if err := limiter.Wait(ctx); err != nil {
			return &Error{
				Kind: Throttled, Backend: c.Backend, Op: c.Op, Region: c.Region,
				Message: "too many calls are waiting for this cloud", Err: err,
			}
		}
		return next(ctx)
	}
}

// Measure reports how long each call took and how it ended; the kind is empty
// if all went well.
func Measure(now func() time.Time, report func(c Call, took time.Duration, kind Kind)) Interceptor {
	return func(ctx context.Context, c Call, next func(context.Context) error) error {
		began := now()
		err := next(ctx)
		kind := Kind("")
		if err != nil {
			kind = KindOf(err)
		}
		report(c, now().Sub(began), kind)
		return err
	}
}

// Trace logs each call.
func Trace(log zerolog.Logger) Interceptor {
	return func(ctx context.Context, c Call, next func(context.Context) error) error {
		err := next(ctx)
		level, kind := zerolog.DebugLevel, Kind("")
		if err != nil {
			level, kind = zerolog.WarnLevel, KindOf(err)
		}
		log.WithLevel(level).Err(err).Str("kind", string(kind)).
			Str("backend", c.Backend).Str("op", c.Op).Str("region", c.Region).Msg("call to cloud")
		return err
	}
}
