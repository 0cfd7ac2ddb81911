package engine

import (
	"strings"
	"testing"
	"time"

	"dstack/controller/backends/fake"
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
