package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// NewHost is a host that becomes an instance.
type NewHost struct {
	// Hostname is how the user calls it; Access says how it is reached.
	Hostname string
	Access   store.Access
	Blocks   config.Blocks
}

// NewFleet is a fleet to be created.
type NewFleet struct {
	ProjectID string
	// ActorID is who creates it; nil is the server itself.
	ActorID *string
	// Spec is the effective specification without keys; without a name the
	// fleet gets one.
	Spec  api.FleetSpec
	Hosts []NewHost
}

// CreateFleet creates a fleet with its hosts, numbered from 0. A name or a
// host that is taken makes it fail with [*Refused].
func (e *Engine) CreateFleet(ctx context.Context, n NewFleet) (store.Fleet, error) {
	var fleet store.Fleet
	err := e.write(ctx, "create fleet", func(tx *store.Tx) (err error) {
		fleet, err = e.createFleet(tx, n)
		return err
	})
	if err != nil {
		return store.Fleet{}, err // the writer may still be at it
	}
	return fleet, nil
}

func (e *Engine) createFleet(tx *store.Tx, n NewFleet) (store.Fleet, error) {
	now := e.now()
	spec := n.Spec
	if name := spec.Configuration.Name; name == nil || *name == "" {
		fresh, err := freshWords(e.cfg.NewID(), func(prefix string) ([]string, error) {
			return tx.FleetNames(n.ProjectID, prefix)
		})
		if err != nil {
			return store.Fleet{}, err
		}
		spec.Configuration.Name = &fresh
	}
	f := store.Fleet{
		ID: e.cfg.NewID(), ProjectID: n.ProjectID, Name: *spec.Configuration.Name, Spec: spec,
		Status: api.FleetActive, CreatedAt: now, LastProcessedAt: now,
	}
	err := tx.InsertFleet(&f)
	if errors.Is(err, store.ErrExists) {
		return store.Fleet{}, refuse("Fleet '%s' exists already", f.Name)
	}
	if err != nil {
		return store.Fleet{}, err
	}
	events := []store.Event{newEvent("Fleet created. Status: "+upper(f.Status), n.ActorID, fleetTarget(&f))}
	if err := e.record(tx, now, events); err != nil {
		return store.Fleet{}, err
	}
	if err := tx.Wake(now, store.Key{Kind: store.KindFleet, ID: f.ID}); err != nil {
		return store.Fleet{}, err
	}
	if isCloud(&f) {
		return f, e.addNodes(tx, &f)
	}
	nums := make([]int, len(n.Hosts))
	for i := range nums {
		nums[i] = i
	}
	return f, e.addHosts(tx, &f, n.Hosts, nums, n.ActorID, "submission")
}

func (e *Engine) addHosts(tx *store.Tx, f *store.Fleet, list []NewHost, nums []int, actor *string, on string) error {
	now := e.now()
	if err := freeHosts(tx, list); err != nil {
		return err
	}
	for i, h := range list {
		inst := store.Instance{
			ID: e.cfg.NewID(), ProjectID: f.ProjectID, FleetID: f.ID,
			Name: fmt.Sprintf("%s-%d", f.Name, nums[i]), Num: nums[i], Backend: backendSSH, Region: backendSSH,
			Status: api.InstancePending, LastProcessedAt: now,
			// Lists are by time: hosts stay in the order in which they were given.
			CreatedAt: now.Add(time.Duration(i) * time.Microsecond),
			Hostname:  h.Hostname, BlocksWanted: h.Blocks, Access: h.Access,
		}
		if err := tx.InsertInstance(&inst); err != nil {
			return err
		}
		event := newEvent("Instance created on fleet "+on+". Status: "+upper(inst.Status), actor, instanceTarget(&inst))
		if err := e.record(tx, now, []store.Event{event}); err != nil {
			return err
		}
		if err := tx.Wake(now, store.Key{Kind: store.KindInstance, ID: inst.ID}); err != nil {
			return err
		}
	}
	return nil
}

// freeHosts refuses hosts that are in a fleet already, of whatever project.
func freeHosts(tx *store.Tx, list []NewHost) error {
	names := make([]string, len(list))
	for i, h := range list {
		names[i] = h.Hostname
	}
	taken, err := tx.InstancesOnHosts(names)
	if err != nil {
		return err
	}
	var who []string
	for _, inst := range taken {
		for _, h := range list {
			if inst.Hostname == h.Hostname && inst.Access.Port == h.Access.Port && inst.Status != api.InstanceTerminated {
				who = append(who, h.Hostname)
			}
		}
	}
	if len(who) > 0 {
		return refuse("Instances [%s] are already assigned to a fleet.", strings.Join(who, ", "))
	}
	return nil
}

// FleetUpdate changes a fleet in place.
type FleetUpdate struct {
	ActorID string
	FleetID string
	// Version is that of the fleet that the caller looked at; if it changed
	// since, the update fails with store.ErrConflict.
	Version int64
	// Spec replaces the stored one.
	Spec api.FleetSpec
	Add  []NewHost
	// Remove are numbers of instances.
	Remove []int
}

// UpdateFleet adds and removes hosts, or changes what a cloud fleet may be. Removing a busy one is [*Refused].
func (e *Engine) UpdateFleet(ctx context.Context, u FleetUpdate) (store.Fleet, error) {
	var fleet store.Fleet
	err := e.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
		if fleet, err = tx.Fleet(u.FleetID); err != nil {
			return err
		}
		if fleet.Version != u.Version {
			return store.ErrConflict
		}
		instances, err := tx.InstancesOfFleet(fleet.ID)
		if err != nil {
			return err
		}
		if err := e.removeInstances(tx, &fleet, instances, u.Remove, &u.ActorID); err != nil {
			return err
		}
		if err := e.addHosts(tx, &fleet, u.Add, freeNums(instances, len(u.Add)), &u.ActorID, "update"); err != nil {
			return err
		}
		now := e.now()
		fleet.Spec, fleet.LastProcessedAt, fleet.Attempts = u.Spec, now, 0
		if err := tx.UpdateFleet(&fleet); err != nil {
			return err
		}
		return tx.Wake(now, store.Key{Kind: store.KindFleet, ID: fleet.ID})
	})
	if err != nil {
		return store.Fleet{}, fmt.Errorf("update fleet: %w", err)
	}
	return fleet, nil
}

// freeNums are the n lowest numbers that no instance has.
func freeNums(instances []store.Instance, n int) []int {
	var out []int
	for num := 0; len(out) < n; num++ {
		if !slices.ContainsFunc(instances, func(i store.Instance) bool { return i.Num == num }) {
			out = append(out, num)
		}
	}
	return out
}

// removeInstances takes instances out of service; unknown numbers are left out.
func (e *Engine) removeInstances(tx *store.Tx, f *store.Fleet, instances []store.Instance, nums []int, actor *string) error {
	var busy []string
	chosen := slices.DeleteFunc(slices.Clone(instances), func(i store.Instance) bool { return !slices.Contains(nums, i.Num) })
	for _, i := range chosen {
		jobs, err := tx.JobsOnInstance(i.ID)
		if err != nil {
			return err
		}
		if len(jobs) > 0 {
			busy = append(busy, strconv.Itoa(i.Num))
		}
	}
	if len(busy) > 0 {
		return refuse("Failed to delete fleet %s instances. Fleet instances [%s] are in use.", f.Name, strings.Join(busy, ", "))
	}
	d := &decision{}
	for n := range chosen {
		i := &chosen[n]
		switch i.Status {
		case api.InstanceTerminating:
			// One that failed is to go, too.
		case api.InstanceTerminated:
			i.Deleted = true
			d.saveInstance(i)
			continue
		}
		reason := api.ReasonInstanceTerminatedByUser
		i.Reason, i.ReasonMessage = &reason, nil
		if i.Status != api.InstanceTerminating {
			d.events = append(d.events, instanceChanged(i, api.InstanceTerminating, actor))
		}
		i.Status = api.InstanceTerminating
		d.saveInstance(i)
		d.wake(store.KindInstance, i.ID)
	}
	d.wake(store.KindFleet, f.ID)
	d.released = f.ProjectID // who waits for one of these has to look elsewhere
	return e.apply(tx, d, e.now())
}

// DeleteFleets takes fleets of a project and all their instances out of
// service; unknown names are left out. One that is in use makes it fail with
// [*Refused], and none is deleted.
func (e *Engine) DeleteFleets(ctx context.Context, actorID, projectID string, names []string) error {
	return e.write(ctx, "delete fleets", func(tx *store.Tx) error {
		for _, name := range names {
			fleet, err := tx.FleetByName(projectID, name)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if err := e.deleteFleet(tx, &fleet, &actorID); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *Engine) deleteFleet(tx *store.Tx, f *store.Fleet, actor *string) error {
	if f.Status == api.FleetTerminating {
		return nil
	}
	instances, err := tx.InstancesOfFleet(f.ID)
	if err != nil {
		return err
	}
	runs, err := tx.UnfinishedRunsOfFleet(f.ID)
	if err != nil {
		return err
	}
	if len(runs) > 0 || slices.ContainsFunc(instances, func(i store.Instance) bool { return i.BusyBlocks > 0 }) {
		return refuse("Failed to delete fleet %s. Fleet is in use.", f.Name)
	}
	nums := make([]int, len(instances))
	for n, i := range instances {
		nums[n] = i.Num
	}
	if err := e.removeInstances(tx, f, instances, nums, actor); err != nil {
		return err
	}
	d := &decision{}
	setFleet(d, f, api.FleetTerminating)
	d.events[0].ActorID = actor
	return e.apply(tx, d, e.now())
}

// DeleteInstances takes instances of a fleet out of service; unknown numbers
// are left out. A busy one makes it fail with [*Refused].
func (e *Engine) DeleteInstances(ctx context.Context, actorID, projectID, fleet string, nums []int) error {
	return e.write(ctx, "delete instances", func(tx *store.Tx) error {
		f, err := tx.FleetByName(projectID, fleet)
		if err != nil {
			return err
		}
		instances, err := tx.InstancesOfFleet(f.ID)
		if err != nil {
			return err
		}
		return e.removeInstances(tx, &f, instances, nums, &actorID)
	})
}
