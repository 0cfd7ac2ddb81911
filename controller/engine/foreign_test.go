package engine

import (
	"testing"
	"time"

	"dstack/controller/backends/fake"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// TestCopyLeavesMachines starts a server on a copy of a database whose original
// still runs: it ends none of the machines that both know, whatever the copy
// says of them. When their hosts take its connections, it goes on with them.
func TestCopyLeavesMachines(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		f := r.fleet(0, 2, 2, idleFor(5*time.Minute))
		time.Sleep(2 * time.Minute)
		expect(t, "at the original", r.statuses(f), "idle idle")
		r.stop()
		r.tag, r.copied = "copy", time.Now()
		r.hosts.belongElsewhere(true)
		r.start()
		time.Sleep(3 * time.Hour)
		expect(t, "at the copy", r.statuses(f), "idle idle")
		expect(t, "machines", len(r.cloud.Alive()), 2)
		expect(t, "message", deref(r.instances(f)[0].ReasonMessage), "it belongs to another server. look")

		r.hosts.belongElsewhere(false)
		r.stop()
		r.start() // the connections of its pool are tried again and again
		time.Sleep(10 * time.Minute)
		expect(t, "once they are its own", r.statuses(f), "")
		r.clear(f)
	})
}

// TestForeignMachines lets nothing end a machine of another server but a person,
// and the cloud.
func TestForeignMachines(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	long := now.Add(-48 * time.Hour)
	fleet := &store.Fleet{Spec: api.FleetSpec{Configuration: config.Fleet{Nodes: &config.FleetNodes{Max: new(int)}}}}
	for name, start := range map[string]store.Instance{
		"unused":      {Status: api.InstanceIdle, IdleSince: &long, Wish: &store.Wish{IdleSeconds: 60}},
		"unreachable": {Status: api.InstanceBusy, UnreachableSince: &long},
		"never boots": {Status: api.InstanceProvisioning, StartedAt: &long},
		"is deaf":     {Status: api.InstanceProvisioning, StartedAt: &long, UnreachableSince: &long, Machine: &store.Machine{AddressAt: &long}},
		"a notice":    {Status: api.InstanceIdle, Info: &hostapi.Info{Notice: &hostapi.Notice{Kind: hostapi.NoticeInterruption}}},
		"too many":    {Status: api.InstanceIdle},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for keeper, ends := range map[string]bool{"this": true, "other": false, "": false} {
				i := start
				m := store.Machine{Backend: fake.Type, ID: "m", Keeper: keeper}
				if start.Machine != nil {
					m.AddressAt = start.Machine.AddressAt
				}
				i.ID, i.ProjectID, i.Backend, i.Machine = "i", "p", fake.Type, &m
				if name == "too many" {
					v := fleetView{now: now, serverID: "this", fleet: fleet, instances: []store.Instance{i}}
					v.balance(&decision{})
					i = v.instances[0]
				} else {
					d := decideInstance(instanceView{now: now, inst: &i, cloudView: cloudView{serverID: "this", bootLimit: bootLimit, fleet: fleet}})
					if !d.next.IsZero() && !d.next.After(now) {
						t.Errorf("keeper %s: it is looked at again at once, for ever", keeper)
					}
					expect(t, "keeper "+keeper+": who waits for it looks elsewhere", d.released != "", start.Status == api.InstanceProvisioning || ends)
				}
				expect(t, "keeper "+keeper+": ends", i.Status == api.InstanceTerminating, ends)
			}
		})
	}
	ended := store.Instance{ID: "i", Backend: fake.Type, Status: api.InstanceIdle, Machine: &store.Machine{ID: "m", Keeper: "other", EndedAt: &now}}
	decideInstance(instanceView{now: now, inst: &ended, cloudView: cloudView{serverID: "this", fleet: fleet}})
	expect(t, "one that its cloud ended", ended.Status, api.InstanceTerminating)
}

// TestForeignVolumes are neither detached nor cleaned up by a copy.
func TestForeignVolumes(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for keeper, want := range map[string]int{"this": 1, "other": 0} {
		vol := &store.Volume{ID: "v", Status: api.VolumeActive, CreatedAt: now.Add(-time.Hour), Provisioning: &api.VolumeProvisioningData{}}
		d := decideVolume(volumeView{now: now, serverID: "this", volume: vol, holders: []tenancy{{
			at:   &store.VolumeAttachment{VolumeID: "v", InstanceID: "i", Device: new("/dev/sdf")},
			inst: &store.Instance{ID: "i", Status: api.InstanceBusy, Machine: &store.Machine{ID: "m", Keeper: keeper}},
		}}})
		expect(t, "detachments from a machine of "+keeper, len(d.effects), want)
	}
	for copied, want := range map[time.Time]bool{{}: true, now.Add(-time.Minute): false, now.Add(-2 * time.Hour): true} {
		vol := &store.Volume{ID: "v", Status: api.VolumeActive, CreatedAt: now.Add(-time.Hour)}
		vol.Configuration.AutoCleanupDuration = new(60)
		decideVolume(volumeView{now: now, copied: copied, serverID: "this", volume: vol})
		expect(t, "cleaned up by one copied at "+copied.String(), vol.Deleting, want)
	}
}
