package engine

import (
	"time"

	"dstack/controller/market"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// fleetView is what a decision about a fleet looks at.
type fleetView struct {
	now   time.Time
	newID func() string
	// serverID is the tag of the machines that this server looks after.
	serverID string
	fleet    *store.Fleet
	// instances are those that are not deleted.
	instances []store.Instance
	// shelves are what the project's backends offer; only for a cluster that
	// lacks nodes.
	shelves []market.Shelf
}

// decideFleet ends a fleet that is to go once nothing of it is left, and keeps
// a cloud fleet at its size.
func decideFleet(v fleetView) *decision {
	d := &decision{}
	f := v.fleet
	switch {
	case f.Deleted:
		d.final = true
	case f.Status == api.FleetTerminating && len(v.instances) == 0 && len(f.PlacementGroups) > 0:
		v.ungroup(d)
	case f.Status == api.FleetTerminating && len(v.instances) == 0:
		setFleet(d, f, api.FleetTerminated)
		f.Deleted = true
		d.final = true
	case f.Status == api.FleetActive && isCloud(f):
		v.consolidate(d)
		v.wakeUnused(d)
	}
	return d
}

func setFleet(d *decision, f *store.Fleet, to api.FleetStatus) {
	d.event(statusChanged("Fleet", f.Status, to, f.StatusMessage), fleetTarget(f))
	f.Status = to
	d.saveFleet(f)
}
