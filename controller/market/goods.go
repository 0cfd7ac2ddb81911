package market

import (
	"slices"

	"dstack/controller/backends"
)

// Goods are what all backends of a project offer.
type Goods []Shelf

// Offers are those of all shelves, in their order.
func (g Goods) Offers() []backends.Offer {
	var all [][]backends.Offer
	for _, s := range g {
		all = append(all, s.Offers)
	}
	return slices.Concat(all...)
}

// Missing says what is left out, a sentence for each backend.
func (g Goods) Missing() []string {
	var out []string
	for _, s := range g {
		if s.Missing != "" {
			out = append(out, "Backend "+s.Backend+": "+s.Missing)
		}
	}
	return out
}

// Reserved is capacity at a backend that is paid for already.
type Reserved struct {
	Backend string
	backends.Reservation
}
