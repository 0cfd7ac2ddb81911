package market

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"dstack/controller/backends"
)

// Availability values of offers that a cloud refused (shared spec, backends.md 1.4).
const (
	notAvailable = "not_available"
	noQuota      = "no_quota"
)

// How long a refusal counts. One without capacity is asked again soon, and
// later and later if it goes on; limits and credentials change slowly.
const (
	firstRest = time.Minute
	longRest  = 15 * time.Minute
	quotaRest = 10 * time.Minute
	stopRest  = 5 * time.Minute
	// recently is how long it is known when an offer was refused, whatever was
	// given since.
	recently = time.Hour
)

// memory is what one account refused.
type memory struct {
	sold  map[product]rest
	quota map[limit]stop
	stops map[scope]stop
	// last is when each product was refused.
	last map[product]time.Time
}

// scope is what of an account is of no use: all, or only a region, or only spot
// machines.
type scope struct {
	region string
	spot   bool
}

type stop struct {
	why   error
	until time.Time
}

// scopeOf is what an error that stops says about. What the configuration names
// may be missing in one region; spot machines need a permission of their own.
func scopeOf(o backends.Offer, err error) scope {
	switch {
	case errors.Is(err, backends.Config):
		return scope{region: o.Region}
	case errors.Is(err, backends.Permission):
		return scope{spot: o.Instance.Resources.Spot}
	}
	return scope{}
}

// product is what a cloud has or has not.
type product struct {
	region, name string
	spot         bool
}

// limit is what a quota counts.
type limit struct{ region, family string }

type rest struct {
	until time.Time
	last  time.Duration
	// why is what the cloud said, unless it is that it has none.
	why string
}

func productOf(o backends.Offer) product {
	return product{o.Region, o.Instance.Name, o.Instance.Resources.Spot}
}

func (m *memory) refused(now time.Time, o backends.Offer, err error) {
	if m.last == nil {
		m.last = map[product]time.Time{}
	}
	maps.DeleteFunc(m.last, func(_ product, at time.Time) bool { return !now.Before(at.Add(recently)) })
	m.last[productOf(o)] = now
	switch {
	case backends.Stops(err):
		if m.stops == nil {
			m.stops = map[scope]stop{}
		}
		m.stops[scopeOf(o, err)] = stop{err, now.Add(stopRest)}
	case errors.Is(err, backends.Quota):
		family := ""
		var known *backends.Error
		if errors.As(err, &known) {
			family = known.Family
		}
		if family == "" {
			family = o.Instance.Name
		}
		if m.quota == nil {
			m.quota = map[limit]stop{}
		}
		m.quota[limit{o.Region, family}] = stop{err, now.Add(quotaRest)}
	case errors.Is(err, backends.NoCapacity), errors.Is(err, backends.Unsupported), errors.Is(err, backends.BadRequest):
		if m.sold == nil {
			m.sold = map[product]rest{}
		}
		last := m.sold[productOf(o)].last
		next := min(max(2*last, firstRest), longRest)
		why := ""
		if !errors.Is(err, backends.NoCapacity) {
			why = err.Error()
		}
		m.sold[productOf(o)] = rest{now.Add(next), next, why}
	}
}

func (m *memory) given(o backends.Offer) { delete(m.sold, productOf(o)) }

func (m *memory) empty() bool { return len(m.sold)+len(m.quota)+len(m.stops)+len(m.last) == 0 }

// refusedAt is when an offer was refused last, or its quota was used up; zero if
// that was not lately.
func (m *memory) refusedAt(now time.Time, o backends.Offer) time.Time {
	at := m.last[productOf(o)]
	for _, family := range []string{o.Family, o.Instance.Name} {
		if used := m.quota[limit{o.Region, family}].until.Add(-quotaRest); used.After(at) {
			at = used
		}
	}
	if !now.Before(at.Add(recently)) {
		return time.Time{}
	}
	return at
}

// stopped says why nothing can be had of the account, or of a part of it, now.
func (m *memory) stopped(now time.Time) string {
	var texts []string
	for _, s := range m.stops {
		if text := s.why.Error(); now.Before(s.until) && !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	slices.Sort(texts)
	return strings.Join(texts, "; ")
}

// useless says why there is no use in asking for an offer now; empty if there is.
func (m *memory) useless(now time.Time, o backends.Offer) (why string) {
	for of, s := range m.stops {
		if now.Before(s.until) && (of.region == "" || of.region == o.Region) && (!of.spot || o.Instance.Resources.Spot) {
			why = max(why, s.why.Error()) // of several always the same one
		}
	}
	return why
}

// mark notes on an offer what the memory says of it.
func (m *memory) mark(now time.Time, o *backends.Offer) {
	o.RefusedAt = m.refusedAt(now, *o)
	if why := m.useless(now, *o); why != "" {
		o.Availability, o.Why = notAvailable, why
		return
	}
	if sold := m.sold[productOf(*o)]; now.Before(sold.until) {
		o.Availability, o.Why = notAvailable, sold.why
		return
	}
	for _, family := range []string{o.Family, o.Instance.Name} {
		if q := m.quota[limit{o.Region, family}]; family != "" && now.Before(q.until) {
			o.Availability, o.Why = noQuota, q.why.Error()
			return
		}
	}
}
