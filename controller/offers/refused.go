package offers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"dstack/protocol/reason"
)

// explainHired puts in place of "no backend offers a machine" why that is so,
// and takes it away where there is a machine.
func explainHired(res *Result) {
	var kept []Rejection
	for _, r := range res.Rejected {
		i := slices.IndexFunc(res.Groups, func(g Group) bool { return g.Fleet.ID == r.Fleet.ID })
		if r.Instance != nil || r.Code != reason.NoMachine || i < 0 {
			kept = append(kept, r)
			continue
		}
		h := res.Groups[i].Hired
		switch {
		case len(h.Rentals) > 0:
			continue
		case h.Code != "":
			r.Code, r.Reason = h.Code, h.Reason
		case len(h.Refused) > 0:
			r.Reason = Summary(h.Refused)
		}
		kept = append(kept, r)
	}
	res.Rejected = kept
}

// Refuses says whether there are offers for a fleet that will not do.
func (r Result) Refuses(fleetID string) bool {
	return slices.ContainsFunc(r.Groups, func(g Group) bool { return g.Fleet.ID == fleetID && len(g.Hired.Refused) > 0 })
}

// Cause is one reason for which offers were refused.
type Cause struct {
	Code reason.Rejection
	// Count is how many offers it holds for, Nearest the cheapest of them.
	Count   int
	Nearest Refusal
}

// Causes counts refusals by their reasons, first those of offers that came
// nearest to what was asked for.
func Causes(refused []Refusal) []Cause {
	var out []Cause
	at := map[reason.Rejection]int{}
	for _, r := range refused {
		i, known := at[r.Code]
		if !known {
			i = len(out)
			at[r.Code] = i
			out = append(out, Cause{Code: r.Code, Nearest: r})
		}
		out[i].Count++
		if r.Offer.Price < out[i].Nearest.Offer.Price {
			out[i].Nearest = r
		}
	}
	slices.SortStableFunc(out, func(a, b Cause) int { return cmp.Compare(nearness(a.Code), nearness(b.Code)) })
	return out
}

// nearness orders reasons: an offer that only costs too much was nearer than
// one in a region that nobody asked for.
func nearness(code reason.Rejection) int {
	order := []reason.Rejection{
		reason.PriceTooHigh, reason.Disk, reason.Blocks, reason.GPUCapability, reason.GPUTotalMemory, reason.GPUMemory, reason.GPUName,
		reason.GPUCount, reason.GPUVendor, reason.Memory, reason.CPUCount, reason.CPUArch, reason.GPUNone, reason.Reservation, reason.Spot,
		reason.TypeNotAsked, reason.RegionNotAsked, reason.BackendNotAsked,
	}
	if i := slices.Index(order, code); i >= 0 {
		return i
	}
	return len(order)
}

// mostCauses is how many causes a summary has.
const mostCauses = 3

// Summary says in a part of a sentence why none of the offers will do.
func Summary(refused []Refusal) string {
	causes := Causes(refused)
	var parts []string
	for i, c := range causes {
		if i == mostCauses {
			parts = append(parts, "…")
			break
		}
		s, _ := reason.Place(c.Code)
		parts = append(parts, fmt.Sprintf("%d: %s", c.Count, s.Cause))
	}
	return fmt.Sprintf("none of %d offers will do (%s); the nearest is %s", len(refused), strings.Join(parts, "; "), causes[0].Nearest.Text())
}

// Text is the offer and what is wrong with it.
func (r Refusal) Text() string {
	return r.Offer.Instance.Name + " in " + r.Offer.Region + ": " + r.Reason
}
