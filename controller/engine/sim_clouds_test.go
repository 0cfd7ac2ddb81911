package engine

import (
	"context"
	"reflect"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/market"
	"dstack/controller/store"
)

// simClouds is the engine's way to the cloud of a world. What was refused is
// remembered by a real market; it asks for the list of offers once, and its
// answer is there or on its way, as the world decides.
type simClouds struct {
	w       *world
	market  *market.Market
	arrived bool
}

// openClouds is what a server does with its accounts at a start.
func (w *world) openClouds() *simClouds {
	s := &simClouds{w: w, arrived: !w.fault(4)}
	s.market = market.New(market.Config{Now: func() time.Time { return w.clock }, Fresh: never, Limit: time.Minute})
	return s
}

func (w *world) closeClouds() {
	if w.clouds != nil {
		w.clouds.market.Close()
	}
}

func (w *world) newHostKey() (private, public string, err error) {
	n := w.newID()
	return "PRIVATE KEY " + n, "ssh-ed25519 " + n, nil
}

func (s *simClouds) account() market.Account {
	return market.Account{ProjectID: s.w.project, Backend: fake.Type}
}

func (s *simClouds) Peek(configured []store.Backend) []market.Shelf {
	var out []market.Shelf
	for _, b := range configured {
		shelf := market.Shelf{Backend: b.Type, Ready: s.arrived}
		if s.arrived {
			shelf.List = s.market.Offers(s.w.ctx(), s.account(), s.w.cloud.fake.Open())
		}
		out = append(out, shelf)
	}
	return out
}

func (s *simClouds) Open(_ context.Context, projectID, backend string) (backends.Backend, error) {
	if projectID != s.w.project || backend != fake.Type {
		return nil, &backends.Error{Kind: backends.Config, Backend: backend, Message: "the project has no such backend"}
	}
	return simAccount{s.w, s.w.cloud.fake.Open()}, nil
}

func (s *simClouds) Refused(_, _ string, o backends.Offer, err error) {
	s.market.Refused(s.account(), o, err)
}

func (s *simClouds) Given(_, _ string, o backends.Offer) { s.market.Given(s.account(), o) }

// arrive lets the list of offers come.
func (s *simClouds) arrive() {
	s.arrived = true
	s.w.notef("offers arrive")
	s.w.engine.OffersArrived(s.w.project)
}

// simAccount is a world's account at the cloud.
type simAccount struct {
	w     *world
	inner *fake.Account
}

var (
	_ backends.Backend         = simAccount{}
	_ backends.PlacementGroups = simAccount{}
)

func (a simAccount) Offers(ctx context.Context) ([]backends.Offer, error) { return a.inner.Offers(ctx) }

func (a simAccount) Create(ctx context.Context, spec backends.MachineSpec) (out backends.Machine, err error) {
	same := a.sameSpec(spec)
	err = a.w.cloud.call(a.w, "create", spec.Token, func() error {
		if !same {
			return &backends.Error{Kind: backends.BadRequest, Backend: fake.Type, Message: "the token was used for another machine"}
		}
		out, err = a.inner.Create(ctx, spec)
		return err
	})
	return out, err
}

// sameSpec looks whether a token always means the same machine; only that of a
// restored database may mean two, because machines get other tags.
func (a simAccount) sameSpec(spec backends.MachineSpec) bool {
	before, known := a.w.specs[spec.Token]
	switch {
	case spec.Token == "":
		a.w.failf("a machine is made without a token")
	case !known && spec.Tags[backends.TagServer] != a.w.tag && !a.w.restored():
		a.w.failf("machine %s is made without its owner: %v", spec.Name, spec.Tags)
	case known && !reflect.DeepEqual(before, spec):
		if !a.w.restored() {
			a.w.failf("token %s means two machines: %+v and %+v", short(spec.Token), before, spec)
		}
		return false
	}
	a.w.specs[spec.Token] = spec
	return true
}

func (a simAccount) Describe(ctx context.Context, ref backends.Ref) (out backends.Machine, err error) {
	err = a.w.cloud.call(a.w, "describe", ref.Token, func() error {
		out, err = a.inner.Describe(ctx, ref)
		return err
	})
	return out, err
}

func (a simAccount) Delete(ctx context.Context, ref backends.Ref) error {
	return a.w.cloud.call(a.w, "delete", ref.Token, func() error {
		a.checkOwner(ref)
		return a.inner.Delete(ctx, ref)
	})
}

// checkOwner looks whether a server ends its own machines only.
func (a simAccount) checkOwner(ref backends.Ref) {
	for _, m := range a.w.cloud.fake.Left() {
		if m.ID != ref.ID && (ref.ID != "" || m.Token != ref.Token) {
			continue
		}
		if !a.w.tags[m.Tags[backends.TagServer]] {
			a.w.failf("machine %s of another server is ended", m.ID)
		}
		if a.w.lost[m.Token] && !a.w.confirmed {
			a.w.failf("machine %s is ended, which the restored database does not know", m.ID)
		}
	}
}

func (a simAccount) List(ctx context.Context, server string) (out []backends.Machine, err error) {
	err = a.w.cloud.call(a.w, "list", "", func() error {
		out, err = a.inner.List(ctx, server)
		return err
	})
	return out, err
}

func (a simAccount) CreatePlacementGroup(ctx context.Context, name, region, machineType string, tags map[string]string) error {
	return a.w.cloud.call(a.w, "create placement group", name, func() error {
		return a.inner.CreatePlacementGroup(ctx, name, region, machineType, tags)
	})
}

func (a simAccount) DeletePlacementGroup(ctx context.Context, name, region string) error {
	return a.w.cloud.call(a.w, "delete placement group", name, func() error {
		return a.inner.DeletePlacementGroup(ctx, name, region)
	})
}
