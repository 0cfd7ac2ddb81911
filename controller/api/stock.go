package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"dstack/controller/backends"
	"dstack/controller/market"
	"dstack/controller/offers"
)

// Stock knows what the backends of projects offer.
type Stock interface {
	// Stock lists what each backend of a project offers, in the order of their
	// types. It waits until ctx ends at most: a list that has not arrived then
	// says so. It fails only if the server's own data cannot be read.
	Stock(ctx context.Context, projectID string) ([]market.Shelf, error)
}

// stockWait is how long a plan waits for clouds whose offers are not known yet.
const stockWait = 1500 * time.Millisecond

// stockHold is how long an answer holds that depends on what clouds offer.
const stockHold = 5 * time.Second

// wares is what the backends of a project offer.
type wares struct {
	shelves []market.Shelf
	offers  []backends.Offer
}

func (a *API) stock(ctx context.Context, projectID string) (wares, error) {
	if a.deps.Stock == nil {
		return wares{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, stockWait)
	defer cancel()
	shelves, err := a.deps.Stock.Stock(ctx, projectID)
	if err != nil {
		return wares{}, fmt.Errorf("look at what the backends offer: %w", err)
	}
	out := wares{shelves: shelves}
	for _, s := range shelves {
		out.offers = append(out.offers, s.Offers...)
	}
	return out, nil
}

// missing says what of the stock is left out.
func (w wares) missing() []string {
	var out []string
	for _, s := range w.shelves {
		if s.Missing != "" {
			out = append(out, "Backend "+s.Backend+": "+s.Missing)
		}
	}
	return out
}

// changing says that more may arrive any moment.
func (w wares) changing() bool {
	return slices.ContainsFunc(w.shelves, func(s market.Shelf) bool { return s.Missing != "" })
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
