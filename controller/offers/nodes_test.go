package offers

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

func cluster(list ...store.Instance) []Pool {
	p := fleet("cluster", list...)
	p.Fleet.Spec.Configuration.Placement = ptr("cluster")
	return []Pool{p}
}

func cpus(n int) func(*store.Instance) {
	return func(i *store.Instance) { i.Type.Resources.CPUs = n }
}

func at10(ip *string) func(*store.Instance) {
	return func(i *store.Instance) { i.InternalIP = ip }
}

// nodesWith are requests of the nodes of one run, by what each needs.
func nodesWith(needs ...func(*config.Resources)) []Request {
	var out []Request
	for _, need := range needs {
		req := want(need)
		req.Nodes, req.Requirements.Multinode = len(needs), ptr(true)
		out = append(out, req)
	}
	return out
}

func needCPUs(n int) func(*config.Resources) {
	return func(r *config.Resources) { r.CPU.Count.Min = ptr(n) }
}

func needGPU(r *config.Resources) { r.GPU = &config.GPU{Count: config.Range[int]{Min: ptr(1)}} }

func placed(got []Match) string {
	var names []string
	for _, m := range got {
		names = append(names, m.Instance.Name)
	}
	return strings.Join(names, " ")
}

// TestPlaceNodes: all nodes get a host, each its own, or none does.
func TestPlaceNodes(t *testing.T) {
	t.Parallel()
	gpu := with(gpus(1, "L4", 24))
	for name, c := range map[string]struct {
		nodes []Request
		pools []Pool
		want  string
		why   string
	}{
		"each kind its host": {nodesWith(nil, needGPU), cluster(host("a", gpu), host("b")), "b a", ""},
		"not half":           {nodesWith(needGPU, needGPU), cluster(host("a", gpu), host("b")), "", ""},
		// Only one host is right for the master, and too few for all nodes are.
		"groups that differ": {nodesWith(needGPU, nil, nil), cluster(host("a"), host("b", gpu), host("c")), "b a c", ""},
		"one makes way":      {nodesWith(needCPUs(4), needCPUs(8)), cluster(host("a", cpus(8)), host("b", cpus(4))), "b a", ""},
		"a chain makes way": {
			nodesWith(needCPUs(2), needCPUs(4), needCPUs(8)), cluster(host("a", cpus(8)), host("b", cpus(4)), host("c", cpus(2))), "c b a", "",
		},
		"nothing is right for the second": {nodesWith(nil, needGPU), cluster(host("a"), host("b")), "", "a, b: needs a GPU, has none"},
		"fewer hosts than nodes":          {nodesWith(nil, nil), cluster(host("a")), "", "its hosts are busy"},
		"whole hosts only":                {nodesWith(nil, nil), cluster(host("a", split(4, 1)), host("b", split(4, 0))), "", "a: 3 of its 4 blocks are free, needs 4"},
		"hosts with blocks that are free": {nodesWith(nil, nil), cluster(host("a", split(4, 0)), host("b", split(4, 0))), "a b", ""},
		"no placement":                    {nodesWith(nil, nil), []Pool{fleet("lab", host("a"), host("b"))}, "", "a multi-node run needs a fleet with `placement: cluster`"},
		"no address":                      {nodesWith(nil, nil), cluster(host("a"), host("b", at10(nil))), "", "b: it has no address at which other nodes could reach it"},
		"the same address": {
			nodesWith(nil, nil), cluster(host("a"), host("b", at10(ptr("10.0.0.a")))), "",
			"a, b: another host of the fleet has the same internal address, 10.0.0.a",
		},
		"one that is on its way out does not count": {
			nodesWith(nil, nil),
			cluster(host("a"), host("b"), host("c", at10(ptr("10.0.0.a")), func(i *store.Instance) { i.Status = api.InstanceTerminating })), "a b", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, res := Place(c.nodes, c.pools)
			expect(t, "placed", placed(got), c.want)
			if !strings.Contains(res.Explain(), c.why) {
				t.Errorf("%q lacks %q", res.Explain(), c.why)
			}
		})
	}
}

// TestPlaceOne: a single job may share a host, and needs no address.
func TestPlaceOne(t *testing.T) {
	t.Parallel()
	got, _ := Place([]Request{{Nodes: 1}}, []Pool{fleet("lab", host("a", split(2, 1), at10(nil)))})
	expect(t, "beside another", got[0].Offer.Blocks, 1)
}

// TestPlaceNodesWheneverPossible compares with trying every order.
func TestPlaceNodesWheneverPossible(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{2, 4, 8, 16})
		var list []store.Instance
		for n := range rapid.IntRange(1, 5).Draw(t, "hosts") {
			list = append(list, host(fmt.Sprint(n), cpus(size.Draw(t, "has"))))
		}
		var needs []func(*config.Resources)
		var sizes []int
		for range rapid.IntRange(2, 5).Draw(t, "nodes") {
			sizes = append(sizes, size.Draw(t, "needs"))
			needs = append(needs, needCPUs(sizes[len(sizes)-1]))
		}
		got, _ := Place(nodesWith(needs...), cluster(list...))
		if want := possible(sizes, list); (got != nil) != want {
			t.Fatalf("placed is %v, possible is %v: %q", got != nil, want, placed(got))
		}
		seen := map[string]bool{}
		for n, m := range got {
			if seen[m.Instance.ID] || m.Instance.Type.Resources.CPUs < sizes[n] {
				t.Fatalf("node %d cannot be on %s", n, m.Instance.Name)
			}
			seen[m.Instance.ID] = true
		}
	})
}

func possible(sizes []int, list []store.Instance) bool {
	if len(sizes) == 0 {
		return true
	}
	for i := range list {
		if list[i].Type.Resources.CPUs >= sizes[0] && possible(sizes[1:], slices.Delete(slices.Clone(list), i, i+1)) {
			return true
		}
	}
	return false
}
