package engine

import (
	"strings"
	"testing"

	"dstack/cloudinit"
	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/market"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// clusterView is a machine of a cluster, with the number 1, that has still to be
// found, and the fleet's other ones.
func clusterView(others ...store.Instance) instanceView {
	fleet := store.Fleet{ID: "f", Name: "fleet", Status: api.FleetActive}
	fleet.Spec.Configuration = config.Fleet{
		Nodes: &config.FleetNodes{}, Placement: new(config.PlacementCluster), Blocks: config.Blocks{Count: 1},
	}
	offer := backends.Offer{Offer: api.Offer{Backend: fake.Type, Region: "region-1", Availability: "available"}}
	offer.Instance = api.InstanceType{Name: "small", Resources: api.Resources{CPUs: 8, MemoryMiB: 32 << 10, Disk: api.Disk{SizeMiB: 200 << 10}, GPUs: []api.GPU{}}}
	v := instanceView{now: now(), inst: &store.Instance{ID: "i", FleetID: "f", Num: 1, Status: api.InstancePending, Wish: &store.Wish{}}}
	v.cloudView = cloudView{
		project: store.Project{Name: "main", PublicKey: "ssh-ed25519 AAAA"}, fleet: &fleet, others: others, mostTries: mostTries, newID: ids(), newKey: func() (string, string, error) { return "PRIVATE KEY", "ssh-ed25519 AAAA", nil },
		shelves: []market.Shelf{{Backend: fake.Type, Ready: true, List: market.List{Offers: []backends.Offer{offer}}}},
	}
	return v
}

// TestNear: a machine of a cluster stands where the others do, and waits until
// it is known where that is.
func TestNear(t *testing.T) {
	t.Parallel()
	other := func(num int, st api.InstanceStatus, m *store.Machine) store.Instance {
		return store.Instance{ID: "o", FleetID: "f", Num: num, Status: st, Machine: m}
	}
	there := &store.Machine{ID: "m", Backend: fake.Type, Region: "region-2"}
	asked := &store.Machine{Backend: fake.Type, Region: "region-2"}
	gone := &store.Machine{Backend: fake.Type, Region: "region-2", GoneAt: ago(0)}
	for name, c := range map[string]struct {
		others     []store.Instance
		near, wait bool
	}{
		"alone":                          {},
		"after one that looks, too":      {[]store.Instance{other(0, api.InstancePending, nil)}, false, true},
		"before one that looks, too":     {[]store.Instance{other(2, api.InstancePending, nil)}, false, false},
		"beside one that is there":       {[]store.Instance{other(2, api.InstanceIdle, there)}, true, false},
		"one that goes":                  {[]store.Instance{other(0, api.InstanceTerminating, there)}, false, false},
		"a later one is asked for":       {[]store.Instance{other(0, api.InstanceTerminating, there), other(2, api.InstancePending, asked)}, false, true},
		"a later one was asked for":      {[]store.Instance{other(2, api.InstancePending, gone)}, false, false},
		"asked for, and one that stands": {[]store.Instance{other(2, api.InstancePending, asked), other(3, api.InstanceBusy, there)}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, wait := clusterView(c.others...).near()
			expect(t, "near", near != nil, c.near)
			expect(t, "wait", wait, c.wait)
		})
	}
}

// TestChoiceInCluster: of two machines that choose at the same time, each
// without having seen what the other one did, one has to look again.
func TestChoiceInCluster(t *testing.T) {
	t.Parallel()
	v := clusterView()
	v.fleet.PlacementGroups = []store.PlacementGroup{{Backend: fake.Type, Region: "region-1", Name: machineName("main", "fleet", "f")}}
	d := decideNode(v)
	if v.inst.Machine == nil {
		t.Fatalf("nothing was chosen: %s", deref(v.inst.ReasonMessage))
	}
	expect(t, "fleets that are kept", d.fleets, []*store.Fleet{v.fleet})
}

// TestOffersElsewhere says why offers that would do are none to ask for.
func TestOffersElsewhere(t *testing.T) {
	t.Parallel()
	first := store.Instance{
		ID: "o", FleetID: "f", Name: "fleet-0", Status: api.InstanceIdle,
		Machine: &store.Machine{ID: "m", Backend: fake.Type, Region: "region-2", Zone: "region-2a"},
	}
	reserved := func(id string) func(*instanceView) {
		return func(v *instanceView) {
			v.fleet.Spec.Configuration.Reservation = &id
			v.inst.Wish.Reserved = &store.Reserved{ID: id, Backend: fake.Type, Region: "region-1", Zone: "region-1b", Type: "gpu"}
		}
	}
	for name, c := range map[string]struct {
		view   instanceView
		change func(*instanceView)
		want   string
	}{
		"beside another one": {
			clusterView(first), func(*instanceView) {},
			"No offers found: it has to stand beside fleet-0 (dstack, region-2a), where no offer would do",
		},
		"reserved, and without a price": {
			clusterView(), reserved("cr-1"),
			"No offers found: reservation cr-1 is for gpu in region-1, which is not offered because it has no price: name one in the catalogue (DSTACK_SERVER_CATALOG)",
		},
		"reserved": {
			clusterView(), func(v *instanceView) {
				reserved("cr-1")(v)
				spot := v.shelves[0].Offers[0]
				spot.Instance.Name, spot.Instance.Resources.Spot = "gpu", true
				v.shelves[0].Offers = append(v.shelves[0].Offers, spot)
			},
			"No offers found: reservation cr-1 is of gpu in region-1b, which would not do",
		},
		"there, and not to be had": {
			clusterView(), func(v *instanceView) { v.shelves[0].Offers[0].Availability = "not_available" },
			"No offers found: 1 offers would do, but none is to be had now; the cheapest is small in region-1: not available",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.change(&c.view)
			decideNode(c.view)
			expect(t, "message", deref(c.view.inst.ReasonMessage), c.want)
		})
	}
}

// TestShimInUserData: a machine fetches the shim by itself only where the server
// is told from where.
func TestShimInUserData(t *testing.T) {
	t.Parallel()
	for name, shim := range map[string]*cloudinit.Download{"none": nil, "a URL": {URL: "https://example.com/shim", SHA256: "digest"}} {
		v := clusterView()
		var asked []string
		v.shimFor = func(cpu string) *cloudinit.Download {
			asked = append(asked, cpu)
			return shim
		}
		decideNode(v)
		if v.inst.Machine == nil {
			t.Fatalf("nothing was chosen: %s", deref(v.inst.ReasonMessage))
		}
		v.inst.Machine.Offer.Instance.Resources.CPUArch = ptr("arm")
		spec, err := v.machineSpec()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(spec.UserData, "example.com/shim"); got != (shim != nil) || got != strings.Contains(spec.UserData, "digest") {
			t.Errorf("%s: %s", name, spec.UserData)
		}
		expect(t, "CPU", asked[len(asked)-1], "arm")
	}
}
