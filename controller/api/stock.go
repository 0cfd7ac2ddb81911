package api

import (
	"context"
	"fmt"
	"time"

	"dstack/controller/backends"
	"dstack/controller/market"
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
