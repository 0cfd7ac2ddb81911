package store

var instances = newTable("instances", func(r *Instance, s *Sealer) []column {
	return []column{
		{"id", &r.ID},
		{"project_id", &r.ProjectID},
		{"fleet_id", &r.FleetID},
		{"name", &r.Name},
		{"num", &r.Num},
		{"backend", &r.Backend},
		{"status", &r.Status},
		{"reason", &r.Reason},
		{"reason_message", &r.ReasonMessage},
		{"created_at", instant{&r.CreatedAt}},
		{"started_at", maybeInstant{&r.StartedAt}},
		{"finished_at", maybeInstant{&r.FinishedAt}},
		{"last_processed_at", instant{&r.LastProcessedAt}},
		{"hostname", &r.Hostname},
		{"region", &r.Region},
		{"price", &r.Price},
		{"type", jsonCol{&r.Type}},
		{"gpu_driver", jsonCol{&r.GPUDriver}},
		{"blocks_wanted", jsonCol{&r.BlocksWanted}},
		{"total_blocks", &r.TotalBlocks},
		{"busy_blocks", &r.BusyBlocks},
		{"access", sealedJSON{&r.Access, s}},
		{"host_keys", jsonCol{&r.HostKeys}},
		{"internal_ip", &r.InternalIP},
		{"info", jsonCol{&r.Info}},
		{"unreachable", &r.Unreachable},
		{"unreachable_since", maybeInstant{&r.UnreachableSince}},
		{"host_id", &r.HostID},
		{"seq", &r.Seq},
		{"orphans", jsonCol{&r.Orphans}},
		{"unhealthy", &r.Unhealthy},
		{"uninstalled", &r.Uninstalled},
		{"deleted", &r.Deleted},
		{"version", &r.Version},
	}
})

// InsertInstance adds an instance.
func (tx *Tx) InsertInstance(i *Instance) error { return instances.add(tx, i) }

// UpdateInstance writes all fields of an instance, if nobody else did since i
// was read, and adds one to i.Version; else [ErrConflict].
func (tx *Tx) UpdateInstance(i *Instance) error { return instances.save(tx, i, &i.Version) }

// Instance finds an instance by id, also a deleted one.
func (tx *Tx) Instance(id string) (Instance, error) { return instances.one(tx, " WHERE id = $1", id) }

// InstancesByID finds instances by id, also deleted ones.
func (tx *Tx) InstancesByID(ids []string) (map[string]Instance, error) {
	var w where
	w.in("id", nonNil(ids))
	list, err := instances.find(tx, w.String(), w.args...)
	return byID(list, func(i Instance) string { return i.ID }), err
}

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

// MaxInstanceNum is the highest number that the fleet ever gave, also to
// instances that are deleted; -1 if it has none.
func (tx *Tx) MaxInstanceNum(fleetID string) (int, error) {
	list, err := instances.find(tx, " WHERE fleet_id = $1 ORDER BY num DESC LIMIT 1", fleetID)
	if err != nil || len(list) == 0 {
		return -1, err
	}
	return list[0].Num, nil
}

// LiveInstances lists the instances of a project's fleets that are neither
// deleted nor terminated; an empty projectID means all projects.
func (tx *Tx) LiveInstances(projectID string) ([]Instance, error) {
	var w where
	w.add("NOT deleted AND status <> 'terminated'")
	if projectID != "" {
		w.add("project_id = ?", projectID)
	}
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

// InstanceFilter says which instances to list.
type InstanceFilter struct {
	ProjectIDs []string // nil means all
	FleetIDs   []string // nil means all
	OnlyActive bool     // idle or busy, not deleted
	Page       Page
}

// Instances lists instances, newest first unless the page says otherwise
// (spec: rest-api.md 7.4).
func (tx *Tx) Instances(f InstanceFilter) ([]Instance, error) {
	var w where
	w.in("project_id", f.ProjectIDs)
	w.in("fleet_id", f.FleetIDs)
	if f.OnlyActive {
		w.add("NOT deleted AND status IN ('idle', 'busy')")
	}
	tail := w.page(f.Page, "created_at")
	return instances.find(tx, w.String()+tail, w.args...)
}
