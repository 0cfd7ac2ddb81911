package offers

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/reason"
)

// defaultDisk is the disk in GB of a machine for which nothing else is asked
// (shared spec, backends.md 1.4).
const defaultDisk = 100

// Rental is a machine that can be rented for a request.
type Rental struct {
	Fleet store.Fleet
	// Offer has the disk that the machine would get, and its price with that
	// disk and a public address.
	Offer  backends.Offer
	DiskGB int
	// Zones are those that the request allows; none means every zone.
	Zones []string
}

// Refusal says why an offer of a cloud is no place for a request.
type Refusal struct {
	Offer backends.Offer
	Code  reason.Rejection
	// Reason is a part of a sentence about the offer.
	Reason string
}

// Rent finds what of a stock meets both what the request asks for and what the
// fleet allows, the cheapest first, and why the rest does not. A list that
// only one of both has is the one that counts, as in 0.22.5 (orchestration.md
// 5.4).
func Rent(req Request, fleet store.Fleet, stock []backends.Offer) ([]Rental, []Refusal) {
	var (
		out     []Rental
		refused []Refusal
	)
	asks := demands(req, fleet.Spec.Configuration)
	asks.unpriced = asks.unsold(stock)
	for _, o := range stock {
		r, why := asks.judge(o)
		if why.code != "" {
			refused = append(refused, Refusal{o, why.code, why.text})
			continue
		}
		r.Fleet = fleet
		out = append(out, r)
	}
	slices.SortStableFunc(out, dearer)
	return out, refused
}

// Usable says whether it makes sense to ask the cloud for the offer now.
func Usable(o backends.Offer) bool {
	switch o.Availability {
	case "not_available", "no_quota", "no_balance":
		return false
	}
	return true
}

// demand is what a request and a fleet ask for together.
type demand struct {
	requirements []api.Requirements
	backends     [][]string
	regions      [][]string
	zones        [][]string
	types        [][]string
	prices       []float64
	blocks       config.Blocks
	volumes      *Volumes
	reservations []string
	reserved     map[string]Reserved
	// unpriced says that what is reserved is not offered at all.
	unpriced bool
	// spot is nil if both kinds will do; clash says that the two exclude each other.
	spot  *bool
	clash bool
}

func demands(req Request, f config.Fleet) demand {
	p := req.Profile
	d := demand{
		requirements: []api.Requirements{req.Requirements},
		backends:     lists(p.Backends, f.Backends),
		regions:      lists(p.Regions, f.Regions),
		zones:        lists(p.AvailabilityZones, f.AvailabilityZones),
		types:        lists(p.InstanceTypes, f.InstanceTypes),
		blocks:       f.Blocks,
		volumes:      req.Volumes,
		reservations: reservationsOf(req, &f),
		reserved:     req.Reserved,
	}
	if f.Resources != nil {
		d.requirements = append(d.requirements, api.Requirements{Resources: *f.Resources})
	} else if reflect.ValueOf(req.Requirements.Resources).IsZero() {
		d.requirements[0].Resources = config.DefaultResources() // nobody says anything
	}
	for _, most := range []*float64{req.Requirements.MaxPrice, f.MaxPrice} {
		if most != nil {
			d.prices = append(d.prices, *most)
		}
	}
	mine, theirs := req.Requirements.Spot, spotOf(f.SpotPolicy)
	d.spot = cmp.Or(mine, theirs)
	d.clash = mine != nil && theirs != nil && *mine != *theirs
	return d
}

// spotOf is what a policy asks for: on-demand machines if it is not set.
func spotOf(policy *string) *bool {
	switch {
	case policy == nil || *policy == config.SpotPolicyOnDemand:
		return new(false)
	case *policy == config.SpotPolicySpot:
		return new(true)
	}
	return nil
}

func lists(all ...[]string) [][]string {
	return slices.DeleteFunc(all, func(l []string) bool { return l == nil })
}

func (d demand) judge(o backends.Offer) (Rental, refusal) {
	r := Rental{Offer: o}
	if why := d.place(o); why.code != "" {
		return r, why
	}
	switch {
	case d.clash:
		return r, because(reason.Spot, "the fleet and the run ask for different kinds: spot and on-demand")
	case d.spot != nil && *d.spot != o.Instance.Resources.Spot && *d.spot:
		return r, because(reason.Spot, "is not a spot instance")
	case d.spot != nil && *d.spot != o.Instance.Resources.Spot:
		return r, because(reason.Spot, "is a spot instance")
	}
	if why := d.inReservation(&r); why.code != "" {
		return r, why
	}
	if len(d.zones) > 0 {
		if r.Zones = d.zonesOf(o); len(r.Zones) == 0 {
			return r, because(reason.RegionNotAsked, "is in none of the zones asked for")
		}
	}
	if why := d.besideVolumes(&r); why.code != "" {
		return r, why
	}
	for _, q := range d.requirements {
		q.Spot, q.Resources.Disk = nil, nil // judged for both together
		if why := resourcesReason(q, o.Instance.Resources); why.code != "" {
			return r, why
		}
	}
	if _, err := SplitBlocks(d.blocks, o.Instance.Resources); err != nil {
		return r, because(reason.Blocks, "%s", lower(err.Error()))
	}
	size, why := d.disk(o)
	if why.code != "" {
		return r, why
	}
	if o.DiskMax > 0 {
		r.DiskGB, r.Offer.Instance.Resources.Disk.SizeMiB = size, size*mibPerGB
		r.Offer.Price += o.DiskPrice * float64(size)
	}
	r.Offer.Price += o.AddressPrice
	for _, most := range d.prices {
		if r.Offer.Price > most {
			return r, because(reason.PriceTooHigh, "costs %.4g, more than max_price %g", r.Offer.Price, most)
		}
	}
	return r, refusal{}
}

// zonesOf are the zones of an offer that are asked for. Where the zones of an
// offer are not known, they are those with the region's name in front.
func (d demand) zonesOf(o backends.Offer) []string {
	zones := slices.Clone(o.AvailabilityZones)
	if len(zones) == 0 {
		for _, zone := range d.zones[0] {
			if strings.HasPrefix(strings.ToLower(zone), strings.ToLower(o.Region)) {
				zones = append(zones, zone)
			}
		}
	}
	return slices.DeleteFunc(zones, func(zone string) bool { return !allow(d.zones, zone) })
}

// besideVolumes leaves the zones in which the volumes of the request are.
func (d demand) besideVolumes(r *Rental) refusal {
	if d.volumes == nil {
		return refusal{}
	}
	zones, why := d.volumes.zones(r.Offer)
	if why.code != "" || zones == nil {
		return why
	}
	if r.Zones != nil {
		zones = slices.DeleteFunc(zones, func(zone string) bool { return !slices.Contains(r.Zones, zone) })
	}
	if len(zones) == 0 {
		return d.volumes.elsewhere()
	}
	r.Zones = zones
	return refusal{}
}

// place judges where the offer is.
func (d demand) place(o backends.Offer) refusal {
	switch {
	case !allow(d.backends, o.Backend):
		return because(reason.BackendNotAsked, "backends %s are asked for", said(d.backends))
	case !allow(d.regions, o.Region):
		return because(reason.RegionNotAsked, "regions %s are asked for", said(d.regions))
	case !allow(d.types, o.Instance.Name):
		return because(reason.TypeNotAsked, "instance types %s are asked for", said(d.types))
	}
	return refusal{}
}

// disk is the smallest size in GB that all sides accept; the disk of a type
// that comes with one is as it is, and fits if its size is not known.
func (d demand) disk(o backends.Offer) (int, refusal) {
	least, most := 0.0, 0.0 // most 0 is no limit
	asked := false
	for _, q := range d.requirements {
		if q.Resources.Disk == nil {
			continue
		}
		asked = true
		if r := q.Resources.Disk.Size; r.Min != nil {
			least = max(least, *r.Min)
		}
		if r := q.Resources.Disk.Size; r.Max != nil && (most == 0 || *r.Max < most) {
			most = *r.Max
		}
	}
	if !asked {
		least = defaultDisk
	}
	if o.DiskMax == 0 {
		size := gb(o.Instance.Resources.Disk.SizeMiB)
		if size > 0 && (size < least || most > 0 && size > most) {
			return 0, because(reason.Disk, "has a disk of %s", gbText(size))
		}
		return 0, refusal{}
	}
	size := max(int(least+0.999), o.DiskMin)
	if size > o.DiskMax || most > 0 && float64(size) > most {
		return 0, because(reason.Disk, "can have a disk of %dGB to %dGB", o.DiskMin, o.DiskMax)
	}
	return size, refusal{}
}

// allow says whether all lists hold the name.
func allow(all [][]string, name string) bool {
	return !slices.ContainsFunc(all, func(list []string) bool { return !oneOf(list, name) })
}

func said(all [][]string) string {
	texts := make([]string, len(all))
	for i, list := range all {
		texts[i] = strings.Join(list, ", ")
	}
	return strings.Join(texts, " and ")
}

func lower(s string) string { return strings.ToLower(s[:1]) + s[1:] }
