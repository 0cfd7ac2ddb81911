package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/market"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// stalls are the backends of every project: one account of the fake cloud.
type stalls struct {
	market *market.Market
	seller market.Seller
}

func (s stalls) Stock(ctx context.Context, projectID string) ([]market.Shelf, error) {
	account := market.Account{ProjectID: projectID, Backend: fake.Type, Config: "1"}
	return []market.Shelf{{Backend: fake.Type, List: s.market.Offers(ctx, account, s.seller)}}, nil
}

// Reservation knows one: of a GPU in a zone.
func (stalls) Reservation(_ context.Context, _, id string) (market.Reserved, error) {
	if id != "cr-gpu" {
		return market.Reserved{}, fmt.Errorf("reservation %s was found in no backend of the project", id)
	}
	return market.Reserved{Backend: fake.Type, Reservation: backends.Reservation{ID: id, Region: "us", Zone: "usb", Type: "gpu", Free: 1}}, nil
}

// cloudRig is a rig with the fake cloud in two regions, and the account of
// project main there.
func cloudRig(t *testing.T) (*rig, *fake.Cloud, *market.Market) {
	t.Helper()
	cloud := fake.New(fake.Config{Now: time.Now, Regions: []string{"eu", "us"}})
	m := market.New(market.Config{Now: time.Now, Fresh: time.Hour, Limit: time.Minute})
	t.Cleanup(m.Close)
	return newRig(t, func(d *Deps) { d.Stock = stalls{m, cloud.Open()} }), cloud, m
}

// addCloudFleet makes a fleet of machines of clouds; busy says of each of its
// instances whether it is.
func (r *rig) addCloudFleet(name string, change func(*config.Fleet), busy ...bool) {
	r.t.Helper()
	f := store.Fleet{
		ID: uuid.NewString(), ProjectID: r.main.ID, Name: name, Status: api.FleetActive, CreatedAt: r.now(),
		Spec: api.FleetSpec{Configuration: config.Fleet{
			Type: config.TypeFleet, Name: &name, Nodes: &config.FleetNodes{Max: new(2)}, Blocks: config.Blocks{Count: 1},
		}},
	}
	change(&f.Spec.Configuration)
	r.write(func(tx *store.Tx) error {
		if err := tx.InsertFleet(&f); err != nil {
			return err
		}
		for n, taken := range busy {
			i := store.Instance{
				ID: uuid.NewString(), ProjectID: r.main.ID, FleetID: f.ID, Name: fmt.Sprintf("%s-%d", name, n), Num: n, Backend: fake.Type,
				Region: "eu", Status: api.InstanceIdle, CreatedAt: r.now(), Price: 0.2, TotalBlocks: 1,
				Type: &api.InstanceType{Name: "own", Resources: api.Resources{
					CPUs: 4, MemoryMiB: 16 << 10, Disk: api.Disk{SizeMiB: 100 << 10}, CPUArch: new("x86"),
				}},
			}
			if taken {
				i.BusyBlocks, i.Status = 1, api.InstanceBusy
			}
			if err := tx.InsertInstance(&i); err != nil {
				return err
			}
		}
		return nil
	})
}

func unchanged(*config.Fleet) {}

// said writes offers as region/type/price/availability, "~" for spot.
func said(list []api.Offer) []string {
	var out []string
	for _, o := range list {
		name := o.Instance.Name
		if o.Instance.Resources.Spot {
			name += "~"
		}
		out = append(out, fmt.Sprintf("%s/%s/%g/%s", o.Region, name, o.Price, o.Availability))
	}
	return out
}

func TestPlanRentals(t *testing.T) {
	t.Parallel()
	r, _, _ := cloudRig(t)
	r.addCloudFleet("pool", unchanged, false, true)
	r.addCloudFleet("more", func(f *config.Fleet) { f.Nodes.Max, f.SpotPolicy = new(9), new(config.SpotPolicyAuto) }, true)
	r.addCloudFleet("own-price", func(f *config.Fleet) { f.MaxPrice = new(0.3) })
	for name, c := range map[string]struct {
		spec, more string
		want       []string
		warning    string
	}{
		"an idle instance first, and no machine that the fleet may not have": {
			`,"fleets":["pool"]`, "", []string{"eu/own/0.2/idle", "eu/own/0.2/busy"}, "",
		},
		"to be had first, then by price": {`,"fleets":["more"],"resources":{"cpu":"4..","gpu":0},"spot_policy":"auto"`, "", []string{
			"eu/large~/0.12/available", "us/large~/0.12/available", "eu/large/0.4/available", "us/large/0.4/available", "eu/own/0.2/busy",
		}, ""},
		"on demand is what runs ask for": {`,"fleets":["more"],"resources":{"gpu":1}`, "", []string{"eu/gpu/1.5/available", "us/gpu/1.5/available"}, ""},
		"only what exists":               {`,"fleets":["more"],"creation_policy":"reuse"`, "", []string{"eu/own/0.2/busy"}, ""},
		"regions and instance types":     {`,"fleets":["more"],"regions":["us"],"instance_types":["gpus","large"]`, "", []string{"us/large/0.4/available", "us/gpus/12/available"}, ""},
		"zones":                          {`,"fleets":["more"],"availability_zones":["usb"],"resources":{"gpu":8}`, "", []string{"us/gpus/12/available"}, ""},
		"a GPU by name, memory and generation": {
			`,"fleets":["more"],"resources":{"gpu":"L4:24GB:1..2"},"spot_policy":"spot"`, "", []string{"eu/gpu~/0.5/available", "us/gpu~/0.5/available"}, "",
		},
		"the lower price of run and fleet": {`,"fleets":["own-price"],"max_price":5`, "", []string{"eu/small/0.1/available", "us/small/0.1/available"}, ""},
		"nothing fits": {`,"fleets":["more"],"resources":{"gpu":"H100:8"}`, "", nil,
			"No offers: pool, own-price: the run asks for other fleets; more-0: needs a GPU, has none; more: none of 16 offers will do (2: its GPUs are others; 2: it has another number of GPUs; 4: it has no GPU; …); the nearest is gpus in eu: needs GPU H100, has L4"},
		"offers of no fleet": {`,"resources":{"cpu":"8.."}`, `,"for_offers_only":true,"max_offers":3`, []string{
			"eu/large/0.4/available", "us/large/0.4/available", "eu/gpu/1.5/available",
		}, ""},
		"offers of fleets, each once": {`,"fleets":["pool","own-price"],"resources":{"gpu":0}`, `,"for_offers_only":true`, []string{
			"eu/own/0.2/idle", "eu/small/0.1/available", "us/small/0.1/available", "eu/large/0.4/available", "us/large/0.4/available", "eu/own/0.2/busy",
		}, ""},
		"in a reservation": {`,"fleets":["more"],"reservation":"cr-gpu"`, "", []string{"us/gpu/1.5/available", "eu/own/0.2/busy"}, ""},
		"in no reservation": {
			`,"fleets":["own-price"],"reservation":"cr-none"`, "", nil,
			"No offers: pool, more: the run asks for other fleets; own-price: none of 16 offers will do (8: it is not in the reservation that is asked for; " +
				"8: it is of another kind: spot or on-demand); the nearest is small in eu: reservation cr-none was found in no backend of the project",
		},
		"the dearest first": {`,"fleets":["more"]`, `,"reverse_offers":true,"max_offers":2`, []string{"eu/gpus/12/available", "us/gpus/12/available"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := `{"run_spec":{"configuration":{"type":"task","commands":["a"],"image":"scratch"` + c.spec + `}}` + c.more + `}`
			plan := post[api.RunPlan](r, runs+"get_plan", body)
			if diff := cmp.Diff(c.want, said(plan.JobPlans[0].Offers)); diff != "" {
				t.Errorf("offers (-want +got):\n%s", diff)
			}
			if got := strings.Join(plan.Warnings, " | "); got != c.warning {
				t.Errorf("warnings %q, want %q", got, c.warning)
			}
		})
	}
}

// TestPlanMissing says what is left out, and asks again when there is more.
func TestPlanMissing(t *testing.T) {
	t.Parallel()
	r, cloud, m := cloudRig(t)
	r.addCloudFleet("pool", unchanged)
	cloud.Inject(fake.Fault{Op: "offers", Times: 1, Err: backends.Error{Kind: backends.Auth, Message: "the key is wrong"}})
	body := `{"run_spec":{"configuration":{"type":"task","commands":["a"],"image":"scratch"}}}`
	plan := post[api.RunPlan](r, runs+"get_plan", body)
	const missing = "Backend dstack: its offers are missing: dstack: the key is wrong"
	if got := plan.Warnings; len(plan.JobPlans[0].Offers) > 0 || len(got) != 2 || got[1] != missing {
		t.Errorf("offers %v, warnings %q", plan.JobPlans[0].Offers, got)
	}
	m.Forget(r.main.ID, fake.Type) // as when the backend is configured anew
	plan = post[api.RunPlan](r, runs+"get_plan", body)
	if len(plan.JobPlans[0].Offers) == 0 || len(plan.Warnings) > 0 {
		t.Errorf("then: offers %v, warnings %q", plan.JobPlans[0].Offers, plan.Warnings)
	}
}

// TestPlanSaysWhichLimit says in a plan what is to be done about a limit that
// the cloud named when it was asked for a machine.
func TestPlanSaysWhichLimit(t *testing.T) {
	t.Parallel()
	r, cloud, m := cloudRig(t)
	r.addCloudFleet("pool", unchanged)
	account := market.Account{ProjectID: r.main.ID, Backend: fake.Type, Config: "1"}
	list := m.Offers(t.Context(), account, cloud.Open())
	spent := &backends.Error{Kind: backends.Quota, Backend: fake.Type, Message: "your vCPU limit is 0", Remedy: "Ask for more"}
	for _, o := range list.Offers {
		if o.Region == "us" {
			m.Refused(account, o, spent)
		}
	}
	const says = "Backend dstack: dstack: your vCPU limit is 0. Ask for more"
	body := `{"run_spec":{"configuration":{"type":"task","commands":["a"],"image":"scratch"}}}`
	if got := post[api.RunPlan](r, runs+"get_plan", body).Warnings; !slices.Contains(got, says) {
		t.Errorf("the plan of a run: %q", got)
	}
	body = `{"run_spec":{"configuration":{"type":"task","commands":["a"],"image":"scratch","regions":["eu"]}}}`
	if got := post[api.RunPlan](r, runs+"get_plan", body).Warnings; slices.Contains(got, says) {
		t.Errorf("the plan of a run in another region: %q", got)
	}
}

// never is a cloud that does not answer.
type never struct{}

func (never) Offers(ctx context.Context) ([]backends.Offer, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

type broken struct{}

func (broken) Reservation(context.Context, string, string) (market.Reserved, error) {
	return market.Reserved{}, errors.New("no disk")
}

func (broken) Stock(context.Context, string) ([]market.Shelf, error) {
	return nil, errors.New("no disk")
}

func TestSlowCloudIsLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := market.New(market.Config{Now: time.Now, Fresh: time.Hour, Limit: time.Minute})
		defer m.Close()
		a := &API{deps: Deps{Stock: stalls{m, never{}}}}
		began := time.Now()
		got, err := a.stock(t.Context(), "p")
		if err != nil || time.Since(began) != stockWait || len(got) != 1 {
			t.Errorf("%+v, %v after %s", got, err, time.Since(began))
		}
		if diff := cmp.Diff([]string{"Backend dstack: its offers have not arrived yet"}, got.Missing()); diff != "" {
			t.Error(diff)
		}
	})
	if _, err := (&API{deps: Deps{Stock: broken{}}}).stock(t.Context(), "p"); err == nil {
		t.Error("an error is hidden")
	}
}

func TestFleetPlanOffers(t *testing.T) {
	t.Parallel()
	r, _, _ := cloudRig(t)
	plan := post[api.FleetPlan](r, fleets+"get_plan", `{"spec":`+nodesSpec("pool", "2", `,"resources":{"gpu":"1.."}`)+`}`)
	want := []string{"eu/gpu/1.5/available", "us/gpu/1.5/available", "eu/gpus/12/available", "us/gpus/12/available"}
	if diff := cmp.Diff(want, said(plan.Offers)); diff != "" || plan.TotalOffers != 4 || *plan.MaxOfferPrice != 12 || plan.Warnings != nil {
		t.Errorf("total %d, highest %g, warnings %q, offers (-want +got):\n%s", plan.TotalOffers, *plan.MaxOfferPrice, plan.Warnings, diff)
	}
	plan = post[api.FleetPlan](r, fleets+"get_plan", `{"spec":`+nodesSpec("pool", "2", `,"max_price":0.01`)+`}`)
	inside := post[api.FleetPlan](r, fleets+"get_plan", `{"spec":`+nodesSpec("pool", "2", `,"reservation":"cr-gpu"`)+`}`)
	if diff := cmp.Diff([]string{"us/gpu/1.5/available"}, said(inside.Offers)); diff != "" || inside.Offers[0].AvailabilityZones[0] != "usb" {
		t.Errorf("in a reservation (-want +got):\n%s", diff)
	}
	if len(plan.Offers) > 0 || len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "small in eu: costs 0.1, more than max_price 0.01") {
		t.Errorf("too cheap: %+v", plan)
	}
}

func TestGPUsOfClouds(t *testing.T) {
	t.Parallel()
	r, _, _ := cloudRig(t)
	list := post[api.ListGPUsResponse](r, "/api/project/main/gpus/list",
		`{"run_spec":{"configuration":{"type":"task","commands":["a"],"spot_policy":"auto"}},"group_by":["backend"]}`)
	if len(list.GPUs) != 1 || list.GPUs[0].Name != "L4" || *list.GPUs[0].Count.Max != 8 || len(list.GPUs[0].Regions) != 2 || len(list.GPUs[0].Spot) != 2 {
		t.Errorf("%+v", list.GPUs)
	}
}

// TestWhyRentals has one line for each reason, not for each offer.
func TestWhyRentals(t *testing.T) {
	t.Parallel()
	r, cloud, m := cloudRig(t)
	r.addCloudFleet("pool", unchanged)
	r.addCloudFleet("full", func(f *config.Fleet) { f.Nodes.Max = new(1) }, false)
	applyRun(t, r, runSpec("train", `"resources":{"gpu":"1.."},"max_price":5,`), nil)
	sold := post[api.RunWhy](r, runs+"why", `{"run_name":"train"}`).Candidates
	account := market.Account{ProjectID: r.main.ID, Backend: fake.Type, Config: "1"}
	stock, err := cloud.Open().Offers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range stock {
		if o.Region == "us" {
			m.Refused(account, o, &backends.Error{Kind: backends.NoCapacity})
		}
	}
	m.Refused(account, stock[0], &backends.Error{Kind: backends.Quota})
	now := post[api.RunWhy](r, runs+"why", `{"run_name":"train"}`).Candidates
	text := func(list []api.Candidate) []string {
		var out []string
		for _, c := range list {
			out = append(out, fmt.Sprintf("%s %d %s/%s %s %s: %s", c.Fleet, c.Offers, c.Region, c.Type, c.Verdict, c.Code, c.Reason))
		}
		return out
	}
	want := []string{
		"full 0 / rejected gpu_none: needs a GPU, has none",
		"full 0 / rejected fleet_full: the fleet may have no more machines",
		"pool 1 eu/gpu fits : ",
		"pool 1 us/gpu fits : ",
		"pool 2 eu/gpus rejected price_too_high: 2 offers: it costs more than the run may; the cheapest costs 12, more than max_price 5",
		"pool 4 eu/small rejected gpu_none: 4 offers: it has no GPU; the cheapest needs a GPU, has none",
		"pool 8 eu/small rejected spot: 8 offers: it is of another kind: spot or on-demand; the cheapest is a spot instance",
	}
	if diff := cmp.Diff(want, text(sold)); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
	want[3] = "pool 1 us/gpu rejected not_available: its cloud had none when it was asked last"
	if diff := cmp.Diff(want, text(now)); diff != "" {
		t.Errorf("candidates when a region is sold out (-want +got):\n%s", diff)
	}
	for _, o := range stock {
		if o.Region == "us" && o.Instance.Name == "gpu" && !o.Instance.Resources.Spot {
			m.Given(account, o)
			m.Refused(account, o, &backends.Error{Kind: backends.Unsupported, Backend: fake.Type, Message: "not in this zone"})
		}
	}
	want[3] = "pool 1 us/gpu rejected cloud_refused: dstack: not in this zone"
	if diff := cmp.Diff(want, text(post[api.RunWhy](r, runs+"why", `{"run_name":"train"}`).Candidates)); diff != "" {
		t.Errorf("candidates when a cloud refuses (-want +got):\n%s", diff)
	}
	applyRun(t, r, runSpec("large", `"resources":{"gpu":"H100:8"},"fleets":["pool"],`), nil)
	for _, c := range post[api.RunWhy](r, runs+"why", `{"run_name":"large"}`).Candidates {
		if c.Fleet == "pool" && (c.Offers == 0 || c.Verdict != api.CandidateRejected || c.Next == "") {
			t.Errorf("nothing fits: %+v", c)
		}
	}
	m.Refused(account, stock[0], &backends.Error{Kind: backends.Auth, Backend: fake.Type, Message: "the key is wrong"})
	last := text(post[api.RunWhy](r, runs+"why", `{"run_name":"train"}`).Candidates)
	if got := last[len(last)-1]; got != " 0 / rejected backend_silent: dstack: the key is wrong" {
		t.Errorf("last candidate %q", got)
	}
}
