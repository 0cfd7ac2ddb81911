package offers

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

func ptr[T any](v T) *T { return &v }

func expect[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func gpus(n int, name string, gb int) []api.GPU {
	var out []api.GPU
	for range n {
		out = append(out, api.GPU{Name: name, MemoryMiB: gb << 10, Vendor: ptr("nvidia")})
	}
	return out
}

func host(name string, change ...func(*store.Instance)) store.Instance {
	i := store.Instance{
		ID: name, Name: name, InternalIP: ptr("10.0.0." + name), Backend: "remote", Region: "remote", Status: api.InstanceIdle, TotalBlocks: 1, Hostname: name + ".lan",
		Type: &api.InstanceType{Name: "instance", Resources: api.Resources{CPUs: 8, MemoryMiB: 64 << 10, CPUArch: ptr("x86"), Disk: api.Disk{SizeMiB: 200 << 10}}},
	}
	for _, c := range change {
		c(&i)
	}
	return i
}

func with(g []api.GPU) func(*store.Instance) {
	return func(i *store.Instance) { i.Type.Resources.GPUs = g }
}

func split(total, busy int) func(*store.Instance) {
	return func(i *store.Instance) {
		i.TotalBlocks, i.BusyBlocks = total, busy
		if busy > 0 {
			i.Status = api.InstanceBusy
		}
	}
}

func busy(i *store.Instance) { i.Status, i.BusyBlocks = api.InstanceBusy, i.TotalBlocks }

func fleet(name string, list ...store.Instance) Pool {
	return Pool{Project: "main", Fleet: store.Fleet{ID: name, Name: name, Status: api.FleetActive}, Instances: list}
}

func want(change func(*config.Resources)) Request {
	req := Request{Nodes: 1}
	if change != nil {
		change(&req.Requirements.Resources)
	}
	return req
}

func inZone(zone string) func(*store.Instance) {
	return func(i *store.Instance) { i.Machine = &store.Machine{Zone: zone} }
}

// TestReasons is the filter of orchestration.md 5.2 and configuration.md 3.
func TestReasons(t *testing.T) {
	t.Parallel()
	gpu := func(g config.GPU) Request { return want(func(r *config.Resources) { r.GPU = &g }) }
	h100 := host("h", with(gpus(2, "H100", 80)))
	at := func(lo, hi *int) config.Range[int] { return config.Range[int]{Min: lo, Max: hi} }
	size := func(lo, hi *float64) config.Range[float64] { return config.Range[float64]{Min: lo, Max: hi} }
	for name, c := range map[string]struct {
		req    Request
		inst   store.Instance
		reason string
	}{
		"anything":         {want(nil), host("h"), ""},
		"cpus":             {want(func(r *config.Resources) { r.CPU.Count = at(ptr(16), nil) }), host("h"), "needs 16 or more CPUs, has 8"},
		"exact cpus":       {want(func(r *config.Resources) { r.CPU.Count = at(ptr(1), ptr(1)) }), host("h"), "needs exactly 1 CPU, has 8"},
		"exact memory":     {want(func(r *config.Resources) { r.Memory = size(ptr(8.0), ptr(8.0)) }), host("h"), "needs exactly 8GB of memory, has 64GB"},
		"cpu range":        {want(func(r *config.Resources) { r.CPU.Count = at(ptr(1), ptr(4)) }), host("h"), "needs 1 to 4 CPUs, has 8"},
		"at most":          {want(func(r *config.Resources) { r.CPU.Count = at(nil, ptr(4)) }), host("h"), "needs at most 4 CPUs, has 8"},
		"arch":             {want(func(r *config.Resources) { r.CPU.Arch = ptr("arm") }), host("h"), "needs an arm CPU"},
		"memory":           {want(func(r *config.Resources) { r.Memory = size(ptr(65.0), ptr(128.0)) }), host("h"), "needs 65GB to 128GB of memory, has 64GB"},
		"disk":             {want(func(r *config.Resources) { r.Disk = &config.Disk{Size: size(ptr(500.0), nil)} }), host("h"), "needs 500GB or more of disk, has 200GB"},
		"unknown disk":     {want(func(r *config.Resources) { r.Disk = &config.Disk{Size: size(ptr(500.0), nil)} }), host("h", func(i *store.Instance) { i.Type.Resources.Disk.SizeMiB = 0 }), ""},
		"spot":             {Request{Requirements: api.Requirements{Spot: ptr(true)}}, host("h"), "is not a spot instance"},
		"gpu optional":     {gpu(config.GPU{Vendor: ptr("nvidia"), Count: at(ptr(0), nil)}), host("h"), ""},
		"gpu needed":       {gpu(config.GPU{Count: at(ptr(1), nil)}), host("h"), "needs a GPU, has none"},
		"gpu fits":         {gpu(config.GPU{Vendor: ptr("nvidia"), Name: []string{"h100"}, Count: at(ptr(1), nil), ComputeCapability: []int{9, 0}}), h100, ""},
		"gpu vendor":       {gpu(config.GPU{Vendor: ptr("amd"), Count: at(ptr(1), nil)}), h100, "needs a GPU of amd"},
		"gpu count":        {gpu(config.GPU{Count: at(ptr(1), ptr(1))}), h100, "needs exactly 1 GPU, has 2"},
		"gpu name":         {gpu(config.GPU{Name: []string{"A100", "L4"}, Count: at(ptr(1), nil)}), h100, "needs GPU A100 or L4, has H100"},
		"gpu memory":       {gpu(config.GPU{Memory: ptr(size(ptr(100.0), nil))}), h100, "needs 100GB or more of memory in each GPU, has 80GB"},
		"gpu total memory": {gpu(config.GPU{TotalMemory: ptr(size(ptr(200.0), nil))}), h100, "needs 200GB or more of GPU memory in total, has 160GB"},
		"capability":       {gpu(config.GPU{ComputeCapability: []int{10}}), h100, "needs a GPU of compute capability 10 or more"},
		"unknown model":    {gpu(config.GPU{ComputeCapability: []int{7, 5}}), host("h", with(gpus(1, "X1", 8))), "needs a GPU of compute capability 7.5 or more"},
		"price":            {Request{Requirements: api.Requirements{MaxPrice: ptr(1.0)}}, host("h", func(i *store.Instance) { i.Price = 2 }), "costs 2, more than max_price 1"},
		"backend":          {Request{Profile: config.ProfileParams{Backends: []string{"aws"}}}, host("h"), "the run asks for backends aws"},
		"region":           {Request{Profile: config.ProfileParams{Regions: []string{"REMOTE"}}}, host("h"), ""},
		"zone":             {Request{Profile: config.ProfileParams{AvailabilityZones: []string{"euA"}}}, host("h", inZone("eua")), ""},
		"another zone":     {Request{Profile: config.ProfileParams{AvailabilityZones: []string{"euA"}}}, host("h", inZone("eub")), "the run asks for zones euA"},
		"an unknown zone":  {Request{Profile: config.ProfileParams{AvailabilityZones: []string{"euA"}}}, host("h"), ""},
		"selected":         {Request{Profile: config.ProfileParams{Instances: []config.InstanceSelector{{Hostname: ptr("h.lan")}}}}, host("h"), ""},
		"not selected":     {Request{Profile: config.ProfileParams{Instances: []config.InstanceSelector{{Fleet: &config.EntityReference{Name: "lab"}, Instance: ptr(1)}}}}, host("h"), "the run asks for other instances"},
		"unhealthy":        {want(nil), host("h", func(i *store.Instance) { i.Unhealthy = true }), "its health check failed"},
		"unhealthy, and why": {want(nil), host("h", func(i *store.Instance) {
			i.Unhealthy, i.Info = true, &hostapi.Info{Health: &hostapi.Health{Status: hostapi.HealthFailure, Incidents: []hostapi.Incident{
				{Status: hostapi.HealthWarning, Message: "hot"}, {Status: hostapi.HealthFailure, Message: "GPU 3 is gone"},
			}}}
		}), "its health check failed: GPU 3 is gone"},
		"local":           {Request{NoLocal: true}, host("h", func(i *store.Instance) { i.Access.Local = true }), "only administrators may use this machine (start the server with --local-shared to allow everybody)"},
		"share too small": {want(func(r *config.Resources) { r.CPU.Count = at(ptr(9), nil) }), host("h", split(4, 0)), "needs 9 or more CPUs, has 8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, reason := newJudge(c.req, fleet("lab", c.inst)).match(c.inst)
			expect(t, "reason", reason.text, c.reason)
		})
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	req := want(func(r *config.Resources) { r.CPU.Count.Min = ptr(3) })
	inst := host("h", with(gpus(8, "H100", 80)), split(8, 5))
	m, reason := newJudge(req, fleet("lab", inst)).match(inst)
	expect(t, "reason", reason.text, "")
	expect(t, "smallest share that fits", []any{m.Offer.Blocks, m.Offer.TotalBlocks, m.Available}, []any{3, 8, true})
	res := m.Offer.Instance.Resources
	expect(t, "divided, but for the disk", []any{res.CPUs, res.MemoryMiB, len(res.GPUs), res.Disk.SizeMiB}, []any{3, 24 << 10, 3, 200 << 10})
	inst.BusyBlocks = 6
	_, reason = newJudge(req, fleet("lab", inst)).match(inst)
	expect(t, "fits, but not now", reason.text, "2 of its 8 blocks are free, needs 3")
	req.Nodes = 2
	_, reason = newJudge(req, fleet("lab", inst)).match(inst)
	expect(t, "a node takes the whole host", reason.text, "2 of its 8 blocks are free, needs 8")
}

func TestSplitBlocks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		blocks config.Blocks
		cpus   int
		gpus   int
		want   int
	}{
		{config.Blocks{Count: 1}, 8, 0, 1},
		{config.Blocks{}, 8, 0, 1},
		{config.Blocks{Auto: true}, 8, 0, 8},
		{config.Blocks{Auto: true}, 208, 8, 8},
		{config.Blocks{Count: 4}, 8, 8, 4},
		{config.Blocks{Count: 3}, 8, 0, 0},
		{config.Blocks{Count: 4}, 8, 2, 0},
	} {
		got, err := SplitBlocks(c.blocks, api.Resources{CPUs: c.cpus, GPUs: gpus(c.gpus, "L4", 24)})
		if c.want == 0 {
			if !errors.Is(err, ErrCannotSplit) {
				t.Errorf("%+v: error %v", c, err)
			}
			continue
		}
		expect(t, "blocks", got, c.want)
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	res := Find(want(nil), []Pool{
		fleet("full", host("a", busy)),
		fleet("lab", host("b", split(4, 0)), host("c", with(gpus(1, "L4", 24))), host("d"), host("e", busy), host("f", func(i *store.Instance) { i.Unreachable = true })),
	})
	expect(t, "a full fleet is out", len(res.Groups), 1)
	var names []string
	for _, m := range res.Groups[0].Matches {
		names = append(names, m.Instance.Name)
	}
	expect(t, "idle first, whole before split, no GPU wasted", names, []string{"d", "c", "b", "e"})
	expect(t, "matches", len(res.Matches(false)), 4)
	expect(t, "explained", res.Explain(), "full: its hosts are busy; f: unreachable")
}

// TestAll is what a plan for offers only sees.
func TestAll(t *testing.T) {
	t.Parallel()
	cheap := host("cheap", func(i *store.Instance) { i.Price = 1 })
	busy := host("busy", func(i *store.Instance) { i.Status, i.BusyBlocks = api.InstanceBusy, 1 })
	pools := []Pool{fleet("full", busy), fleet("lab", host("dear", func(i *store.Instance) { i.Price = 2 })), fleet("other", cheap)}
	names := func(req Request, all bool) (out []string) {
		for _, m := range Find(req, pools).Matches(all) {
			out = append(out, m.Instance.Name)
		}
		return out
	}
	expect(t, "of the best fleet", names(Request{}, false), []string{"cheap"})
	expect(t, "of all", names(Request{All: true, Nodes: 2}, true), []string{"cheap", "dear", "busy"})
	expect(t, "room for all replicas", names(Request{Nodes: 1, Need: 2}, false), nil)
}

func TestFleets(t *testing.T) {
	t.Parallel()
	cluster := fleet("cluster", host("a"), host("b"))
	cluster.Fleet.Spec.Configuration.Placement = ptr("cluster")
	gone := fleet("gone", host("c"))
	gone.Fleet.Status = api.FleetTerminating
	res := Find(Request{Nodes: 2}, []Pool{fleet("plain", host("d"), host("e")), gone, cluster, fleet("empty")})
	expect(t, "found", []any{len(res.Groups), res.Groups[0].Fleet.Name, res.Groups[0].Fits}, []any{1, "cluster", true})
	for _, part := range []string{"plain, empty: a multi-node run needs", "gone: the fleet is being deleted"} {
		if !strings.Contains(res.Explain(), part) {
			t.Errorf("%q lacks %q", res.Explain(), part)
		}
	}
	byName := func(project *string, name string) Request {
		return Request{Profile: config.ProfileParams{Fleets: []config.EntityReference{{Project: project, Name: name}}}}
	}
	expect(t, "by name", len(Find(byName(nil, "plain"), []Pool{fleet("plain", host("d"))}).Groups), 1)
	expect(t, "of the project", len(Find(byName(ptr("main"), "plain"), []Pool{fleet("plain", host("d"))}).Groups), 1)
	expect(t, "of another", len(Find(byName(ptr("other"), "plain"), []Pool{fleet("plain", host("d"))}).Groups), 0)
	pending := func(i *store.Instance) { i.Status = api.InstancePending }
	expect(t, "a host is being prepared", Find(Request{}, []Pool{fleet("new", host("x", pending))}).Settling, true)
	expect(t, "one in trouble is not", Find(Request{}, []Pool{fleet("new", host("x", pending, func(i *store.Instance) { i.ReasonMessage = ptr("refused") }))}).Settling, false)
}
