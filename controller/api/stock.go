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
