package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dstack/controller/backends"
	"dstack/controller/engine/jobspec"
	"dstack/controller/market"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// runIdle is how long a machine that was made for a run may be unused, unless
// the run or the fleet says otherwise (orchestration.md 8.1).
const runIdle = 5 * time.Minute

// growthView is what a job that may need a new machine looks at besides.
type growthView struct {
	newID func() string
	// user is who submitted the run.
	user string
	// shelves are what the project's backends offer.
	shelves []market.Shelf
	// nums are the numbers that instances of each cloud fleet have.
	nums map[string][]store.Instance
}

// growth is how a fleet can serve a replica: by what it has, what it is having
// made, and new machines.
type growth struct {
	pool   *offers.Pool
	places []*offers.Match // nil for a new machine
	fresh  int
	price  float64 // of the new machines together
}

// grow finds machines for the jobs of a replica for which there is no room on
// those that are ready. It returns false if there are none to be had, and why.
func (v *jobView) grow(d *decision, reqs []offers.Request, res offers.Result) (ok bool, why string) {
	left := without(v.pools, v.ahead)
	var best *growth
	var causes []string
	for _, group := range res.Groups {
		i := slices.IndexFunc(left, func(p offers.Pool) bool { return p.Fleet.ID == group.Fleet.ID })
		g, cause := v.growIn(reqs, &left[i])
		switch {
		case cause != "":
			causes = append(causes, cause)
		case g != nil && (best == nil || g.cheaper(best)):
			best = g
		}
	}
	switch {
	case best != nil && best.fresh > 0 && v.crowded(best):
		d.at(v.now.Add(rivalWait)) // those before it take theirs in a moment
		return true, ""
	case best == nil && v.unknown(res):
		d.at(v.now.Add(offersAgain)) // it wakes when they arrive
		return true, ""
	case best == nil:
		return false, strings.Join(causes, "; ")
	}
	v.take(d, best)
	return true, ""
}

func (g *growth) cheaper(than *growth) bool {
	if g.fresh != than.fresh {
		return g.fresh < than.fresh
	}
	return g.price < than.price
}

// growIn says how a fleet can serve the replica; nil if it cannot, and why.
func (v *jobView) growIn(reqs []offers.Request, p *offers.Pool) (*growth, string) {
	g := &growth{pool: p, places: offers.Gather(reqs, *p)}
	for n, m := range g.places {
		if m != nil {
			continue
		}
		g.fresh++
		hired := offers.Hire(reqs[n], *p, v.stock())
		at := slices.IndexFunc(hired.Rentals, func(r offers.Rental) bool { return offers.Usable(r.Offer) })
		if at < 0 {
			return nil, v.hireText(p, hired)
		}
		g.price += hired.Rentals[at].Offer.Price
	}
	if room := offers.Room(*p); room >= 0 && g.fresh > room {
		return nil, fmt.Sprintf("%s: needs %d new machines, the fleet may have %d more", p.Fleet.Name, g.fresh, room)
	}
	return g, ""
}

// hireText says why a fleet may not have a machine that the job needs.
func (v *jobView) hireText(p *offers.Pool, h offers.Hired) string {
	var parts []string
	switch {
	case p.Fleet.Spec.Configuration.Nodes == nil:
		return "" // its hosts are explained one by one
	case h.Code != "":
		return p.Fleet.Name + ": " + h.Reason
	case len(h.Rentals) > 0:
		parts = append(parts, unavailable(h.Rentals))
	case len(h.Refused) > 0:
		parts = append(parts, offers.Summary(h.Refused))
	case len(v.shelves) == 0:
		parts = append(parts, "the project has no backend that could make a machine")
	}
	for _, s := range v.shelves {
		if text := shelfText(s); text != "" {
			parts = append(parts, text)
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "no backend offers a machine for it")
	}
	return p.Fleet.Name + ": " + strings.Join(parts, "; ")
}

func (v *jobView) stock() []backends.Offer {
	var out []backends.Offer
	for _, s := range v.shelves {
		out = append(out, s.Offers...)
	}
	return out
}

// unknown says that offers have not arrived yet which could make a difference.
func (v *jobView) unknown(res offers.Result) bool {
	grows := slices.ContainsFunc(res.Groups, func(g offers.Group) bool {
		i := slices.IndexFunc(v.pools, func(p offers.Pool) bool { return p.Fleet.ID == g.Fleet.ID })
		return v.pools[i].Fleet.Spec.Configuration.Nodes != nil && !v.pools[i].Imported
	})
	return grows && slices.ContainsFunc(v.shelves, func(s market.Shelf) bool { return !s.Ready })
}

// crowded says that the jobs that come first need the room of a fleet.
func (v *jobView) crowded(g *growth) bool {
	room := offers.Room(*g.pool)
	if room < 0 {
		return false
	}
	for _, reqs := range v.ahead {
		if offers.Allows(reqs[0], *g.pool) {
			room -= len(reqs)
		}
	}
	return g.fresh > room
}

// take gives the jobs of the replica their places, and makes machines for
// those without.
func (v *jobView) take(d *decision, g *growth) {
	fleet := g.pool.Fleet
	nums := freeNums(v.nums[fleet.ID], g.fresh)
	for n, m := range g.places {
		j := v.siblings[n]
		var inst *store.Instance
		switch {
		case m == nil:
			inst = v.newMachine(&fleet, nums[0], j, len(g.places))
			nums = nums[1:]
			d.newInstances = append(d.newInstances, inst)
			v.claim(d, j, inst)
			d.event("Instance created for job. Instance status: "+upper(inst.Status), jobTarget(j), instanceTarget(inst))
			d.wake(store.KindInstance, inst.ID)
		case offers.Unclaimed(m.Instance):
			inst = original(v.pools, m.Instance.ID)
			v.claim(d, j, inst)
			d.saveInstance(inst)
			d.event("Job assigned to instance. "+blocksText(inst), jobTarget(j), instanceTarget(inst))
			v.settleIn(d, j, inst)
		default:
			inst = original(v.pools, m.Instance.ID)
			v.assign(d, j, inst, m.Offer)
		}
		if j == v.job {
			v.instance = inst
		}
	}
	if g.fresh > 0 {
		d.saveFleet(&fleet) // two that grow it at the same time would each count without the other
	}
	if v.run.FleetID == nil {
		v.run.FleetID = &fleet.ID
		d.saveRun(v.run)
	}
}

// claim keeps an instance that is being made for a job.
func (v *jobView) claim(d *decision, j *store.Job, inst *store.Instance) {
	id, used := inst.ID, inst.ID
	j.InstanceID, j.UsedInstanceID, j.Blocks = &id, &used, 1
	inst.BusyBlocks = 1
	d.saveJob(j)
	if j != v.job {
		d.wake(store.KindJob, j.ID)
	}
}

// newMachine is an instance for a job, whose machine has still to be found.
func (v *jobView) newMachine(f *store.Fleet, num int, j *store.Job, nodes int) *store.Instance {
	i := newNode(f, num, v.newID(), v.now)
	i.BlocksWanted = config.Blocks{Count: 1}
	profile := v.run.Spec.Params()
	i.Wish = &store.Wish{
		Requirements: j.Spec.Requirements, Profile: profile, JobID: j.ID, User: v.user, Nodes: nodes,
		IdleSeconds: idleSeconds(profile.IdleDuration, f.Spec.Configuration.IdleDuration),
	}
	if image, ok := v.opts.PublicImage(j.Spec); ok {
		i.Wish.Images = []string{image}
	}
	return i
}

// idleSeconds is the shorter of two times, of which -1 is no limit.
func idleSeconds(run, fleet *int) int {
	least := -1
	set := false
	for _, idle := range []*int{run, fleet} {
		if idle == nil {
			continue
		}
		set = true
		if *idle >= 0 && (least < 0 || *idle < least) {
			least = *idle
		}
	}
	if !set {
		return int(runIdle / time.Second)
	}
	return least
}

// await is what a job does that has an instance without a machine.
func (v *jobView) await(d *decision) {
	j, i := v.job, v.instance
	switch {
	case !ended(i) && v.suits():
		v.settleIn(d, j, i)
	case i.Wish != nil && i.Wish.JobID == j.ID || len(v.siblings) > 1:
		fleet := strings.TrimSuffix(i.Name, fmt.Sprintf("-%d", i.Num))
		v.end(d, api.ReasonNoCapacity, "Failed to provision in fleet '"+fleet+"'"+because(deref(i.ReasonMessage)))
	default:
		// It was not made for this job, which may find another one.
		v.free(d)
		j.UsedInstanceID, j.Blocks = nil, 0
		d.saveJob(j)
		d.wake(store.KindJob, j.ID)
	}
}

// suits says whether a machine that was not made for the job still is what the
// job asks for: the one that it had been promised may have been refused, and
// another one taken that is good enough for the fleet.
func (v *jobView) suits() bool {
	i := *v.instance
	if i.Status == api.InstancePending || i.Wish == nil || i.Wish.JobID == v.job.ID {
		return true
	}
	i.BusyBlocks -= v.job.Blocks
	if i.Status == api.InstanceBusy {
		i.Status = api.InstanceIdle
	}
	pool := v.pools[0]
	pool.Instances = []store.Instance{i}
	return offers.Gather(requests(v.run, []*store.Job{v.job}, v.noLocal, v.disks), pool)[0] != nil
}

// settleIn takes a job to its machine, once there is one, and keeps what it
// knows of it up to date until it starts.
func (v *jobView) settleIn(d *decision, j *store.Job, i *store.Instance) {
	if i.Machine == nil || i.Machine.ID == "" || i.Type == nil || i.Status == api.InstancePending {
		return
	}
	if j.Status == api.JobSubmitted && !v.mayAttach(d, j, i) {
		return
	}
	total := max(i.TotalBlocks, 1)
	offer := i.Machine.Offer
	offer.Blocks, offer.TotalBlocks = j.Blocks, total
	place, share := jobspec.Provisioning(*i, offer), jobspec.Share(*i, offer, len(v.siblings), v.opts)
	switch {
	case j.Status == api.JobSubmitted:
		j.Provisioning, j.Runtime = place, share
		v.attach(d, j, i)
		setJob(d, j, api.JobProvisioning)
	case j.Provisioning == nil || deref(j.Provisioning.Hostname) != deref(place.Hostname):
		share.VolumeNames = j.Runtime.VolumeNames
		j.Provisioning, j.Runtime = place, share
		d.saveJob(j)
	default:
		return
	}
	v.tell(d)
	if j != v.job {
		d.wake(store.KindJob, j.ID)
	}
}
