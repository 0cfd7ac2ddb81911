package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"dstack/controller/hosts"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

// backendSSH is what hosts of SSH fleets and this machine have as backend and
// region.
const backendSSH = "remote"

// addLimit is how long a host may take until it first answers.
const addLimit = 10 * time.Minute

// instanceView is what a decision about an instance looks at.
type instanceView struct {
	now  time.Time
	inst *store.Instance
	// jobs hold a share of the instance.
	jobs []store.Job
	// cloudView is for machines of clouds only.
	cloudView
}

// decideInstance brings a host up, keeps it clean, and takes it down.
func decideInstance(v instanceView) *decision {
	d := &decision{}
	i := v.inst
	if i.Backend != backendSSH {
		return decideNode(v)
	}
	switch i.Status {
	case api.InstancePending, api.InstanceProvisioning:
		d.do(v.effect(DoEnsure))
		v.prepare(d)
	case api.InstanceIdle, api.InstanceBusy:
		d.do(v.effect(DoEnsure))
		v.refresh(d)
		v.clean(d)
	}
	if i.Status == api.InstanceTerminating {
		v.terminate(d)
	}
	if i.Status == api.InstanceTerminated {
		d.do(v.effect(DoForget))
		d.final = true
	}
	return d
}

func (v instanceView) effect(kind EffectKind) Effect {
	i := v.inst
	return Effect{
		Kind:       kind,
		Key:        store.Key{Kind: store.KindInstance, ID: i.ID},
		InstanceID: i.ID,
		Target: hosts.Target{
			InstanceID: i.ID, Access: i.Access, HostKeys: i.HostKeys, HostID: i.HostID, Seq: i.Seq,
			Rented: rented(i),
		},
	}
}

// prepare takes a new host into service, or gives it up.
func (v instanceView) prepare(d *decision) {
	i := v.inst
	// What is installed has to be removed again.
	end := api.InstanceTerminated
	if i.HostID != "" {
		end = api.InstanceTerminating
	}
	cause := ""
	if i.ReasonMessage != nil {
		cause = *i.ReasonMessage
	}
	deadline := i.CreatedAt.Add(addLimit)
	connected := i.HostID != "" && i.UnreachableSince == nil
	switch {
	case connected && fit(i.Info.Problem):
		if err := describe(i); err != nil {
			v.giveUp(d, end, api.ReasonInstanceError, err.Error())
			return
		}
		i.StartedAt = &v.now
		setInstance(d, i, api.InstanceIdle)
		d.released = i.ProjectID
	case connected && i.Info.Problem.Permanent:
		v.giveUp(d, end, api.ReasonInstanceError, cause)
	case i.Reason != nil: // a permanent problem was seen
		v.giveUp(d, end, *i.Reason, cause)
	case !v.now.Before(deadline):
		if len(i.HostKeys) > 0 {
			// We were let in, so a part of ours may lie there.
			end = api.InstanceTerminating
		}
		text := "Failed to add SSH instance in 600s"
		if cause != "" {
			text += ". " + cause
		}
		v.giveUp(d, end, api.ReasonInstanceProvisioningTimeout, text)
	default:
		d.at(deadline)
		if cause != "" {
			d.released = i.ProjectID // who waits for it may look elsewhere
		}
	}
}

// fit says whether a host may be taken into service. A full disk passes: the
// host takes jobs as soon as there is room.
func fit(p *hostapi.Problem) bool { return p == nil || p.Code == "disk_full" }

func (v instanceView) giveUp(d *decision, to api.InstanceStatus, reason api.InstanceReason, message string) {
	v.inst.Reason, v.inst.ReasonMessage = &reason, &message
	if to == api.InstanceTerminated {
		v.inst.FinishedAt = &v.now
		// Nothing is known to be installed, and nothing could be removed.
		v.inst.Uninstalled = true
	}
	setInstance(d, v.inst, to)
	d.wake(store.KindFleet, v.inst.FleetID)
	// Whoever waited for this host has to look elsewhere.
	d.released = v.inst.ProjectID
}

// refresh takes over facts of the host that changed while nobody uses it.
func (v instanceView) refresh(d *decision) {
	i := v.inst
	if i.Status != api.InstanceIdle || i.Info == nil || len(v.jobs) > 0 {
		return
	}
	now := *i
	if describe(&now) == nil && !reflect.DeepEqual(now.Type, i.Type) {
		i.Type, i.TotalBlocks, i.GPUDriver = now.Type, now.TotalBlocks, now.GPUDriver
		d.saveInstance(i)
		d.released = i.ProjectID
	}
}

// clean removes what no job here owns.
func (v instanceView) clean(d *decision) {
	for _, id := range v.inst.Orphans {
		f := v.effect(DoRemove)
		f.TaskID = id
		d.do(f)
	}
}

// terminate leaves the host as it was found.
func (v instanceView) terminate(d *decision) {
	i := v.inst
	if !i.Uninstalled {
		// A connection that is kept up would deploy the shim again.
		d.do(v.effect(DoForget))
		d.do(v.effect(DoUninstall))
		return
	}
	i.FinishedAt = &v.now
	// One that failed stays visible until its user deletes it.
	i.Deleted = i.Reason == nil || *i.Reason == api.ReasonInstanceTerminatedByUser
	setInstance(d, i, api.InstanceTerminated)
	d.wake(store.KindFleet, i.FleetID)
}

func setInstance(d *decision, i *store.Instance, to api.InstanceStatus) {
	d.events = append(d.events, instanceChanged(i, to, nil))
	i.Status = to
	d.saveInstance(i)
}

// instanceChanged is the event of a change; the reason is told once.
func instanceChanged(i *store.Instance, to api.InstanceStatus, actor *string) store.Event {
	reason := api.InstanceReason("")
	told := to == api.InstanceTerminating || to == api.InstanceTerminated && i.Status != api.InstanceTerminating
	if i.Reason != nil && told {
		reason = *i.Reason
	}
	return newEvent(changed("Instance", i.Status, to, reason, i.ReasonMessage), actor, instanceTarget(i))
}

// describe fills in what follows from the facts of a host.
func describe(i *store.Instance) error {
	res := resourcesOf(i.Info.Host)
	total, err := offers.SplitBlocks(i.BlocksWanted, res)
	if err != nil {
		return err
	}
	ip, err := internalIP(i.Access, i.Info.Host.Addresses)
	if err != nil {
		return err
	}
	i.Type = &api.InstanceType{Name: "instance", Resources: res}
	i.TotalBlocks = total
	i.InternalIP = ip
	i.GPUDriver = driverOf(i.Info.Host)
	return nil
}

func resourcesOf(h hostapi.Host) api.Resources {
	res := api.Resources{
		CPUs:      h.CPUs,
		MemoryMiB: int(h.MemoryBytes >> 20),
		GPUs:      []api.GPU{},
		Disk:      api.Disk{SizeMiB: int(h.DiskBytes >> 20)},
	}
	arch := "x86"
	if h.Arch == "arm64" {
		arch = "arm"
	}
	res.CPUArch = &arch
	for _, g := range h.GPUs {
		vendor := h.GPUVendor
		res.GPUs = append(res.GPUs, api.GPU{Name: g.Name, MemoryMiB: int(g.MemoryBytes >> 20), Vendor: &vendor})
	}
	return res
}

// internalIP is the address at which other nodes reach the host: the given
// one, else the first in the given network, else the first private one
// (spec: job-execution.md 16). A host without any has none.
func internalIP(a store.Access, addresses []string) (*string, error) {
	var ips []netip.Addr
	for _, s := range addresses {
		if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is4() {
			ips = append(ips, p.Addr())
		}
	}
	found := func(ok func(netip.Addr) bool) *string {
		for _, ip := range ips {
			if ok(ip) {
				s := ip.String()
				return &s
			}
		}
		return nil
	}
	switch {
	case a.Internal != "":
		if ip := found(func(ip netip.Addr) bool { return ip.String() == a.Internal }); ip != nil {
			return ip, nil
		}
		return nil, fmt.Errorf("Specified internal IP not found among instance interfaces: %s", a.Internal) //nolint:staticcheck // as 0.22.5 says it
	case a.Network != "":
		network, err := netip.ParsePrefix(a.Network)
		if err != nil {
			return nil, fmt.Errorf("read network: %w", err)
		}
		if ip := found(network.Masked().Contains); ip != nil {
			return ip, nil
		}
		return nil, errors.New("Failed to locate internal IP address on the given network") //nolint:staticcheck // as 0.22.5 says it
	}
	if ip := found(netip.Addr.IsPrivate); ip != nil {
		return ip, nil
	}
	return found(func(netip.Addr) bool { return true }), nil
}
