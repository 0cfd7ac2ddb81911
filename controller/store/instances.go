package store

var instances = newTable("instances", func(r *Instance, c *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("project_id", &r.ProjectID),
		fixed("fleet_id", &r.FleetID),
		fixed("name", &r.Name),
		fixed("num", &r.Num),
		col("backend", &r.Backend),
		col("status", &r.Status),
		col("reason", &r.Reason),
		col("reason_message", &r.ReasonMessage),
		fixed("created_at", instant{&r.CreatedAt}),
		col("started_at", maybeInstant{&r.StartedAt}),
		col("finished_at", maybeInstant{&r.FinishedAt}),
		col("last_processed_at", instant{&r.LastProcessedAt}),
		col("hostname", &r.Hostname),
		col("region", &r.Region),
		col("price", &r.Price),
		col("type", plain(&r.Type, c)),
		col("gpu_driver", plain(&r.GPUDriver, c)),
		col("blocks_wanted", plain(&r.BlocksWanted, c)),
		col("total_blocks", &r.TotalBlocks),
		col("busy_blocks", &r.BusyBlocks),
		col("access", sealed(&r.Access, c)),
		col("host_keys", plain(&r.HostKeys, c)),
		col("internal_ip", &r.InternalIP),
		col("info", plain(&r.Info, c)),
		col("unreachable", &r.Unreachable),
		col("unreachable_since", maybeInstant{&r.UnreachableSince}),
		col("host_id", &r.HostID),
		col("seq", &r.Seq),
		col("orphans", plain(&r.Orphans, c)),
		col("unhealthy", &r.Unhealthy),
		col("uninstalled", &r.Uninstalled),
		col("wish", plain(&r.Wish, c)),
		col("machine", sealed(&r.Machine, c)),
		col("tried", plain(&r.Tried, c)),
		col("idle_since", maybeInstant{&r.IdleSince}),
		col("deleted", &r.Deleted),
		col("version", &r.Version),
	}
})

// InsertInstance adds an instance.
func (tx *Tx) InsertInstance(i *Instance) error { return instances.add(tx, i) }

// UpdateInstance writes a instance, all but its project, fleet, name, number and time of creation,
// which never change, if nobody else did since i was read, and adds one to
// i.Version; else [ErrConflict].
func (tx *Tx) UpdateInstance(i *Instance) error { return instances.save(tx, i, &i.Version) }

// Instance finds an instance by id, also a deleted one.
func (tx *Tx) Instance(id string) (Instance, error) { return instances.one(tx, " WHERE id = $1", id) }

// InstancesOfFleet lists the instances of a fleet, without deleted ones, by
// number.
func (tx *Tx) InstancesOfFleet(fleetID string) ([]Instance, error) {
	return tx.InstancesOfFleets([]string{fleetID})
}

// InstancesOfFleets is InstancesOfFleet for many fleets, ordered by fleet.
func (tx *Tx) InstancesOfFleets(fleetIDs []string) ([]Instance, error) {
	var w where
	w.in("fleet_id", nonNil(fleetIDs))
	w.add("NOT deleted")
	return instances.find(tx, w.String()+" ORDER BY fleet_id, num, id", w.args...)
}

// InstancesOnHosts lists the instances of any project, not deleted, whose
// hostname is in the list: a host belongs to one fleet only.
func (tx *Tx) InstancesOnHosts(hostnames []string) ([]Instance, error) {
	var w where
	w.in("hostname", nonNil(hostnames))
	w.add("NOT deleted")
	return instances.find(tx, w.String()+" ORDER BY created_at, id", w.args...)
}

// InstancesOfShim lists the instances of any project, not deleted, whose host
// has the shim installation of this id.
func (tx *Tx) InstancesOfShim(hostID string) ([]Instance, error) {
	return instances.find(tx, " WHERE host_id = $1 AND NOT deleted ORDER BY created_at, id", hostID)
}

// Machines lists the instances that have a machine of a cloud, or may have
// one: also those that end.
func (tx *Tx) Machines() ([]Instance, error) {
	return instances.find(tx, " WHERE machine IS NOT NULL AND NOT deleted ORDER BY created_at, id")
}

// WantedMachines lists the pending instances of a project that wait for a
// machine of a cloud.
func (tx *Tx) WantedMachines(projectID string) ([]Instance, error) {
	return instances.find(tx, " WHERE project_id = $1 AND status = 'pending' AND wish IS NOT NULL AND machine IS NULL AND NOT deleted ORDER BY created_at, id", projectID)
}

// InstanceFilter says which instances to list.
type InstanceFilter struct {
	ProjectIDs   []string // nil means all
	AlsoFleetIDs []string // fleets of any project
	FleetIDs     []string // nil means all
	OnlyActive   bool     // idle or busy, not deleted
	Page         Page
}

// Instances lists instances, newest first unless the page says otherwise
// (spec: rest-api.md 7.4).
func (tx *Tx) Instances(f InstanceFilter) ([]Instance, error) {
	var w where
	w.inEither("project_id", f.ProjectIDs, "fleet_id", f.AlsoFleetIDs)
	w.in("fleet_id", f.FleetIDs)
	if f.OnlyActive {
		w.add("NOT deleted AND status IN ('idle', 'busy')")
	}
	tail := w.page(f.Page, "created_at")
	return instances.find(tx, w.String()+tail, w.args...)
}
