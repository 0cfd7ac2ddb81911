package offers

import (
	"testing"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/reason"
)

func TestHire(t *testing.T) {
	t.Parallel()
	pool := func(change func(*Pool)) Pool {
		p := fleet("pool", host("a", func(i *store.Instance) {
			i.Backend, i.Region, i.Status, i.TotalBlocks = "aws", "eu", api.InstanceProvisioning, 0
		}))
		p.Fleet.Spec.Configuration = config.Fleet{Nodes: &config.FleetNodes{Max: new(2)}, Blocks: config.Blocks{Count: 1}}
		if change != nil {
			change(&p)
		}
		return p
	}
	for name, c := range map[string]struct {
		req   Request
		pool  Pool
		count int
		code  reason.Rejection
	}{
		"room": {Request{}, pool(nil), 4, ""},
		"full": {Request{}, pool(func(p *Pool) { p.Fleet.Spec.Configuration.Nodes.Max = new(1) }), 0, reason.FleetFull},
		"what there is, full or not": {
			Request{All: true}, pool(func(p *Pool) { p.Fleet.Spec.Configuration.Nodes.Max = new(1) }), 4, "",
		},
		"one that goes makes room": {Request{}, pool(func(p *Pool) {
			p.Fleet.Spec.Configuration.Nodes.Max, p.Instances[0].Status = new(1), api.InstanceTerminating
		}), 4, ""},
		"beside the first of a cluster": {Request{}, pool(func(p *Pool) {
			p.Fleet.Spec.Configuration.Placement = new(config.PlacementCluster)
		}), 1, ""},
		"an SSH fleet":             {Request{}, pool(func(p *Pool) { p.Fleet.Spec.Configuration.Nodes = nil }), 0, reason.NoMachine},
		"another project's":        {Request{}, pool(func(p *Pool) { p.Imported = true }), 0, reason.NoMachine},
		"only what exists":         {Request{Profile: config.ProfileParams{CreationPolicy: new(config.CreationReuse)}}, pool(nil), 0, reason.OnlyReuse},
		"only the instances named": {Request{Profile: config.ProfileParams{Instances: []config.InstanceSelector{{Name: new("a")}}}}, pool(nil), 0, reason.InstanceNotAsked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Hire(c.req, c.pool, stock())
			if len(got.Rentals) != c.count || got.Code != c.code || (c.code != "") != (got.Reason != "") {
				t.Errorf("%d rentals, code %q: %s", len(got.Rentals), got.Code, got.Reason)
			}
		})
	}
}

// TestSearchBestFleet is the choice of orchestration.md 5.1.
func TestSearchBestFleet(t *testing.T) {
	t.Parallel()
	cloud := func(name string, most float64) Pool {
		p := fleet(name)
		p.Fleet.Spec.Configuration = config.Fleet{Nodes: &config.FleetNodes{}, MaxPrice: &most, Blocks: config.Blocks{Count: 1}, Regions: []string{"eu"}}
		if most > 1 {
			p.Fleet.Spec.Configuration.Regions = []string{"us"}
		}
		return p
	}
	idle := fleet("idle", host("h", func(i *store.Instance) { i.Price = 5 }))
	for name, c := range map[string]struct {
		pools []Pool
		best  string
	}{
		"what is there, whatever it costs": {[]Pool{cloud("cheap", 1), idle}, "idle"},
		"the cheapest machine":             {[]Pool{cloud("eu", 1), cloud("us", 2)}, "us"},
		"one that can be had at all":       {[]Pool{cloud("none", 0.01), cloud("eu", 1)}, "eu"},
	} {
		if got := Search(Request{}, c.pools, stock()).Groups[0].Fleet.Name; got != c.best {
			t.Errorf("%s: %s", name, got)
		}
	}
}
