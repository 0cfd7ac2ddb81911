package engine

import (
	"strings"
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/market"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// TestGangTriesTheNextRegion: a gang for which a region has no room begins the
// next attempt in another one, as a single machine does, and nothing of it
// idles where it cannot run.
func TestGangTriesTheNextRegion(t *testing.T) {
	t.Parallel()
	regions := []string{"region-1", "region-2", "region-3"}
	inCloud(t, fake.Config{Boot: 20 * time.Second, Capacity: 1, Regions: regions}, func(r *cloudRig) {
		f := r.fleet(0, 0, 8, func(c *config.Fleet) { c.Placement, c.InstanceTypes = new(config.PlacementCluster), []string{"large"} })
		run := r.task("run", nodes(2), retry(config.RetryNoCapacity), func(c *config.Task) { c.Retry.Duration = new(3600) })
		time.Sleep(2 * time.Hour)
		if now, _ := r.runOf(run.ID); now.Status != api.RunFailed {
			r.t.Errorf("the run is %s", now.Status)
		}
		refused, order := map[string]int{}, r.refusals()
		most := 0
		for _, region := range order {
			refused[region]++
			most = max(most, refused[region])
		}
		for _, region := range regions {
			if refused[region] == 0 || refused[region] < most-1 {
				r.t.Errorf("refused in %v", order)
			}
		}
		expect(r.t, "instances", r.statuses(f), "")
		r.clear(f)
	})
}

// refusals are the regions in which a large machine was refused, in their order.
func (r *cloudRig) refusals() (regions []string) {
	for _, e := range r.allEvents() {
		if what, found := strings.CutPrefix(e, "Machine refused: dstack large in "); found {
			region, _, _ := strings.Cut(what, ":")
			regions = append(regions, region)
		}
	}
	return regions
}

// TestUnwanted: a machine that still boots ends at once when the gang gave it
// up for which it was made, and not when its fleet must have it.
func TestUnwanted(t *testing.T) {
	t.Parallel()
	for low, want := range map[int]string{0: "", 1: "provisioning"} {
		inCloud(t, fake.Config{Boot: 5 * time.Minute, Capacity: 1}, func(r *cloudRig) {
			f := r.fleet(0, 0, 8, func(c *config.Fleet) {
				c.Placement, c.InstanceTypes, c.Nodes.Min = new(config.PlacementCluster), []string{"large"}, low
			})
			r.task("run", nodes(2))
			time.Sleep(2 * time.Minute)
			expect(r.t, "instances", r.statuses(f), want)
			r.clear(f)
		})
	}
}

// TestClusterMovesOn: nodes of a new cluster for whose fellows a region has no
// room go, and all of them are asked for in the next one.
func TestClusterMovesOn(t *testing.T) {
	t.Parallel()
	large := func(c *config.Fleet) { c.InstanceTypes = []string{"large"} }
	cluster := func(c *config.Fleet) { c.Placement = new(config.PlacementCluster) }
	inCloud(t, fake.Config{Boot: 20 * time.Second, Capacity: 2, Regions: []string{"region-1", "region-2"}}, func(r *cloudRig) {
		other := r.fleet(1, 1, 1, large)
		time.Sleep(time.Minute)
		f := r.fleet(2, 2, 2, large, cluster)
		time.Sleep(30 * time.Second)
		expect(r.t, "at first", r.statuses(f), "idle terminated")
		time.Sleep(2 * time.Minute)
		expect(r.t, "in the end", r.statuses(f), "idle idle")
		for _, i := range r.instances(f) {
			expect(r.t, "region", i.Region, "region-2")
		}
		if !r.told("dstack in region-1 has room for 1 of 2 nodes; all are asked for elsewhere") {
			r.t.Errorf("events: %q", r.events())
		}
		expect(r.t, "machines", len(r.cloud.Alive()), 3)
		if err := r.engine.DeleteFleets(r.t.Context(), r.user, r.project, []string{other.Name}); err != nil {
			r.t.Fatal(err)
		}
		r.clear(f)
	})
	// There is no room anywhere: it asks in turn, and stays where it is in the end.
	inCloud(t, fake.Config{Capacity: 1, Regions: []string{"region-1", "region-2", "region-3"}}, func(r *cloudRig) {
		f := r.fleet(2, 2, 2, large, cluster)
		time.Sleep(24 * time.Hour)
		expect(r.t, "in the end", r.statuses(f), "idle terminated")
		expect(r.t, "machines", len(r.cloud.Alive()), 1)
		got := r.refusals()
		if n := len(got); n < mostAttempts || got[1] == got[0] || got[2] == got[0] || got[2] == got[1] || got[3] != got[0] {
			r.t.Errorf("refused in %v", got)
		}
		r.clear(f)
	})
}

// TestMoveOn tells which nodes are given up when others found no room.
func TestMoveOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*fleetView)
		want   bool
	}{
		"a new cluster":          {func(*fleetView) {}, true},
		"one that still boots":   {func(v *fleetView) { v.instances[0].Status = api.InstanceProvisioning }, true},
		"it was whole before":    {func(v *fleetView) { v.instances[1].CreatedAt = v.now }, false},
		"a job is on it":         {func(v *fleetView) { v.instances[0].Status, v.instances[0].BusyBlocks = api.InstanceBusy, 1 }, false},
		"a job waits for it":     {func(v *fleetView) { v.instances[0].Status, v.instances[0].BusyBlocks = api.InstanceProvisioning, 1 }, false},
		"another server has it":  {func(v *fleetView) { v.instances[0].Machine.Keeper = "other" }, false},
		"it went for a reason":   {func(v *fleetView) { v.instances[1].Reason = new(api.ReasonInstanceError) }, false},
		"not beside each other":  {func(v *fleetView) { v.fleet.Spec.Configuration.Placement = nil }, false},
		"one is enough":          {func(v *fleetView) { v.fleet.Spec.Configuration.Nodes.Min = 1 }, false},
		"reserved":               {func(v *fleetView) { v.fleet.Spec.Configuration.Reservation = new("cr-1") }, false},
		"only there":             {func(v *fleetView) { v.fleet.Spec.Configuration.Regions = []string{"region-1"} }, false},
		"sold out elsewhere":     {func(v *fleetView) { v.shelves[0].Offers[1].Availability = "not_available" }, false},
		"nothing known":          {func(v *fleetView) { v.shelves = nil }, false},
		"after the last attempt": {func(v *fleetView) { v.fleet.Attempts = mostAttempts - 1 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := cloudFleet(now(), 2, new(2), api.InstanceIdle, api.InstanceTerminated)
			v.fleet.Spec.Configuration.Placement = new(config.PlacementCluster)
			here := clusterView().shelves[0].Offers[0]
			elsewhere := here
			elsewhere.Region = "region-2"
			v.shelves = []market.Shelf{{Backend: fake.Type, Ready: true, List: market.List{Offers: []backends.Offer{here, elsewhere}}}}
			v.instances[0].Machine = &store.Machine{Backend: fake.Type, Region: here.Region, ID: "m", Offer: here.Offer}
			v.instances[1].Reason = new(api.ReasonInstanceNoOffers)
			c.change(&v)
			d := decideFleet(v)
			if went := v.instances[0].Status == api.InstanceTerminating; went != c.want {
				t.Errorf("it went: %v", went)
			}
			if c.want && len(d.newInstances) != 2 {
				t.Errorf("%d new ones", len(d.newInstances))
			}
		})
	}
}
