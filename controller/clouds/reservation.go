package clouds

import (
	"context"
	"errors"
	"fmt"

	"dstack/controller/backends"
	"dstack/controller/market"
	"dstack/controller/store"
)

// Reservation finds reserved capacity in the backends of a project. It fails
// with a sentence if none has it.
func (c *Clouds) Reservation(ctx context.Context, projectID, id string) (market.Reserved, error) {
	var configured []store.Backend
	err := c.opts.Store.Read(ctx, func(tx *store.Tx) (err error) {
		configured, err = tx.Backends(projectID)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return market.Reserved{}, fmt.Errorf("read backends: %w", err)
	}
	var failed error
	for _, row := range configured {
		if !c.Has(row.Type) {
			continue
		}
		a := c.account(ctx, row)
		if a.err != nil {
			failed = errors.Join(failed, a.err)
			continue
		}
		power, ok := backends.ReservationsOf(a.backend)
		if !ok {
			continue
		}
		r, err := power.FindReservation(ctx, id)
		switch {
		case err == nil:
			return market.Reserved{Backend: row.Type, Reservation: r}, nil
		case !errors.Is(err, backends.NotFound):
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		return market.Reserved{}, failed
	}
	return market.Reserved{}, fmt.Errorf("reservation %s was found in no backend of the project", id) //nolint:err113 // text for the user
}
