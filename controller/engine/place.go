package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dstack/controller/engine/jobspec"
	"dstack/controller/engine/status"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/reason"
)

// rivalWait is when a job looks again that let others go first.
const rivalWait = time.Second

// without is what is left of the pools when others got their places.
func without(pools []offers.Pool, others [][]offers.Request) []offers.Pool {
	pools = slices.Clone(pools)
	for i := range pools {
		pools[i].Instances = slices.Clone(pools[i].Instances)
	}
	for _, reqs := range others {
		got, _ := offers.Place(reqs, pools)
		for _, m := range got {
			take(pools, m)
		}
	}
	return pools
}

func take(pools []offers.Pool, m offers.Match) {
	for _, p := range pools {
		for i := range p.Instances {
			if p.Instances[i].ID == m.Instance.ID {
				offers.Take(&p.Instances[i], m.Offer.Blocks)
			}
		}
	}
}

// sshPort is the port of the SSH server in a job.
const sshPort = 10022

const noFleets = status.NoFleets + ". Possible reasons: https://dstack.ai/docs/guides/troubleshooting/#no-fleets"

func portName(n int) string { return strconv.Itoa(n) }

func secondsText(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

func blocksText(i *store.Instance) string {
	return fmt.Sprintf("Instance blocks: %d/%d busy", i.BusyBlocks, i.TotalBlocks)
}

// place finds instances for all jobs of the replica at once, or for none.
// The first job does it for the others.
func (v *jobView) place(d *decision) {
	if v.job.JobNum != 0 {
		return
	}
	for _, s := range v.siblings {
		if s.Status != api.JobSubmitted || s.InstanceID != nil {
			return // the replica is ending; the run's pass ends this job, too
		}
	}
	if v.lacksVolume(d) {
		return
	}
	reqs := requests(v.run, v.siblings, v.noLocal, v.disks)
	got, res := offers.Place(reqs, v.pools)
	if got != nil && len(v.ahead) > 0 {
		if got, _ = offers.Place(reqs, without(v.pools, v.ahead)); got == nil {
			// The room is for others, who take it in a moment.
			d.at(v.now.Add(rivalWait))
			return
		}
	}
	if got == nil {
		if res.Settling {
			// A host is being prepared. It wakes who waits when it is ready,
			// or found to be unfit.
			d.at(v.now.Add(addLimit))
			return
		}
		if v.awaitsVolume(d) {
			return
		}
		if ok, why := v.grow(d, reqs, res); !ok {
			v.end(d, api.ReasonNoCapacity, v.lackText(res, why))
		}
		return
	}
	placed := map[string]*store.Instance{}
	for n, m := range got {
		inst := placed[m.Instance.ID]
		if inst == nil {
			inst = original(v.pools, m.Instance.ID)
			placed[m.Instance.ID] = inst
		}
		v.assign(d, v.siblings[n], inst, m.Offer)
		if v.siblings[n] == v.job {
			v.instance = inst
		}
	}
	if fleet := got[0].Instance.FleetID; v.run.FleetID == nil {
		v.run.FleetID = &fleet
		d.saveRun(v.run)
	}
}

// original is the row of an instance: that of a match may already count what
// others are about to take.
func original(pools []offers.Pool, id string) *store.Instance {
	for _, p := range pools {
		for i := range p.Instances {
			if p.Instances[i].ID == id {
				return &p.Instances[i]
			}
		}
	}
	return nil
}

// assign gives a job its share of an instance.
func (v *jobView) assign(d *decision, j *store.Job, inst *store.Instance, offer api.Offer) {
	id, used := inst.ID, inst.ID
	j.InstanceID, j.UsedInstanceID, j.Blocks = &id, &used, offer.Blocks
	j.Provisioning = jobspec.Provisioning(*inst, offer)
	j.Runtime = jobspec.Share(*inst, offer, len(v.siblings), v.opts)
	v.attach(d, j, inst)
	inst.BusyBlocks += offer.Blocks
	d.event("Job assigned to instance. "+blocksText(inst), jobTarget(j), instanceTarget(inst))
	if inst.Status == api.InstanceIdle {
		setInstance(d, inst, api.InstanceBusy)
	}
	d.saveInstance(inst)
	setJob(d, j, api.JobProvisioning)
	d.wake(store.KindRun, j.RunID)
	if j != v.job {
		d.wake(store.KindJob, j.ID)
	}
}

// noRoom says why the best of the fleets has no room.
func (v *jobView) noRoom(res offers.Result) string {
	const full = "Fleet is at capacity"
	if len(res.Groups) == 0 {
		return full
	}
	f := &res.Groups[0].Fleet
	nodes := f.Spec.Configuration.Nodes
	if nodes == nil {
		return full
	}
	for _, p := range v.pools {
		if p.Fleet.ID == f.ID && nodes.Max != nil && len(p.Instances) >= *nodes.Max {
			return full
		}
	}
	return fmt.Sprintf("No offers matching the run requirements in fleet '%s'", f.Name)
}

// lackText says why there is no room, in the words of 0.22.5 first.
func (v *jobView) lackText(res offers.Result, growth string) string {
	profile := v.run.Spec.Params()
	text := v.noRoom(res)
	switch {
	case profile.Instances != nil:
		text = "Failed to use specified instances"
	case len(res.Groups) == 0 && profile.Fleets != nil:
		text = "Failed to use specified fleets"
	case len(res.Groups) == 0:
		text = noFleets
	case profile.CreationPolicy != nil && *profile.CreationPolicy == config.CreationReuse:
		text = "Could not reuse any instance for this job"
	}
	if growth != "" { // it says more of this
		res.Rejected = slices.DeleteFunc(slices.Clone(res.Rejected), func(r offers.Rejection) bool { return r.Code == reason.NoMachine })
	}
	why := slices.DeleteFunc([]string{res.Explain(), growth}, func(s string) bool { return s == "" })
	if len(why) > 0 {
		text += " (" + strings.Join(why, "; ") + ")"
	}
	return text
}
