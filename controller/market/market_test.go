package market_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"dstack/controller/backends"
	"dstack/controller/market"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seller answers after a while with what it has now.
type seller struct {
	after time.Duration
	calls atomic.Int32
	stock []backends.Offer
	err   error
}

func (s *seller) Offers(ctx context.Context) ([]backends.Offer, error) {
	s.calls.Add(1)
	select {
	case <-time.After(s.after):
		return s.stock, s.err
	case <-ctx.Done():
		return nil, &backends.Error{Kind: backends.Transient, Backend: "aws", Message: "cut", Err: ctx.Err()}
	}
}

func offer(region, name string, spot bool, family string) backends.Offer {
	o := backends.Offer{Family: family}
	o.Region, o.Instance.Name, o.Instance.Resources.Spot, o.Availability = region, name, spot, "available"
	return o
}

var account = market.Account{ProjectID: "p", Backend: "aws", Config: "1"}

func run(t *testing.T, test func(t *testing.T, m *market.Market, arrived *atomic.Int32)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var arrived atomic.Int32
		m := market.New(market.Config{
			Now: time.Now, Fresh: 3 * time.Minute, Limit: 10 * time.Second, Arrived: func(market.Account) { arrived.Add(1) },
		})
		defer m.Close()
		test(t, m, &arrived)
	})
}

func TestFirstOneWaits(t *testing.T) {
	run(t, func(t *testing.T, m *market.Market, arrived *atomic.Int32) {
		s := &seller{after: 2 * time.Second, stock: []backends.Offer{offer("r", "a", false, "")}}
		if list, ready := m.Peek(account, s); ready || list.Missing != "its offers have not arrived yet" {
			t.Errorf("before: %+v, %v", list, ready)
		}
		began := time.Now()
		if list := m.Offers(t.Context(), account, s); len(list.Offers) != 1 || list.Missing != "" || time.Since(began) != 2*time.Second {
			t.Errorf("first: %+v after %s", list, time.Since(began))
		}
		time.Sleep(5 * time.Minute) // old: shown, and fetched meanwhile
		began = time.Now()
		if list, ready := m.Peek(account, s); !ready || len(list.Offers) != 1 || time.Since(began) != 0 {
			t.Errorf("old: %+v, %v", list, ready)
		}
		m.Offers(t.Context(), account, s)
		synctest.Wait()
		time.Sleep(3 * time.Second)
		if calls, arrivals := s.calls.Load(), arrived.Load(); calls != 2 || arrivals != 2 {
			t.Errorf("%d calls, %d arrivals", calls, arrivals)
		}
	})
}

func TestManyAskOnce(t *testing.T) {
	run(t, func(t *testing.T, m *market.Market, _ *atomic.Int32) {
		s := &seller{after: time.Second}
		done := make(chan market.List)
		for range 20 {
			go func() { done <- m.Offers(t.Context(), account, s) }()
		}
		for range 20 {
			<-done
		}
		if calls := s.calls.Load(); calls != 1 {
			t.Errorf("%d calls", calls)
		}
	})
}

func TestSlowCloud(t *testing.T) {
	run(t, func(t *testing.T, m *market.Market, _ *atomic.Int32) {
		s := &seller{after: time.Hour}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if list := m.Offers(ctx, account, s); time.Since(began) != time.Second || list.Missing == "" {
			t.Errorf("one who waits a second: %+v after %s", list, time.Since(began))
		}
		if list := m.Offers(t.Context(), account, s); list.Missing != "its offers are missing: aws did not list its offers in 10s" {
			t.Errorf("one who waits: %+v", list)
		}
		if calls := s.calls.Load(); calls != 1 {
			t.Errorf("%d calls", calls)
		}
		time.Sleep(16 * time.Second)
		m.Peek(account, s)
		synctest.Wait()
		if calls := s.calls.Load(); calls != 2 {
			t.Errorf("a cloud that failed was asked %d times in all", calls)
		}
	})
}

func TestPartOfTheRegions(t *testing.T) {
	run(t, func(t *testing.T, m *market.Market, _ *atomic.Int32) {
		s := &seller{stock: []backends.Offer{offer("r", "a", false, "")}, err: errors.New("aws r2: no answer")}
		list := m.Offers(t.Context(), account, s)
		if len(list.Offers) != 1 || !strings.Contains(list.Missing, "aws r2: no answer") {
			t.Errorf("got %+v", list)
		}
	})
}

func TestMemory(t *testing.T) {
	stock := []backends.Offer{
		offer("r1", "gpu", false, "G"), offer("r1", "gpu", true, "G"), offer("r1", "gpus", false, "G"), offer("r2", "gpu", false, "G"), offer("r1", "cpu", false, "S"),
	}
	fail := func(kind backends.Kind, family string) error {
		return &backends.Error{Kind: kind, Backend: "aws", Message: "refused", Family: family}
	}
	for _, c := range []struct {
		name string
		do   func(m *market.Market)
		want []string // availability of each offer; "" for unchanged
		// gone is after how long all is forgotten.
		gone    time.Duration
		missing string
	}{
		{"no capacity", func(m *market.Market) { m.Refused(account, stock[0], fail(backends.NoCapacity, "")) },
			[]string{"not_available", "", "", "", ""}, time.Minute, ""},
		{"again", func(m *market.Market) {
			for range 3 {
				m.Refused(account, stock[0], fail(backends.NoCapacity, ""))
			}
		}, []string{"not_available", "", "", "", ""}, 4 * time.Minute, ""},
		{"quota of a family", func(m *market.Market) { m.Refused(account, stock[0], fail(backends.Quota, "G")) },
			[]string{"no_quota", "no_quota", "no_quota", "", ""}, 10 * time.Minute, ""},
		{"quota", func(m *market.Market) { m.Refused(account, stock[0], fail(backends.Quota, "")) },
			[]string{"no_quota", "no_quota", "", "", ""}, 10 * time.Minute, ""},
		{"credentials", func(m *market.Market) { m.Refused(account, stock[0], fail(backends.Auth, "")) },
			[]string{"not_available", "not_available", "not_available", "not_available", "not_available"}, 5 * time.Minute, "aws: refused"},
		{"configuration of a region", func(m *market.Market) { m.Refused(account, stock[0], fail(backends.Config, "")) },
			[]string{"not_available", "not_available", "not_available", "", "not_available"}, 5 * time.Minute, "aws: refused"},
		{"permission for spot machines", func(m *market.Market) { m.Refused(account, stock[1], fail(backends.Permission, "")) },
			[]string{"", "not_available", "", "", ""}, 5 * time.Minute, "aws: refused"},
		{"permission", func(m *market.Market) { m.Refused(account, stock[0], fail(backends.Permission, "")) },
			[]string{"not_available", "not_available", "not_available", "not_available", "not_available"}, 5 * time.Minute, "aws: refused"},
		{"no answer", func(m *market.Market) { m.Refused(account, stock[0], errors.New("?")) },
			[]string{"", "", "", "", ""}, 0, ""},
		{"given again", func(m *market.Market) {
			m.Refused(account, stock[0], fail(backends.NoCapacity, ""))
			m.Given(account, stock[0])
		}, []string{"", "", "", "", ""}, 0, ""},
		{"another configuration", func(m *market.Market) {
			other := account
			other.Config = "2"
			m.Refused(other, stock[0], fail(backends.Auth, ""))
		}, []string{"", "", "", "", ""}, 0, ""},
		{"forgotten", func(m *market.Market) {
			m.Refused(account, stock[0], fail(backends.Auth, ""))
			m.Forget(account.ProjectID, "aws")
		}, []string{"", "", "", "", ""}, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, func(t *testing.T, m *market.Market, _ *atomic.Int32) {
				s := &seller{stock: stock}
				m.Offers(t.Context(), account, s)
				look := func() ([]string, string) {
					list := m.Offers(t.Context(), account, s)
					var out []string
					for _, o := range list.Offers {
						out = append(out, strings.TrimPrefix(o.Availability, "available"))
					}
					return out, list.Missing
				}
				c.do(m)
				if got, missing := look(); !slices.Equal(got, c.want) || missing != c.missing {
					t.Errorf("got %q %q, want %q %q", got, missing, c.want, c.missing)
				}
				if c.gone > 0 {
					time.Sleep(c.gone - time.Second)
					if got, _ := look(); !slices.Equal(got, c.want) {
						t.Errorf("forgotten too early: %q", got)
					}
					time.Sleep(time.Second)
				}
				if got, missing := look(); c.gone > 0 && !slices.Equal(got, []string{"", "", "", "", ""}) || c.gone > 0 && missing != "" {
					t.Errorf("not forgotten: %q %q", got, missing)
				}
				if stock[0].Availability != "available" {
					t.Error("the cloud's own list was changed")
				}
			})
		})
	}
}

func TestGoods(t *testing.T) {
	goods := market.Goods{
		{Backend: "aws", List: market.List{Offers: []backends.Offer{offer("r", "a", false, ""), offer("r", "b", false, "")}}},
		{Backend: "gcp", List: market.List{Missing: "its offers have not arrived yet"}},
		{Backend: "oci", List: market.List{Offers: []backends.Offer{offer("r", "c", false, "")}}},
	}
	var names []string
	for _, o := range goods.Offers() {
		names = append(names, o.Instance.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) || !slices.Equal(goods.Missing(), []string{"Backend gcp: its offers have not arrived yet"}) {
		t.Errorf("%q, %q", names, goods.Missing())
	}
}

// TestWhenRefused: that an offer was refused is known for a while, though it was
// given since.
func TestWhenRefused(t *testing.T) {
	run(t, func(t *testing.T, m *market.Market, _ *atomic.Int32) {
		stock := []backends.Offer{offer("r1", "gpu", false, "G"), offer("r2", "gpu", false, "G")}
		s := &seller{stock: stock}
		m.Offers(t.Context(), account, s)
		refused := time.Now()
		m.Refused(account, stock[0], &backends.Error{Kind: backends.NoCapacity, Backend: "aws", Message: "refused"})
		time.Sleep(2 * time.Minute)
		m.Given(account, stock[0])
		for _, want := range []time.Time{refused, {}} {
			got := m.Offers(t.Context(), account, s).Offers
			if !got[0].RefusedAt.Equal(want) || !got[1].RefusedAt.IsZero() || got[0].Availability == "not_available" {
				t.Errorf("refused at %s, want %s; another one at %s", got[0].RefusedAt, want, got[1].RefusedAt)
			}
			time.Sleep(time.Hour)
		}
	})
}
