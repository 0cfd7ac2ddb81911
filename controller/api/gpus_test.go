package api

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// machine is an instance of a test's fleet.
type machine struct {
	cpus, gpus   int
	gpu          string
	gpuMiB       int
	price        float64
	spot         bool
	busy, blocks int
}

// addFleet makes a fleet with ready instances.
func (r *rig) addFleet(name string, machines ...machine) {
	r.t.Helper()
	cluster := config.PlacementCluster
	fleet := store.Fleet{
		ID: uuid.NewString(), ProjectID: r.main.ID, Name: name, Status: api.FleetActive, CreatedAt: r.now(),
		Spec: api.FleetSpec{Configuration: config.Fleet{Type: config.TypeFleet, Name: &name, Placement: &cluster}},
	}
	r.write(func(tx *store.Tx) error {
		if err := tx.InsertFleet(&fleet); err != nil {
			return err
		}
		for n, m := range machines {
			i := store.Instance{
				ID: uuid.NewString(), ProjectID: r.main.ID, FleetID: fleet.ID, Name: fmt.Sprintf("%s-%d", name, n), Num: n,
				Backend: "remote", Region: "remote", Status: api.InstanceIdle, CreatedAt: r.now(), Price: m.price,
				TotalBlocks: max(m.blocks, 1), BusyBlocks: m.busy, Access: store.Access{Host: "h"}, InternalIP: new(fmt.Sprintf("10.0.0.%d", n)),
				Type: &api.InstanceType{Name: "instance", Resources: api.Resources{
					CPUs: m.cpus, MemoryMiB: m.cpus << 13, Spot: m.spot, Disk: api.Disk{SizeMiB: 300000}, CPUArch: new("x86"),
				}},
			}
			if m.busy > 0 {
				i.Status = api.InstanceBusy
			}
			for range m.gpus {
				i.Type.Resources.GPUs = append(i.Type.Resources.GPUs, api.GPU{Name: m.gpu, MemoryMiB: m.gpuMiB, Vendor: new("nvidia")})
			}
			if err := tx.InsertInstance(&i); err != nil {
				return err
			}
		}
		return nil
	})
}

// gpuRig has the machines that the answers below were recorded with on 0.22.5.
func gpuRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.addFleet("lab",
		machine{cpus: 32, gpus: 2, gpu: "H100", gpuMiB: 81920, price: 3},
		machine{cpus: 64, gpus: 8, gpu: "H100", gpuMiB: 81920, price: 16, blocks: 8, busy: 6},
		machine{cpus: 16, price: 0.5},
		machine{cpus: 16, gpus: 1, gpu: "A100", gpuMiB: 40960, price: 1.5, spot: true, busy: 1},
	)
	r.addFleet("two", machine{cpus: 32, gpus: 4, gpu: "A100", gpuMiB: 81920, price: 4})
	return r
}

func TestListGPUs(t *testing.T) {
	t.Parallel()
	r := gpuRig(t)
	const a100 = `{"name":"A100","memory_mib":81920,"vendor":"nvidia","availability":["idle"],"spot":["on-demand"],"count":{"min":4,"max":4},"price":{"min":1,"max":1},"offer_price":{"min":4,"max":4},`
	const busy = `{"name":"A100","memory_mib":40960,"vendor":"nvidia","availability":["busy"],"spot":["spot"],"count":{"min":1,"max":1},"price":{"min":1.5,"max":1.5},"offer_price":{"min":1.5,"max":1.5},`
	const h100 = `{"name":"H100","memory_mib":81920,"vendor":"nvidia","availability":["idle"],"spot":["on-demand"],"count":{"min":1,"max":2},"price":{"min":1.5,"max":16},"offer_price":{"min":3,"max":16},`
	const h100x2 = `{"name":"H100","memory_mib":81920,"vendor":"nvidia","availability":["idle"],"spot":["on-demand"],"count":{"min":2,"max":2},"price":{"min":1.5,"max":1.5},"offer_price":{"min":3,"max":3},`
	const h100x1 = `{"name":"H100","memory_mib":81920,"vendor":"nvidia","availability":["idle"],"spot":["on-demand"],"count":{"min":1,"max":1},"price":{"min":16,"max":16},"offer_price":{"min":16,"max":16},`
	const anywhere, inBackend, inRegion = `"backends":["remote"]}`, `"backend":"remote","regions":["remote"]}`, `"backend":"remote","region":"remote"}`
	for name, c := range map[string]struct{ spec, more, want string }{
		"by model":           {"", "", `{"gpus":[` + a100 + anywhere + "," + h100 + anywhere + "," + busy + anywhere + `]}`},
		"by count":           {"", `,"group_by":["count"]`, `{"gpus":[` + a100 + anywhere + "," + h100x2 + anywhere + "," + h100x1 + anywhere + "," + busy + anywhere + `]}`},
		"by backend":         {"", `,"group_by":["backend"]`, `{"gpus":[` + a100 + inBackend + "," + h100 + inBackend + "," + busy + inBackend + `]}`},
		"by region":          {"", `,"group_by":["backend","region"]`, `{"gpus":[` + a100 + inRegion + "," + h100 + inRegion + "," + busy + inRegion + `]}`},
		"the dearest first":  {"", `,"group_by":["count"],"reverse":true`, `{"gpus":[` + h100x1 + anywhere + "," + a100 + anywhere + "," + h100x2 + anywhere + "," + busy + anywhere + `]}`},
		"of a fleet":         {`,"fleets":["two"]`, "", `{"gpus":[` + a100 + anywhere + `]}`},
		"of an instance":     {`,"instances":["two-0"]`, "", `{"gpus":[` + a100 + anywhere + `]}`},
		"none":               {`,"fleets":["none"]`, "", `{"gpus":[]}`},
		"of nodes":           {`,"nodes":2`, "", `{"gpus":[` + a100 + anywhere + "," + h100x2 + anywhere + "," + busy + anywhere + `]}`},
		"a run without GPUs": {`,"resources":{"gpu":0}`, "", `{"gpus":[],"cpus":[{"cpu_arch":["x86"],"count":{"min":16,"max":16},"memory_mib":{"min":131072,"max":131072},"price":{"min":0.5,"max":0.5},"availability":["idle"],"spot":["on-demand"],` + anywhere + `]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := `{"run_spec":{"configuration":{"type":"task","commands":["a"],"spot_policy":"auto"` + c.spec + `}}` + c.more + `}`
			a := r.request(http.MethodPost, "/api/project/main/gpus/list", adminToken, body)
			if diff := cmp.Diff(c.want, a.body); diff != "" {
				t.Errorf("status %d (-want +got):\n%s", a.status, diff)
			}
		})
	}
	body := `{"run_spec":{"configuration":{"type":"task","commands":["a"]}},"group_by":["region"]}`
	if msg, code := refused(r, "/api/project/main/gpus/list", body); msg != "Cannot group by 'region' without also grouping by 'backend'" || code != "error" {
		t.Errorf("by region alone: %s %s", code, msg)
	}
}

// TestPlanOffers is what 0.22.5 offered on the same machines.
func TestPlanOffers(t *testing.T) {
	t.Parallel()
	r := gpuRig(t)
	for name, c := range map[string]struct {
		conf, more string
		prices     [][]float64
	}{
		"the best fleet":         {`"type":"task"`, "", [][]float64{{0.5, 3, 16, 1.5}}},
		"offers only":            {`"type":"task"`, `,"for_offers_only":true`, [][]float64{{0.5, 3, 4, 16, 1.5}}},
		"reversed":               {`"type":"task"`, `,"reverse_offers":true`, [][]float64{{16, 3, 0.5, 1.5}}},
		"at most":                {`"type":"task"`, `,"max_offers":2`, [][]float64{{0.5, 3}}},
		"two nodes":              {`"type":"task","nodes":2`, "", [][]float64{{0.5, 3, 1.5}, {0.5, 3, 1.5}}},
		"two nodes, offers only": {`"type":"task","nodes":2`, `,"for_offers_only":true`, [][]float64{{0.5, 3, 4, 1.5}, {0.5, 3, 4, 1.5}}},
		"two GPUs":               {`"type":"task","resources":{"gpu":2}`, "", [][]float64{{3, 16}}},
		"too many for the split": {`"type":"task","resources":{"gpu":"3.."}`, "", [][]float64{{4}}},
		"several fleets":         {`"type":"task","fleets":["two","lab"]`, "", [][]float64{{0.5, 3, 16, 1.5}}},
		"no such fleet":          {`"type":"task","fleets":["nope"]`, "", [][]float64{nil}},
		"two instances":          {`"type":"task","instances":["lab-1","two-0"]`, "", [][]float64{{4}}},
		"replicas that fit":      {`"type":"service","port":80,"replicas":3`, "", [][]float64{{0.5, 3, 16, 1.5}}},
		"too many replicas":      {`"type":"service","port":80,"replicas":5`, "", [][]float64{nil}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan := post[api.RunPlan](r, runs+"get_plan", `{"run_spec":{"configuration":{`+c.conf+`,"commands":["a"],"spot_policy":"auto"}}`+c.more+`}`)
			var got [][]float64
			for _, p := range plan.JobPlans {
				var prices []float64
				for _, o := range p.Offers {
					prices = append(prices, o.Price)
				}
				got = append(got, prices)
			}
			if diff := cmp.Diff(c.prices, got); diff != "" {
				t.Errorf("prices (-want +got):\n%s", diff)
			}
		})
	}
}
