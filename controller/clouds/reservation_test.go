package clouds_test

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/clouds"
	"dstack/protocol/config"
)

// reserving is a driver of an account with one reservation.
type reserving struct {
	fake.Driver

	err error
}

type reservedAccount struct {
	backends.Backend

	err error
}

func (r reserving) Open(ctx context.Context, b config.Backend) (backends.Backend, error) {
	inner, err := r.Driver.Open(ctx, b)
	return reservedAccount{inner, r.err}, err
}

func (r reservedAccount) FindReservation(_ context.Context, id string) (backends.Reservation, error) {
	switch {
	case r.err != nil:
		return backends.Reservation{}, r.err
	case id != "cr-1":
		return backends.Reservation{}, &backends.Error{Kind: backends.NotFound, Backend: fake.Type, Message: "no such reservation"}
	}
	return backends.Reservation{ID: id, Region: "region-1", Type: "gpu", Free: 3}, nil
}

func TestReservation(t *testing.T) {
	cloud := fake.New(fake.Config{Now: time.Now})
	r := newRig(t, cloud)
	t.Cleanup(func() {
		r.Close()
		if err := r.store.Close(); err != nil {
			t.Error(err)
		}
	})
	open := func(driver backends.Driver) *clouds.Clouds {
		c := clouds.New(clouds.Options{
			Store: r.store, Drivers: map[string]backends.Driver{fake.Type: driver}, Now: time.Now, Log: zerolog.Nop(),
			Report: func(backends.Call, time.Duration, backends.Kind) {}, Arrived: func(string) {},
		})
		t.Cleanup(c.Close)
		return c
	}
	mine := open(reserving{Driver: fake.Driver{Cloud: cloud}})
	got, err := mine.Reservation(t.Context(), "p", "cr-1")
	if err != nil || got.Backend != fake.Type || got.Free != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	const none = "reservation cr-2 was found in no backend of the project"
	refused := &backends.Error{Kind: backends.Permission, Backend: fake.Type, Message: "not allowed"}
	for name, c := range map[string]struct {
		clouds        *clouds.Clouds
		project, want string
	}{
		"another id":               {mine, "p", none},
		"a project without clouds": {mine, "q", none},
		"a cloud without power":    {r.Clouds, "p", none},
		"a cloud that refuses":     {open(reserving{Driver: fake.Driver{Cloud: cloud}, err: refused}), "p", "dstack: not allowed"},
	} {
		if _, err := c.clouds.Reservation(t.Context(), c.project, "cr-2"); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
