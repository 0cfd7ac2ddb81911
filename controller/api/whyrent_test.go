package api

import (
	"testing"

	"dstack/controller/backends"
	"dstack/controller/offers"
	"dstack/protocol/reason"
)

// TestOfferCandidate is what is read of offers that are not to be had.
func TestOfferCandidate(t *testing.T) {
	t.Parallel()
	offer := func(availability, family, why string) backends.Offer {
		o := backends.Offer{Family: family, Why: why}
		o.Availability = availability
		return o
	}
	for name, c := range map[string]struct {
		offer backends.Offer
		count int
		want  string
	}{
		"sold out":       {offer("not_available", "", ""), 1, "its cloud had none when it was asked last"},
		"all sold out":   {offer("not_available", "", ""), 9, "9 offers: its cloud had none when it was asked last"},
		"refused":        {offer("not_available", "", "aws: no. Do this"), 1, "aws: no. Do this"},
		"all refused":    {offer("not_available", "", "aws: no. Do this"), 9, "9 offers: its cloud refused it when it was asked last; for the cheapest it says: aws: no. Do this"},
		"a limit":        {offer("no_quota", "P instances", ""), 1, "counts against P instances, a limit of the account that does not allow it"},
		"a limit of all": {offer("no_quota", "P instances", ""), 9, "9 offers: a limit of the account does not allow it; the cheapest counts against P instances, a limit of the account that does not allow it"},
		"what it says":   {offer("no_quota", "P instances", "aws: limit 0"), 1, "aws: limit 0"},
	} {
		found := offers.Result{Groups: []offers.Group{{Hired: offers.Hired{Rentals: make([]offers.Rental, c.count)}}}}
		for n := range found.Groups[0].Hired.Rentals {
			found.Groups[0].Hired.Rentals[n].Offer = c.offer
		}
		got := rentable("job", found, nil)
		if len(got) != 1 || got[0].Reason != c.want || got[0].Next == "" || got[0].Code == string(reason.NoMachine) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
