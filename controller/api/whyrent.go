package api

import (
	"cmp"
	"fmt"

	"dstack/controller/market"
	"dstack/controller/offers"
	"dstack/protocol/api"
	"dstack/protocol/reason"
)

// mostFitting is how many offers that fit are listed for a fleet: the cheapest.
const mostFitting = 3

// rentable lists what could be rented for a job: the cheapest offers that fit,
// and for the others, which are thousands, each reason once.
func rentable(job string, found offers.Result, fleets map[string]string) []api.Candidate {
	var out []api.Candidate
	for _, g := range found.Groups {
		fleet := fleets[g.Fleet.ID]
		var gone []offers.Refusal
		fitting := 0
		for _, r := range g.Hired.Rentals {
			if why, ok := unavailableReason(r); ok {
				gone = append(gone, offers.Refusal{Offer: r.Offer, Code: why, Reason: cmp.Or(r.Offer.Why, limited(r, causeOf(why)))})
				continue
			}
			fitting++
			if fitting <= mostFitting {
				c := offerCandidate(job, fleet, r.Offer.Backend, offers.Refusal{Offer: r.Offer}, 1)
				c.Verdict = api.CandidateFits
				out = append(out, c)
			}
		}
		for _, list := range [][]offers.Refusal{gone, g.Hired.Refused} {
			out = append(out, refusedCandidates(job, fleet, list)...)
		}
		if h := g.Hired; h.Code == reason.FleetFull && len(g.Matches) > 0 { // else it is among the rejections
			s, _ := reason.Place(h.Code)
			out = append(out, api.Candidate{
				JobName: job, Fleet: fleet, Verdict: api.CandidateRejected, Code: string(h.Code), Reason: h.Reason, Next: s.Next,
			})
		}
	}
	return out
}

// refusedCandidates are the refusals of each backend, counted by reason.
func refusedCandidates(job, fleet string, refused []offers.Refusal) []api.Candidate {
	var (
		backends []string
		of       = map[string][]offers.Refusal{}
		out      []api.Candidate
	)
	for _, r := range refused {
		if of[r.Offer.Backend] == nil {
			backends = append(backends, r.Offer.Backend)
		}
		of[r.Offer.Backend] = append(of[r.Offer.Backend], r)
	}
	for _, backend := range backends {
		for _, cause := range offers.Causes(of[backend]) {
			out = append(out, offerCandidate(job, fleet, backend, cause.Nearest, cause.Count))
		}
	}
	return out
}

// offerCandidate is a candidate for count offers of which r is the cheapest.
func offerCandidate(job, fleet, backend string, r offers.Refusal, count int) api.Candidate {
	o := r.Offer
	c := api.Candidate{
		JobName: job, Fleet: fleet, Backend: &backend, Verdict: api.CandidateRejected, Code: string(r.Code), Reason: r.Reason,
		Offers: count, Type: o.Instance.Name, Region: o.Region, Price: o.Price,
	}
	s, _ := reason.Place(r.Code)
	c.Next = s.Next
	switch {
	case count > 1 && r.Reason == s.Cause:
		c.Reason = fmt.Sprintf("%d offers: %s", count, s.Cause)
	case count > 1 && r.Reason == o.Why: // a sentence of the cloud's
		c.Reason = fmt.Sprintf("%d offers: %s; for the cheapest it says: %s", count, s.Cause, r.Reason)
	case count > 1:
		c.Reason = fmt.Sprintf("%d offers: %s; the cheapest %s", count, s.Cause, r.Reason)
	}
	return c
}

// limited says which limit of the account is in the way, if that is the cause.
func limited(r offers.Rental, cause string) string {
	o := r.Offer
	if o.Availability != "no_quota" || o.Family == "" {
		return cause
	}
	return "counts against " + o.Family + ", a limit of the account that does not allow it"
}

// unavailableReason is why an offer that fits is not to be had now.
func unavailableReason(r offers.Rental) (reason.Rejection, bool) {
	switch r.Offer.Availability {
	case "not_available":
		if r.Offer.Why != "" {
			return reason.CloudRefused, true
		}
		return reason.NotAvailable, true
	case "no_quota", "no_balance":
		return reason.NoQuota, true
	}
	return "", false
}

func causeOf(code reason.Rejection) string {
	s, _ := reason.Place(code)
	return s.Cause
}

// silent is a backend of which something is left out.
func silent(s market.Shelf, jobs []api.JobSpec) api.Candidate {
	why, _ := reason.Place(reason.BackendSilent)
	c := api.Candidate{
		Backend: &s.Backend, Verdict: api.CandidateRejected, Code: string(reason.BackendSilent), Reason: s.Missing, Next: why.Next,
	}
	if len(jobs) > 0 {
		c.JobName = jobs[0].JobName
	}
	return c
}
