package engine

import (
	"testing"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// TestInstance is appendix 104-106, 115, 116 and orchestration.md 8.1.
func TestInstance(t *testing.T) {
	t.Parallel()
	unmet := func(i *store.Instance) { i.HostID, i.Info, i.Type, i.TotalBlocks = "", nil, nil, 0 }
	met := func(i *store.Instance) {
		i.Type, i.TotalBlocks = nil, 0
		i.Info = &hostapi.Info{HostID: "h", Host: hostapi.Host{Arch: "amd64", CPUs: 4, MemoryBytes: 8 << 30, DiskBytes: 100 << 30, Addresses: []string{"203.0.113.9/24", "10.1.2.3/24"}}}
	}
	aged := func(i *store.Instance) { i.CreatedAt = *ago(10 * time.Minute) }
	said := func(s string) func(*store.Instance) { return func(i *store.Instance) { i.ReasonMessage = &s } }
	byUser := func(i *store.Instance) { i.Reason = ptr(api.ReasonInstanceTerminatedByUser) }
	for name, c := range map[string]struct {
		inst    store.Instance
		status  api.InstanceStatus
		message string
		effects []string
		events  []string
	}{
		"new":              {testInstance(api.InstancePending, unmet), api.InstancePending, "", []string{"ensure"}, nil},
		"115 comes up":     {testInstance(api.InstancePending, met), api.InstanceIdle, "", []string{"ensure"}, []string{"Instance status changed PENDING -> IDLE"}},
		"115 does not yet": {testInstance(api.InstancePending, unmet, said("refused")), api.InstancePending, "refused", []string{"ensure"}, nil},
		"115 too late": {
			testInstance(api.InstancePending, unmet, said("refused. look"), aged), api.InstanceTerminated,
			"Failed to add SSH instance in 600s. refused. look", []string{"ensure", "forget"},
			[]string{"Instance status changed PENDING -> TERMINATED. Termination reason: PROVISIONING_TIMEOUT (Failed to add SSH instance in 600s. refused. look)"},
		},
		"a part may be installed": {
			testInstance(api.InstancePending, unmet, said("shim does not start"), aged, func(i *store.Instance) { i.HostKeys = []string{"ssh-ed25519 A"} }),
			api.InstanceTerminating, "Failed to add SSH instance in 600s. shim does not start", []string{"ensure", "forget", "uninstall"}, nil,
		},
		"115 for good": {
			testInstance(api.InstancePending, unmet, said("wrong arch"), func(i *store.Instance) { i.Reason = ptr(api.ReasonInstanceError) }),
			api.InstanceTerminated, "wrong arch", []string{"ensure", "forget"},
			[]string{"Instance status changed PENDING -> TERMINATED. Termination reason: ERROR (wrong arch)"},
		},
		"no Docker yet": {
			testInstance(api.InstancePending, met, said("no engine"), func(i *store.Instance) { i.Info.Problem = &hostapi.Problem{Code: "no_docker"} }),
			api.InstancePending, "no engine", []string{"ensure"}, nil,
		},
		"no Docker at all": {
			testInstance(api.InstancePending, met, said("no engine"), aged, func(i *store.Instance) { i.Info.Problem = &hostapi.Problem{Code: "no_docker"} }),
			api.InstanceTerminating, "Failed to add SSH instance in 600s. no engine", []string{"ensure", "forget", "uninstall"}, nil,
		},
		"full disk": {
			testInstance(api.InstancePending, met, said("full"), func(i *store.Instance) { i.Info.Problem = &hostapi.Problem{Code: "disk_full"} }),
			api.InstanceIdle, "full", []string{"ensure"}, nil,
		},
		"115 odd blocks": {
			testInstance(api.InstancePending, met, func(i *store.Instance) { i.BlocksWanted.Count = 3 }),
			api.InstanceTerminating, "Cannot split into blocks: 4 CPUs and 0 GPUs do not divide by 3", []string{"ensure", "forget", "uninstall"}, nil,
		},
		"115 foreign address": {
			testInstance(api.InstancePending, met, func(i *store.Instance) { i.Access.Internal = "10.9.9.9" }),
			api.InstanceTerminating, "Specified internal IP not found among instance interfaces: 10.9.9.9", []string{"ensure", "forget", "uninstall"}, nil,
		},
		"115 foreign network": {
			testInstance(api.InstancePending, met, func(i *store.Instance) { i.Access.Network = "192.168.0.0/16" }),
			api.InstanceTerminating, "Failed to locate internal IP address on the given network", []string{"ensure", "forget", "uninstall"}, nil,
		},
		"105 away":        {testInstance(api.InstanceIdle, func(i *store.Instance) { i.Unreachable, i.UnreachableSince = true, ago(48*time.Hour) }), api.InstanceIdle, "", []string{"ensure"}, nil},
		"left over":       {testInstance(api.InstanceBusy, func(i *store.Instance) { i.Orphans = []string{"a", "b"} }), api.InstanceBusy, "", []string{"ensure", "remove", "remove"}, nil},
		"116 deleted":     {testInstance(api.InstanceTerminating, byUser), api.InstanceTerminating, "", []string{"forget", "uninstall"}, nil},
		"116 uninstalled": {testInstance(api.InstanceTerminating, byUser, func(i *store.Instance) { i.Uninstalled = true }), api.InstanceTerminated, "", []string{"forget"}, []string{"Instance status changed TERMINATING -> TERMINATED"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := decideInstance(instanceView{now: now(), inst: &c.inst})
			expect(t, "status", c.inst.Status, c.status)
			message := ""
			if c.inst.ReasonMessage != nil {
				message = *c.inst.ReasonMessage
			}
			expect(t, "message", message, c.message)
			expect(t, "effects", doing(d), c.effects)
			if c.events != nil {
				expect(t, "events", told(d), c.events)
			}
			expect(t, "final", d.final, c.status == api.InstanceTerminated)
		})
	}
}

func TestInstanceFacts(t *testing.T) {
	t.Parallel()
	i := store.Instance{BlocksWanted: config.Blocks{Auto: true}, Info: &hostapi.Info{Host: hostapi.Host{
		Arch: "arm64", CPUs: 8, MemoryBytes: 64 << 30, DiskBytes: 1 << 40, Addresses: []string{"203.0.113.9/24", "10.1.2.3/24"},
		GPUVendor: "nvidia", GPUDriver: "570.1", GPUs: []hostapi.GPU{{Name: "H100", MemoryBytes: 80 << 30}, {Name: "H100", MemoryBytes: 80 << 30}},
	}}}
	if err := describe(&i); err != nil {
		t.Fatal(err)
	}
	nvidia, gpu := ptr("nvidia"), api.GPU{Name: "H100", MemoryMiB: 81920, Vendor: ptr("nvidia")}
	expect(t, "type", i.Type, &api.InstanceType{Name: "instance", Resources: api.Resources{
		CPUs: 8, MemoryMiB: 65536, GPUs: []api.GPU{gpu, gpu}, Disk: api.Disk{SizeMiB: 1 << 20}, CPUArch: ptr("arm"),
	}})
	expect(t, "blocks, address, driver", []any{i.TotalBlocks, *i.InternalIP, *i.GPUDriver},
		[]any{2, "10.1.2.3", api.GPUDriverInfo{Vendor: nvidia, Version: "570.1"}})
}

// TestFleet is appendix 121.
func TestFleet(t *testing.T) {
	t.Parallel()
	f := testFleet()
	expect(t, "active and empty: kept", decideFleet(fleetView{fleet: &f}).changes(), false)
	f.Status = api.FleetTerminating
	expect(t, "not empty: waits", decideFleet(fleetView{fleet: &f, instances: []store.Instance{{}}}).changes(), false)
	d := decideFleet(fleetView{fleet: &f})
	expect(t, "gone", []any{f.Status, f.Deleted, d.final}, []any{api.FleetTerminated, true, true})
	expect(t, "events", told(d), []string{"Fleet status changed TERMINATING -> TERMINATED"})
}
