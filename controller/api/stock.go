package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"dstack/controller/market"
	"dstack/controller/offers"
)

// Stock knows what the backends of projects offer.
type Stock interface {
	// Stock lists what each backend of a project offers, in the order of their
	// types. It waits until ctx ends at most: a list that has not arrived then
	// says so. It fails only if the server's own data cannot be read.
	Stock(ctx context.Context, projectID string) ([]market.Shelf, error)
	// Reservation finds reserved capacity in the backends of a project.
	Reservation(ctx context.Context, projectID, id string) (market.Reserved, error)
}

// stockWait is how long a plan waits for clouds whose offers are not known yet.
const stockWait = 1500 * time.Millisecond

// stockHold is how long an answer holds that depends on what clouds offer.
const stockHold = 5 * time.Second

func (a *API) stock(ctx context.Context, projectID string) (market.Goods, error) {
	if a.deps.Stock == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, stockWait)
	defer cancel()
	goods, err := a.deps.Stock.Stock(ctx, projectID)
	if err != nil {
		return nil, fmt.Errorf("look at what the backends offer: %w", err)
	}
	return goods, nil
}

// search is [offers.Search] with the reservations that are asked for.
func (a *API) search(ctx context.Context, projectID string, req offers.Request, pools []offers.Pool, goods market.Goods) offers.Result {
	if ids := offers.Reservations(req, pools); len(ids) > 0 {
		req.Reserved = a.reserved(ctx, projectID, ids)
	}
	return offers.Search(req, pools, goods.Offers())
}

// reserved looks reservations up. What cannot be found is told with the offers
// that would have been in it. Without backends there is nothing to look up.
func (a *API) reserved(ctx context.Context, projectID string, ids []string) map[string]offers.Reserved {
	if a.deps.Stock == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stockWait)
	defer cancel()
	out := map[string]offers.Reserved{}
	for _, id := range ids {
		r, err := a.deps.Stock.Reservation(ctx, projectID, id)
		if err != nil {
			out[id] = offers.Reserved{Missing: err.Error()}
			continue
		}
		out[id] = offers.Reserved{Backend: r.Backend, Region: r.Region, Zone: r.Zone, Type: r.Type, Free: r.Free}
	}
	return out
}

// refusals says why some of what would do is not to be had, unless it is said
// already.
func refusals(rentals []offers.Rental, said []string) []string {
	var out []string
	for _, r := range rentals {
		why := r.Offer.Why
		if why != "" && !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, why) }) {
			out = append(out, "Backend "+r.Offer.Backend+": "+why)
		}
	}
	return distinct(out)
}

// freshPrice is how old a price may be without being called old.
const freshPrice = 48 * time.Hour

// oldPrices says of which date the prices are that are not of today.
func oldPrices(rentals []offers.Rental, now time.Time) []string {
	type origin struct {
		backend, source string
		at              time.Time
	}
	var old []origin
	for _, r := range rentals {
		from := origin{r.Offer.Backend, r.Offer.PriceSource, r.Offer.PricedAt}
		if !from.at.IsZero() && now.Sub(from.at) > freshPrice && !slices.Contains(old, from) {
			old = append(old, from)
		}
	}
	if len(old) == 0 {
		return nil
	}
	texts := make([]string, len(old))
	for i, from := range old {
		texts[i] = fmt.Sprintf("%s of %s (%s)", from.backend, from.at.Format(time.DateOnly), from.source)
	}
	slices.Sort(texts)
	return []string{"Prices may have changed: " + strings.Join(texts, "; ")}
}
