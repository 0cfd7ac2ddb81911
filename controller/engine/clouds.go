package engine

import (
	"context"

	"dstack/controller/store"
)

// OffersArrived tells that more is known of what the backends of a project
// offer: what waits for it is looked at again.
func (e *Engine) OffersArrived(projectID string) {
	var keys []store.Key
	err := e.cfg.Store.Read(context.Background(), func(tx *store.Tx) error {
		list, err := tx.WantedMachines(projectID)
		for _, i := range list {
			keys = append(keys, store.Key{Kind: store.KindInstance, ID: i.ID})
		}
		return err
	})
	if err != nil {
		e.cfg.Log.Error().Err(err).Msg("cannot read who waits for offers; they look again by themselves")
	}
	e.queue.push(keys...)
}
