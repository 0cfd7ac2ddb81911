package engine

import (
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
)

// TestTokenIsUsedUp: the zones that a refusal leaves are asked with a token
// that is committed before, and its offer is not set aside.
func TestTokenIsUsedUp(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		spent := times(refusal(backends.NoCapacity), 1)
		spent.Err.Zones = []string{"region-1b"}
		r.cloud.Inject(spent)
		f := r.fleet(0, 1, 1)
		time.Sleep(time.Minute)
		expect(r.t, "statuses", r.statuses(f), "idle")
		i := r.instances(f)[0]
		if len(i.Tried) > 0 || i.Machine.Zone != "region-1b" || i.Machine.Offer.Instance.Name != "small" {
			r.t.Errorf("tried %+v, got a %s in zone %s", i.Tried, i.Machine.Offer.Instance.Name, i.Machine.Zone)
		}
		if made := r.cloud.Alive(); len(made) != 1 || made[0].Token != i.Machine.Token {
			r.t.Errorf("alive: %+v, known by %s", made, i.Machine.Token)
		}
		r.clear(f)
	})
}

// TestTokenMayBeUsedUp: after a call of which no answer came a refusal proves
// nothing about it, so no other token is sent beside it.
func TestTokenMayBeUsedUp(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		lost := times(fake.Fault{Op: "create", Err: backends.Error{Kind: backends.Transient, Message: "no answer"}}, 1)
		spent := times(refusal(backends.NoCapacity), 1)
		spent.Err.Zones = []string{"region-1b"}
		r.cloud.Inject(lost)
		r.cloud.Inject(spent)
		f := r.fleet(0, 1, 1)
		time.Sleep(5 * time.Minute)
		if tried := r.instances(f)[0].Tried; len(tried) != 1 {
			r.t.Errorf("tried %+v", tried)
		}
		r.clear(f)
	})
}
