// Package contracttest is what every driver has to pass: the promises of
// [backends.Backend] and of the powers, with the faults that real clouds have.
package contracttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"dstack/controller/backends"
)

// Fault is something that the double of a cloud can be asked to do wrong.
type Fault struct {
	// Op is "create", "describe", "delete" or "list".
	Op string
	// Kind is the error that the driver has to make of it.
	Kind backends.Kind
	// Lost lets the cloud act before the answer is lost.
	Lost bool
}

// Harness is a driver in front of a double of its cloud, fresh for each test.
type Harness struct {
	Backend backends.Backend
	// Spec is a machine that can be rented, without token, name and tags.
	Spec backends.MachineSpec
	// Inject lets the next call of the operation go wrong once. It returns
	// false if the double cannot do that.
	Inject func(Fault) bool
	// Settle lets time pass until the cloud shows what it did.
	Settle func()
	// UserData is what a machine got.
	UserData func(t *testing.T, id string) string
	// Delay makes the double show new machines late from now on; nil if it
	// cannot.
	Delay func()
}

const (
	server = "11111111-2222-4333-8444-555555555555"
	other  = "99999999-2222-4333-8444-555555555555"
)

// Run runs the suite. Each test gets a harness of its own.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, Harness)
	}{
		{"life of a machine", life},
		{"a token makes one machine", oneToken},
		{"a token sent at once makes one machine", oneTokenAtOnce},
		{"a machine is found by its token", byToken},
		{"an answer that was lost makes one machine", lostAnswer},
		{"an answer that was lost in the second zone makes one machine", lostElsewhere},
		{"tags and user-data arrive", details},
		{"only the server's own machines are listed", ownMachines},
		{"all pages are listed", pages},
		{"a list that was cut says so", cutList},
		{"unknown machines", unknown},
		{"machines that are shown late", late},
		{"errors have their kinds", kinds},
		{"a call that was given up", givenUp},
		{"offers", offersAreUsable},
		{"life of a volume", volumes},
		{"placement groups", groups},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func (h Harness) wish(token string) backends.MachineSpec {
	s := h.Spec
	s.Token, s.Name, s.UserData = token, "contract-"+token, "#cloud-config\n"
	s.Tags = map[string]string{backends.TagServer: server, backends.TagOwner: "dstack", backends.TagName: "contract"}
	return s
}

func (h Harness) create(t *testing.T, token string) backends.Machine {
	t.Helper()
	m, err := h.Backend.Create(t.Context(), h.wish(token))
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	if m.ID == "" || m.Region != h.Spec.Region {
		t.Fatalf("create returned %+v, want an id and region %s", m, h.Spec.Region)
	}
	return m
}

func (h Harness) describe(t *testing.T, ref backends.Ref) backends.Machine {
	t.Helper()
	m, err := h.Backend.Describe(t.Context(), ref)
	if err != nil {
		t.Fatalf("describe %+v: %v", ref, err)
	}
	return m
}

func (h Harness) list(t *testing.T) []backends.Machine {
	t.Helper()
	got, err := h.Backend.List(t.Context(), server)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return slices.DeleteFunc(got, func(m backends.Machine) bool { return m.State == backends.MachineGone })
}

func life(t *testing.T, h Harness) {
	m := h.create(t, "token-1")
	h.Settle()
	got := h.describe(t, m.Ref)
	if got.State != backends.MachineRunning || got.Address == "" || got.Internal == "" || got.SSHPort == 0 || got.User == "" {
		t.Errorf("a machine that runs is described as %+v", got)
	}
	if got.Type != h.Spec.Type || got.Spot != h.Spec.Spot || got.Zone == "" || got.CreatedAt.IsZero() {
		t.Errorf("described as %+v, wanted %+v", got, h.Spec)
	}
	for range 2 { // it may be repeated
		if err := h.Backend.Delete(t.Context(), m.Ref); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	h.Settle()
	if got, err := h.Backend.Describe(t.Context(), m.Ref); err == nil && got.State != backends.MachineGone || err != nil && !errors.Is(err, backends.NotFound) {
		t.Errorf("after it was deleted: %+v, %v", got, err)
	}
	if err := h.Backend.Delete(t.Context(), m.Ref); err != nil {
		t.Errorf("delete of what is gone: %v", err)
	}
	if got := h.list(t); len(got) > 0 {
		t.Errorf("still listed: %+v", got)
	}
}

func oneToken(t *testing.T, h Harness) {
	first, second := h.create(t, "token-1"), h.create(t, "token-1")
	if first.ID != second.ID {
		t.Errorf("one token made %s and %s", first.ID, second.ID)
	}
	if third := h.create(t, "token-2"); third.ID == first.ID {
		t.Errorf("two tokens made one machine")
	}
}

func oneTokenAtOnce(t *testing.T, h Harness) {
	const callers = 4
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		ids = map[string]bool{}
	)
	for range callers {
		wg.Go(func() {
			m, err := h.Backend.Create(t.Context(), h.wish("token-1"))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				ids[m.ID] = true
			case backends.KindOf(err) != backends.NotReady && backends.KindOf(err) != backends.Transient:
				// A cloud may ask the later ones to come again.
				t.Errorf("create: %v", err)
			}
		})
	}
	wg.Wait()
	h.Settle()
	if got := h.list(t); len(got) != 1 || len(ids) != 1 {
		t.Errorf("%d callers with one token got %v and made %+v", callers, ids, got)
	}
}

func byToken(t *testing.T, h Harness) {
	m := h.create(t, "token-1")
	h.create(t, "token-2")
	h.Settle()
	if got := h.describe(t, backends.Ref{Token: "token-1", Region: h.Spec.Region}); got.ID != m.ID || got.Token != "token-1" {
		t.Errorf("the token of %s found %s with token %q", m.ID, got.ID, got.Token)
	}
	_, err := h.Backend.Describe(t.Context(), backends.Ref{Token: "token-3", Region: h.Spec.Region})
	if !errors.Is(err, backends.NotFound) {
		t.Errorf("an unknown token: %v", err)
	}
}

func lostAnswer(t *testing.T, h Harness) {
	h.must(t, Fault{Op: "create", Lost: true, Kind: backends.Transient})
	_, err := h.Backend.Create(t.Context(), h.wish("token-1"))
	// The SDK of the cloud may have asked again by itself.
	if err != nil && !errors.Is(err, backends.Transient) {
		t.Fatalf("the lost answer is %v", err)
	}
	h.create(t, "token-1")
	h.Settle()
	if got := h.list(t); len(got) != 1 {
		t.Errorf("there are %d machines: %+v", len(got), got)
	}
}

// lostElsewhere: the first zone is full, the answer of the second is lost and
// what it made is not shown; then the first has room again.
func lostElsewhere(t *testing.T, h Harness) {
	h.must(t, Fault{Op: "create", Kind: backends.NoCapacity})
	h.must(t, Fault{Op: "create", Lost: true, Kind: backends.Transient})
	if h.Delay != nil {
		h.Delay()
	}
	wish := h.wish("token-1")
	wish.Zones = nil
	made := h.insist(t, wish)
	h.Settle()
	if got := h.list(t); len(got) != 1 || made.ID != "" && got[0].ID != made.ID {
		t.Errorf("made %q, and there are %+v", made.ID, got)
	}
}

// insist asks for a machine a few times, as the engine does; it is empty if
// the cloud gives no clear answer.
func (h Harness) insist(t *testing.T, wish backends.MachineSpec) backends.Machine {
	t.Helper()
	for n := range 5 {
		m, err := h.Backend.Create(t.Context(), wish)
		var known *backends.Error
		switch {
		case err == nil:
			return m
		case !errors.As(err, &known):
			t.Fatalf("create: %v", err)
		case known.Kind == backends.NoCapacity && len(known.Zones) > 0:
			wish.Token, wish.Zones = fmt.Sprint(wish.Token, "-", n), known.Zones
		}
	}
	return backends.Machine{}
}

func details(t *testing.T, h Harness) {
	m := h.create(t, "token-1")
	h.Settle()
	wish, got := h.wish("token-1"), h.describe(t, m.Ref)
	for k, v := range wish.Tags {
		if got.Tags[k] != v {
			t.Errorf("tag %s is %q, want %q", k, got.Tags[k], v)
		}
	}
	if data := h.UserData(t, m.ID); data != wish.UserData {
		t.Errorf("user-data is %q", data)
	}
}

func ownMachines(t *testing.T, h Harness) {
	mine := h.create(t, "token-1")
	for n, tags := range []map[string]string{
		{backends.TagServer: other, backends.TagOwner: "dstack"},
		{backends.TagOwner: "dstack"}, // one of 0.22.5
		{},
	} {
		wish := h.wish(fmt.Sprint("foreign-", n))
		wish.Tags = tags
		if _, err := h.Backend.Create(t.Context(), wish); err != nil {
			t.Fatalf("create: %v", err)
		}
	}
	h.Settle()
	if got := h.list(t); len(got) != 1 || got[0].ID != mine.ID || got[0].Token != "token-1" {
		t.Errorf("listed %+v, want %s with its token alone", got, mine.ID)
	}
}

func pages(t *testing.T, h Harness) {
	const machines = 12
	want := map[string]bool{}
	for n := range machines {
		want[h.create(t, fmt.Sprint("token-", n)).ID] = true
	}
	h.Settle()
	got := map[string]bool{}
	for _, m := range h.list(t) {
		got[m.ID] = true
	}
	if len(got) != len(want) {
		t.Errorf("%d of %d machines are listed", len(got), len(want))
	}
}

func cutList(t *testing.T, h Harness) {
	for n := range 7 {
		h.create(t, fmt.Sprint("token-", n))
	}
	h.Settle()
	h.must(t, Fault{Op: "list", Kind: backends.Transient})
	if got, err := h.Backend.List(t.Context(), server); err == nil && len(got) < 7 {
		t.Errorf("%d of 7 machines are listed, without an error", len(got))
	}
}

func unknown(t *testing.T, h Harness) {
	m := h.create(t, "token-1")
	if err := h.Backend.Delete(t.Context(), m.Ref); err != nil {
		t.Fatalf("delete: %v", err)
	}
	h.Settle()
	if err := h.Backend.Delete(t.Context(), backends.Ref{Token: "never-sent", Region: h.Spec.Region}); err != nil {
		t.Errorf("delete of a token that was never sent: %v", err)
	}
}

func late(t *testing.T, h Harness) {
	if h.Delay == nil {
		return // this double shows all at once: the engine's own tests have one that does not
	}
	h.Delay()
	m := h.create(t, "token-1")
	if _, err := h.Backend.Describe(t.Context(), m.Ref); err != nil && !errors.Is(err, backends.NotFound) {
		t.Errorf("a machine that is not shown yet: %v", err)
	}
	if again := h.create(t, "token-1"); again.ID != m.ID {
		t.Errorf("the token made a second machine while the first was not shown")
	}
	h.Settle()
	h.describe(t, m.Ref)
}

func kinds(t *testing.T, h Harness) {
	for _, kind := range []backends.Kind{
		backends.NoCapacity, backends.Quota, backends.Auth, backends.Permission, backends.Throttled, backends.BadRequest,
	} {
		h.must(t, Fault{Op: "create", Kind: kind})
		_, err := h.Backend.Create(t.Context(), h.wish("token-"+string(kind)))
		var known *backends.Error
		if !errors.As(err, &known) || known.Kind != kind {
			t.Errorf("%s came as %v", kind, err)
			continue
		}
		if known.Backend == "" || known.Message == "" {
			t.Errorf("%s says too little: %+v", kind, known)
		}
	}
	h.Settle()
	if got := h.list(t); len(got) > 0 {
		t.Errorf("calls that failed made %+v", got)
	}
}

func givenUp(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Backend.Create(ctx, h.wish("token-1")); backends.KindOf(err) != backends.Transient || err == nil {
		t.Errorf("a call that was given up: %v", err)
	}
}

func offersAreUsable(t *testing.T, h Harness) {
	got, err := h.Backend.Offers(t.Context())
	if err != nil || len(got) == 0 {
		t.Fatalf("offers: %d, %v", len(got), err)
	}
	for i, o := range got {
		if o.Price <= 0 || o.Region == "" || o.Instance.Name == "" || o.Instance.Resources.CPUs == 0 || o.Instance.Resources.MemoryMiB == 0 ||
			o.Backend == "" || o.PriceSource == "" || o.Instance.Resources.CPUArch == nil {
			t.Errorf("incomplete: %+v", o)
		}
		if i > 0 && got[i-1].Price > o.Price {
			t.Errorf("%s for %g comes behind one for %g", o.Instance.Name, o.Price, got[i-1].Price)
		}
	}
	if !slices.ContainsFunc(got, func(o backends.Offer) bool {
		return o.Instance.Name == h.Spec.Type && o.Region == h.Spec.Region && o.Instance.Resources.Spot == h.Spec.Spot
	}) {
		t.Errorf("the harness's type %s is not among them", h.Spec.Type)
	}
}

// must injects a fault. A double that cannot do it fails the test: a fault
// that never struck proves nothing.
func (h Harness) must(t *testing.T, f Fault) {
	t.Helper()
	if !h.Inject(f) {
		t.Fatalf("the double cannot do %+v", f)
	}
}
