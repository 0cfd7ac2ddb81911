package offers

import (
	"slices"
	"strings"

	"dstack/controller/backends"
	"dstack/protocol/config"
	"dstack/protocol/reason"
)

// Reserved is capacity that is paid for already.
type Reserved struct {
	Backend, Region, Zone, Type string
	// Free is how many machines it has room for.
	Free int
	// Missing says why it cannot be used; the rest is empty then.
	Missing string
}

// Reservations are the ids of the reservations that a request and the fleets of
// pools ask for, each once.
func Reservations(req Request, pools []Pool) []string {
	ids := reservationsOf(req, nil)
	for _, p := range pools {
		if wishReason(req, p).code == "" {
			ids = add(ids, p.Fleet.Spec.Configuration.Reservation)
		}
	}
	return ids
}

// reservationsOf are those that a request and a fleet ask for: several exclude
// each other.
func reservationsOf(req Request, f *config.Fleet) []string {
	ids := add(add(nil, req.Requirements.Reservation), req.Profile.Reservation)
	if f != nil {
		ids = add(ids, f.Reservation)
	}
	return ids
}

func add(ids []string, id *string) []string {
	if id == nil || oneOf(ids, *id) {
		return ids
	}
	return append(ids, *id)
}

// inReservation says whether an offer is what is reserved. Who did not look
// reservations up sees to it later.
func (d demand) inReservation(r *Rental) refusal {
	switch {
	case len(d.reservations) == 0:
		return refusal{}
	case len(d.reservations) > 1:
		return because(reason.Reservation, "the fleet and the run ask for different reservations: %s", strings.Join(d.reservations, " and "))
	case d.reserved == nil:
		return refusal{}
	}
	id := d.reservations[0]
	have, known := d.reserved[id]
	switch {
	case !known:
		return because(reason.Reservation, "reservation %s was found in no backend of the project", id)
	case have.Missing != "":
		return because(reason.Reservation, "%s", have.Missing)
	case d.unpriced:
		return because(reason.Reservation, "reservation %s is for %s", id, Unpriced(have.Type, have.Region))
	case !have.fits(r.Offer):
		return because(reason.Reservation, "reservation %s is for %s in %s", id, have.Type, have.Region)
	case have.Free < 1:
		return because(reason.Reservation, "reservation %s has no room for another machine", id)
	}
	if have.Zone != "" {
		r.Zones = []string{have.Zone}
	}
	return refusal{}
}

// Unpriced says of a machine type why nothing is offered of it: capacity blocks
// have no price in the lists of clouds.
func Unpriced(machineType, region string) string {
	return machineType + " in " + region + ", which is not offered because it has no price: name one in the catalogue (DSTACK_SERVER_CATALOG)"
}

// unsold says whether nothing of a stock is what is reserved.
func (d demand) unsold(stock []backends.Offer) bool {
	if len(d.reservations) != 1 {
		return false
	}
	have, known := d.reserved[d.reservations[0]]
	return known && have.Missing == "" && !slices.ContainsFunc(stock, func(o backends.Offer) bool {
		return o.Backend == have.Backend && o.Region == have.Region && o.Instance.Name == have.Type
	})
}

func (r Reserved) fits(o backends.Offer) bool {
	return o.Backend == r.Backend && o.Region == r.Region && o.Instance.Name == r.Type && !o.Instance.Resources.Spot
}
