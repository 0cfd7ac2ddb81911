package engine

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/backends/fake"
	"dstack/controller/engine/jobspec"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// TestSuits looks at the machine that a job waited for: the one that it had
// been promised, or another one that only its fleet asked for.
func TestSuits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status api.InstanceStatus
		kind   string
		job    string // for which it was made
		want   bool
	}{
		"as promised":            {api.InstanceProvisioning, "large", "", true},
		"another one":            {api.InstanceProvisioning, "small", "", false},
		"another one, ready":     {api.InstanceBusy, "small", "", false},
		"as promised, ready":     {api.InstanceBusy, "large", "", true},
		"not known yet":          {api.InstancePending, "small", "", true},
		"made for the job":       {api.InstanceProvisioning, "small", "j", true},
		"made for somebody else": {api.InstanceProvisioning, "small", "other", false},
	} {
		t.Run(name, func(t *testing.T) {
			task := &config.Task{Type: "task", RunBase: config.RunBase{Resources: simInfo()}}
			task.InstanceTypes = []string{"large"}
			run := &store.Run{ID: "r", Spec: api.RunSpec{Configuration: config.Run{Task: task}}}
			offer := api.Offer{Backend: fake.Type, Region: "region-1", Blocks: 1, TotalBlocks: 1}
			offer.Instance = api.InstanceType{Name: tt.kind, Resources: api.Resources{CPUs: 8, MemoryMiB: 32 << 10, GPUs: []api.GPU{}}}
			inst := store.Instance{
				ID: "i", FleetID: "f", Status: tt.status, Backend: fake.Type, Region: "region-1", TotalBlocks: 1, BusyBlocks: 1,
				Type: &offer.Instance, BlocksWanted: config.Blocks{Count: 1}, Wish: &store.Wish{JobID: tt.job},
				Machine: &store.Machine{ID: "m", Backend: fake.Type, Region: "region-1", Offer: offer},
			}
			v := jobView{run: run, job: &store.Job{ID: "j", Blocks: 1}, instance: &inst}
			fleet := store.Fleet{ID: "f", Name: "fleet", Status: api.FleetActive}
			fleet.Spec.Configuration.Nodes = &config.FleetNodes{}
			v.pools = []offers.Pool{{Fleet: fleet, Instances: []store.Instance{inst}}}
			if got := v.suits(); got != tt.want {
				t.Errorf("suits is %v, want %v", got, tt.want)
			}
		})
	}
}

// TestFetchesTheImageOfTheJob: what a new machine fetches while it boots is
// what its job will ask for.
func TestFetchesTheImageOfTheJob(t *testing.T) {
	t.Parallel()
	task := &config.Task{Type: "task"}
	v := jobView{
		run:  &store.Run{ID: "r", Spec: api.RunSpec{Configuration: config.Run{Task: task}}},
		opts: jobspec.Options{Registry: "mirror.example"},
	}
	v.newID = func() string { return "i" }
	fleet := store.Fleet{ID: "f", Name: "fleet"}
	fleet.Spec.Configuration.Nodes = &config.FleetNodes{}
	i := v.newMachine(&fleet, 0, &store.Job{ID: "j", Spec: api.JobSpec{ImageName: "busybox"}}, 1)
	if diff := cmp.Diff([]string{"mirror.example/busybox"}, i.Wish.Images); diff != "" {
		t.Error(diff)
	}
}
