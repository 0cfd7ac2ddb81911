package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dstack/cloudinit"
	"dstack/controller/backends"
	"dstack/controller/market"
	"dstack/controller/offers"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

const (
	// mostTries is how many offers are asked for, as in 0.22.5.
	mostTries = 25
	// loginUser is whom cloud-init lets us in as, on every image.
	loginUser = "ubuntu"
	// mostName is how long a machine's name may be (backends.md 1.7).
	mostName = 60
	// mostCauses is how many answers of clouds a message has.
	mostCauses = 5
)

// rent finds a machine for an instance and asks for it until there is a clear
// answer. What was asked for under one token is settled before the next.
func (v instanceView) rent(d *decision) {
	if v.foreign() {
		// What comes of the attempt belongs to the server that made it; the sweep
		// reports it if nobody does any more.
		forgetMachine(v.inst)
		d.saveInstance(v.inst)
	}
	m := v.inst.Machine
	if v.abandoned(d) {
		return
	}
	if m != nil && m.GoneAt != nil {
		v.pass(d)
		m = nil
	}
	fresh := m == nil
	if fresh {
		if m = v.choose(d); m == nil {
			return
		}
	}
	spec, err := v.machineSpec()
	if err != nil && fresh {
		v.lack(d, err.Error())
		return
	}
	deadline := m.AskedAt.Add(askLimit)
	switch {
	case m.DroppedAt != nil:
	case err != nil:
		m.DroppedAt, m.Why = &v.now, err.Error()
		d.saveInstance(v.inst)
	case !v.now.Before(deadline):
		m.DroppedAt, m.Why = &v.now, "no clear answer within "+secondsText(askLimit)+"s"+because(m.Trouble)
		d.saveInstance(v.inst)
	}
	if m.DroppedAt != nil {
		d.do(v.errand(DoRelease))
		return
	}
	d.at(deadline)
	f := v.errand(DoCreate)
	f.Cloud.Spec = spec
	d.do(f)
}

// abandoned ends an instance whose job ended before there was a machine.
func (v instanceView) abandoned(d *decision) bool {
	i := v.inst
	if i.Wish == nil || i.Wish.JobID == "" || i.BusyBlocks > 0 {
		return false
	}
	v.leave(d, api.ReasonInstanceJobFinished, "")
	return true
}

// pass puts an attempt aside of which nothing is left.
func (v instanceView) pass(d *decision) {
	v.inst.Tried = tried(v.inst.Tried, v.inst.Machine, v.inst.Machine.Why, false)
	forgetMachine(v.inst)
	d.saveInstance(v.inst)
}

// tried adds an attempt; sold says that its cloud had no such machine left.
func tried(list []store.Try, m *store.Machine, why string, sold bool) []store.Try {
	return append(slices.Clone(list), store.Try{
		Backend: m.Backend, Region: m.Region, Type: m.Offer.Instance.Name, Spot: m.Spot(), Why: why, Token: m.Token, Sold: sold,
	})
}

// forgetMachine is for one that never came into being.
func forgetMachine(i *store.Instance) {
	i.Machine, i.Backend, i.Region, i.Price, i.Type = nil, "", "", 0, nil
}

// choose takes the best offer that was not tried yet; nil if there is none, or
// none yet.
func (v instanceView) choose(d *decision) *store.Machine {
	i := v.inst
	near, wait := v.near()
	if wait {
		d.at(v.now.Add(offersAgain))
		return nil
	}
	var stock []backends.Offer
	for _, s := range v.shelves {
		if !s.Ready {
			d.at(v.now.Add(offersAgain)) // it wakes when they arrive
			return nil
		}
		stock = append(stock, s.Offers...)
	}
	if !v.reserved(d) {
		return nil
	}
	w := v.wish()
	rentals, refused := offers.Rent(offers.Request{Requirements: w.Requirements, Profile: w.Profile, Nodes: w.Nodes, Volumes: v.volumes}, *v.fleet, stock)
	at := v.pick(rentals, near)
	if at < 0 || len(i.Tried) >= v.mostTries {
		v.lack(d, v.lackText(rentals, refused, near))
		return nil
	}
	m, err := v.attempt(rentals[at], near)
	if err != nil {
		v.lack(d, err.Error())
		return nil
	}
	o := m.Offer
	v.grouped(d, m)
	if isCluster(v.fleet) {
		d.saveFleet(v.fleet) // two that choose at the same time could choose two places
	}
	i.Machine, i.Backend, i.Region, i.Price = m, m.Backend, m.Region, o.Price
	if i.BusyBlocks == 0 {
		d.released = i.ProjectID // who waits may see now whether it will do
	}
	d.event(fmt.Sprintf("Machine requested: %s for $%.4g an hour", offerText(m), o.Price), machineTargets(i, v.jobs)...)
	d.saveInstance(i)
	return m
}

func offerText(m *store.Machine) string {
	text := m.Backend + " " + m.Offer.Instance.Name
	if m.Spot() {
		text += " (spot)"
	}
	return text + " in " + m.Region
}

// wish is what the machine shall be; for one that the fleet itself is to have,
// the fleet says it all.
func (v instanceView) wish() store.Wish {
	if w := v.inst.Wish; w != nil {
		return *w
	}
	return fleetWish(v.fleet)
}

// near is the instance that the machine has to stand beside, if there is one
// with a machine; wait says that there will be.
func (v instanceView) near() (near *store.Instance, wait bool) {
	w := v.wish()
	if w.Near == "" && !isCluster(v.fleet) {
		return nil, false
	}
	var first *store.Instance
	asked := false
	for n := range v.others {
		o := &v.others[n]
		switch {
		case ended(o) || w.Near != "" && o.ID != w.Near:
		case o.Machine != nil && o.Machine.ID != "":
			return o, false
		case o.Machine != nil && o.Machine.GoneAt == nil:
			asked = true // whatever its number: that beside which it was to stand may have gone
		case first == nil || o.Num < first.Num:
			first = o
		}
	}
	return nil, asked || first != nil && (w.Near != "" || first.Num < v.inst.Num)
}

func isCluster(f *store.Fleet) bool {
	p := f.Spec.Configuration.Placement
	return p != nil && *p == config.PlacementCluster
}

// inPlace says whether an offer is where the machine has to be: beside another
// one, or in what was reserved.
func (v instanceView) inPlace(r offers.Rental, near *store.Instance) bool {
	if !fits(v.wish().Reserved, r) {
		return false
	}
	if near == nil {
		return true
	}
	m := near.Machine
	return r.Offer.Backend == m.Backend && r.Offer.Region == m.Region &&
		(m.Zone == "" || len(r.Zones) == 0 || slices.Contains(r.Zones, m.Zone))
}

// mayRent says whether an offer is worth asking for.
func (v instanceView) mayRent(r offers.Rental, near *store.Instance) bool {
	o := r.Offer
	if !offers.Usable(o) || !v.inPlace(r, near) {
		return false
	}
	return !slices.ContainsFunc(v.inst.Tried, func(t store.Try) bool {
		return t.Backend == o.Backend && t.Region == o.Region && t.Type == o.Instance.Name && t.Spot == o.Instance.Resources.Spot
	})
}

// attempt is a machine that is about to be asked for.
func (v instanceView) attempt(r offers.Rental, near *store.Instance) (*store.Machine, error) {
	private, public, err := v.newKey()
	if err != nil {
		return nil, err
	}
	token := v.newID()
	m := &store.Machine{
		Backend: r.Offer.Backend, Token: token, Name: machineName(v.project.Name, v.inst.Name, token),
		Region: r.Offer.Region, Zones: r.Zones, Offer: r.Offer.Offer, Family: r.Offer.Family, DiskGB: r.DiskGB,
		HostKey: private, HostKeyPublic: public, Tags: v.tags(), Keeper: v.serverID, AskedAt: v.now, AskedBy: v.replica,
	}
	if r := v.wish().Reserved; r != nil {
		m.Reservation, m.Zones = r.ID, []string{r.Zone}
	} else if near != nil && near.Machine.Zone != "" {
		m.Zones = []string{near.Machine.Zone}
	}
	return m, nil
}

// tags are those of a machine that is asked for now.
func (v instanceView) tags() map[string]string {
	w := v.wish()
	tags := map[string]string{}
	maps.Copy(tags, v.fleet.Spec.Configuration.Tags)
	maps.Copy(tags, w.Profile.Tags)
	maps.Copy(tags, map[string]string{
		backends.TagServer: v.serverID, backends.TagOwner: "dstack", backends.TagProject: v.project.Name, backends.TagName: v.inst.Name,
	})
	if w.User != "" {
		tags[backends.TagUser] = w.User
	}
	return tags
}

// machineName is what the cloud's console shows (backends.md 1.7).
func machineName(project, instance, token string) string {
	name := "dstack-" + project + "-" + instance
	end := "-" + token[max(len(token)-8, 0):]
	return name[:min(len(name), mostName-len(end))] + end
}

// machineSpec is what the cloud is asked for. It follows from the rows alone:
// the same token always comes with the same.
func (v instanceView) machineSpec() (backends.MachineSpec, error) {
	m := v.inst.Machine
	var shim *cloudinit.Download
	if v.shimFor != nil {
		shim = v.shimFor(deref(m.Offer.Instance.Resources.CPUArch))
	}
	data, err := cloudinit.UserData(cloudinit.Machine{
		User: loginUser, AuthorizedKeys: []string{strings.TrimSpace(v.project.PublicKey)},
		HostKey: m.HostKey, HostKeyPublic: m.HostKeyPublic, NVIDIA: hasNVIDIA(m.Offer.Instance.Resources), Pull: v.wish().Images, Shim: shim,
	})
	if err != nil {
		return backends.MachineSpec{}, fmt.Errorf("write user-data: %w", err)
	}
	return backends.MachineSpec{
		Token: m.Token, Name: m.Name, Region: m.Region, Zones: m.Zones,
		Type: m.Offer.Instance.Name, Resources: m.Offer.Instance.Resources, Spot: m.Spot(), DiskGB: m.DiskGB,
		UserData: data, Tags: m.Tags, PlacementGroup: m.PlacementGroup, Reservation: m.Reservation,
	}, nil
}

func hasNVIDIA(r api.Resources) bool {
	return slices.ContainsFunc(r.GPUs, func(g api.GPU) bool { return g.Vendor != nil && *g.Vendor == "nvidia" })
}

// lack ends an instance for which no machine can be had.
func (v instanceView) lack(d *decision, text string) {
	i := v.inst
	i.Reason, i.ReasonMessage = new(api.ReasonInstanceNoOffers), &text
	i.FinishedAt, i.Uninstalled = &v.now, true
	i.Deleted = i.Wish != nil && i.Wish.JobID != "" // nobody but its job misses it
	forgetMachine(i)
	setInstance(d, i, api.InstanceTerminated)
	v.wakeJobs(d)
	d.wake(store.KindFleet, i.FleetID)
	for n := range v.others { // those that were to stand beside it
		if v.others[n].Machine == nil && v.others[n].Status == api.InstancePending {
			d.wake(store.KindInstance, v.others[n].ID)
		}
	}
	d.released = i.ProjectID // who waited for it has to look elsewhere
}

// lackText says why no machine can be had: in the words of 0.22.5, then what
// the clouds answered, then why offers will not do.
func (v instanceView) lackText(rentals []offers.Rental, refused []offers.Refusal, near *store.Instance) string {
	var causes []string
	add := func(text string) {
		said := slices.ContainsFunc(causes, func(c string) bool { return strings.Contains(c, text) })
		if len(causes) < mostCauses && !said {
			causes = append(causes, text)
		}
	}
	answers, advice := triedTexts(v.inst.Tried)
	for _, text := range answers {
		add(text)
	}
	for _, s := range v.shelves {
		if text := shelfText(s); text != "" {
			add(text)
		}
	}
	there := slices.DeleteFunc(slices.Clone(rentals), func(r offers.Rental) bool { return !v.inPlace(r, near) })
	switch {
	case len(rentals) == 0 && len(refused) > 0:
		add(offers.Summary(refused))
	case len(rentals) > 0 && len(there) == 0:
		add(v.elsewhere(near))
	}
	text := "No offers found"
	if len(v.inst.Tried) > 0 {
		text = "All offers failed"
	} else if len(there) > 0 && len(causes) == 0 {
		add(unavailable(there))
	}
	return text + because(strings.Join(causes, "; ")) + advice
}

// elsewhere says that what would do is not where the machine has to be.
func (v instanceView) elsewhere(near *store.Instance) string {
	r := v.wish().Reserved
	if r != nil && near == nil && !v.sold(r) {
		return "reservation " + r.ID + " is for " + offers.Unpriced(r.Type, r.Region)
	}
	if r != nil && near == nil {
		return fmt.Sprintf("reservation %s is of %s in %s, which would not do", r.ID, r.Type, cmp.Or(r.Zone, r.Region))
	}
	m := near.Machine
	return fmt.Sprintf("it has to stand beside %s (%s, %s), where no offer would do", near.Name, m.Backend, cmp.Or(m.Zone, m.Region))
}

// sold says whether the backends offer what is reserved.
func (v instanceView) sold(r *store.Reserved) bool {
	return slices.ContainsFunc(v.shelves, func(s market.Shelf) bool {
		return s.Backend == r.Backend && slices.ContainsFunc(s.Offers, func(o backends.Offer) bool {
			return o.Region == r.Region && o.Instance.Name == r.Type
		})
	})
}

// shelfText is what of a backend's offers is missing, with its name.
func shelfText(s market.Shelf) string {
	text := strings.TrimSuffix(s.Missing, ".")
	if text == "" || strings.HasPrefix(text, s.Backend) { // a cloud's own answer
		return text
	}
	return s.Backend + ": " + text
}

// unavailable says that what would do is not to be had.
func unavailable(rentals []offers.Rental) string {
	o := rentals[0].Offer
	why := o.Why
	if why == "" {
		why = strings.ReplaceAll(o.Availability, "_", " ")
	}
	return fmt.Sprintf("%d offers would do, but none is to be had now; the cheapest is %s in %s: %s", len(rentals), o.Instance.Name, o.Region, why)
}
