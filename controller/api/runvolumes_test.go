package api

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"dstack/controller/backends/fake"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// addVolume makes an active volume of the fake cloud.
func (r *rig) addVolume(name, region, zone string) store.Volume {
	r.t.Helper()
	v := store.Volume{
		ID: uuid.NewString(), ProjectID: r.main.ID, UserID: r.main.OwnerID, Name: name, Status: api.VolumeActive, CreatedAt: r.now(),
		Configuration: config.Volume{Type: config.TypeVolume, Backend: fake.Type, Name: &name, Region: region, Size: new(1.0)},
		Provisioning:  &api.VolumeProvisioningData{VolumeID: "vol-" + name, AvailabilityZone: &zone, Attachable: true, Detachable: true},
	}
	r.write(func(tx *store.Tx) error { return tx.InsertVolume(&v) })
	return v
}

// TestPlanWithVolumes offers what is where the volumes are, used or not, and
// tells a run that waits who uses them.
func TestPlanWithVolumes(t *testing.T) {
	t.Parallel()
	r, _, _ := cloudRig(t)
	r.addCloudFleet("pool", func(f *config.Fleet) { f.Nodes.Max = new(9) }, true)
	v := r.addVolume("data", "us", "usb")
	plan := func(more string) api.RunPlan {
		body := `{"run_spec":{"configuration":{"type":"task","commands":["a"],"image":"scratch","instance_types":["small"],` + more + `}}}`
		return post[api.RunPlan](r, runs+"get_plan", body)
	}
	const mounts = `"volumes":["data:/data"]`
	list := plan(mounts).JobPlans[0].Offers
	if len(list) != 1 || list[0].Region != "us" || strings.Join(list[0].AvailabilityZones, ",") != "usb" {
		t.Errorf("offers: %+v", list)
	}
	if p := plan(mounts + `,"availability_zones":["usa"]`); len(p.JobPlans[0].Offers) > 0 {
		t.Errorf("in another zone: %+v", p.JobPlans[0].Offers)
	}
	r.write(func(tx *store.Tx) error {
		fleets, err := tx.Fleets(store.FleetFilter{ProjectIDs: []string{r.main.ID}})
		if err != nil {
			return err
		}
		list, err := tx.InstancesOfFleet(fleets[0].ID)
		if err != nil {
			return err
		}
		return tx.PutAttachment(&store.VolumeAttachment{VolumeID: v.ID, InstanceID: list[0].ID, Device: new("/dev/sdf")})
	})
	if list := plan(mounts).JobPlans[0].Offers; len(list) != 1 {
		t.Errorf("offers while it is in use: %+v", list)
	}
	applyRun(t, r, runSpec("train", mounts+`,`), nil)
	why := post[api.RunWhy](r, runs+"why", `{"run_name":"train"}`)
	if job := why.Jobs[0]; why.Code != "volume" || job.Code != "volume" || !strings.Contains(job.State, "(its volume data is attached to pool-0)") {
		t.Errorf("why: %s: %s", why.State, job.State)
	}
	for name, c := range map[string]struct{ more, want string }{
		"one for two nodes": {`"nodes":2,` + mounts, "Volume data cannot be mounted by more than one node. Use one volume for each, with ${{ dstack.node_rank }} in its name"},
		"not there":         {`"volumes":["none:/data"]`, "Volume ['none'] not found"},
		"twice":             {`"volumes":["data:/a","data:/b"]`, "Cannot attach the same volume at different mount points"},
	} {
		body := `{"run_spec":{"configuration":{"type":"task","commands":["a"],"image":"scratch",` + c.more + `}}}`
		if msg, _ := refused(r, runs+"get_plan", body); msg != c.want {
			t.Errorf("%s: %s", name, msg)
		}
	}
}
