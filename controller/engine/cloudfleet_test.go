package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// cloudFleet is a view of a fleet with so many instances in each status.
func cloudFleet(now time.Time, low int, most *int, statuses ...api.InstanceStatus) fleetView {
	f := &store.Fleet{ID: "f", ProjectID: "p", Name: "fleet", Status: api.FleetActive, CreatedAt: now.Add(-time.Hour)}
	f.Spec.Configuration.Nodes = &config.FleetNodes{Min: low, Target: low, Max: most}
	ids := 0
	v := fleetView{now: now, fleet: f, newID: func() string {
		ids++
		return fmt.Sprint("new-", ids)
	}}
	for n, s := range statuses {
		v.instances = append(v.instances, store.Instance{ID: fmt.Sprint("i", n), FleetID: "f", Name: fmt.Sprint("fleet-", n), Num: n, Status: s})
	}
	return v
}

// TestConsolidate brings fleets to their size.
func TestConsolidate(t *testing.T) {
	t.Parallel()
	const (
		pending, idle, busy     = api.InstancePending, api.InstanceIdle, api.InstanceBusy
		terminating, terminated = api.InstanceTerminating, api.InstanceTerminated
	)
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		view     fleetView
		created  []string
		changed  []string
		attempts int
	}{
		"as it should be":  {cloudFleet(now, 2, new(2), pending, busy), nil, nil, 0},
		"lowest numbers":   {cloudFleet(now, 3, new(5), terminated, pending, terminating), []string{"fleet-0", "fleet-3"}, []string{"fleet-0 deleted"}, 1},
		"only leftovers":   {cloudFleet(now, 0, new(2), terminated, idle), nil, []string{"fleet-0 deleted"}, 1},
		"too many":         {cloudFleet(now, 0, new(1), busy, idle, idle), nil, []string{"fleet-1 terminating", "fleet-2 terminating"}, 1},
		"all of them busy": {cloudFleet(now, 0, new(1), busy, busy), nil, nil, 1},
		"no upper limit":   {cloudFleet(now, 0, nil, idle, idle), nil, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := decideFleet(tt.view)
			var created, changed []string
			for _, i := range d.newInstances {
				created = append(created, i.Name)
			}
			for _, i := range d.instances {
				if i.Deleted {
					changed = append(changed, i.Name+" deleted")
				} else {
					changed = append(changed, i.Name+" "+string(i.Status))
				}
			}
			if diff := cmp.Diff(tt.created, created); diff != "" {
				t.Errorf("created (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.changed, changed); diff != "" {
				t.Errorf("changed (-want +got):\n%s", diff)
			}
			if tt.view.fleet.Attempts != tt.attempts {
				t.Errorf("attempts %d, want %d", tt.view.fleet.Attempts, tt.attempts)
			}
		})
	}
}

// TestConsolidateDelays follows a fleet that never gets its node: it waits
// longer each time, then gives up until it is updated.
func TestConsolidateDelays(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	v := cloudFleet(now, 1, new(1), api.InstanceTerminated)
	v.fleet.CreatedAt = now
	var waits []time.Duration
	var told []string
	for range mostAttempts {
		d := decideFleet(v)
		waits = append(waits, d.next.Sub(v.now))
		v.now = d.next
		d = decideFleet(v)
		if len(d.newInstances) != 1 || d.newInstances[0].Num != 0 {
			t.Fatalf("attempt %d created %v", v.fleet.Attempts, d.newInstances)
		}
		for _, ev := range d.events {
			if ev.Targets[0].Type == "fleet" {
				told = append(told, ev.Message)
			}
		}
		node := *d.newInstances[0]
		node.Status = api.InstanceTerminated
		v.instances = []store.Instance{node}
	}
	want := []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute}
	for len(want) < mostAttempts {
		want = append(want, 30*time.Minute)
	}
	if diff := cmp.Diff(want, waits); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"Fleet consolidation stopped after 15 attempts. Update the fleet to resume"}, told); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	v.now = v.now.Add(24 * time.Hour)
	if d := decideFleet(v); len(d.newInstances) > 0 || !d.next.IsZero() {
		t.Error("it goes on after the last attempt")
	}
	v.fleet.Attempts = 0
	if d := decideFleet(v); len(d.newInstances) != 1 {
		t.Error("it does not go on after an update")
	}
	// Once the node is there, the next look ends the attempts.
	v.instances = []store.Instance{{ID: "i", Status: api.InstanceIdle}}
	v.now = v.now.Add(time.Hour)
	if d := decideFleet(v); v.fleet.Attempts != 0 || !d.next.IsZero() {
		t.Errorf("attempts %d, next %v", v.fleet.Attempts, d.next)
	}
}

// TestDecideNode lets a node go for which there is no machine.
func TestDecideNode(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	i := &store.Instance{ID: "i", FleetID: "f", Status: api.InstancePending}
	d := decideInstance(instanceView{now: now, inst: i, cloudView: cloudView{fleet: &store.Fleet{}}})
	if i.Status != api.InstanceTerminated || i.Deleted || *i.Reason != api.ReasonInstanceNoOffers || *i.ReasonMessage != "No offers found" || !d.final {
		t.Errorf("a pending one: %+v, final %t", i, d.final)
	}
	i = &store.Instance{ID: "i", FleetID: "f", Status: api.InstanceTerminating}
	d = decideInstance(instanceView{now: now, inst: i})
	if i.Status != api.InstanceTerminated || !i.Deleted || i.FinishedAt == nil || !d.final {
		t.Errorf("one that is to go: %+v, final %t", i, d.final)
	}
}

// TestWakeUnused lets idle machines go as soon as their fleet has more than it
// must have; nobody looks at them in the meantime.
func TestWakeUnused(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		low, idleFor, idleMost int
		want                   bool
	}{
		"more than needed":     {1, 600, 300, true},
		"needed":               {2, 600, 300, false},
		"not idle for long":    {1, 200, 300, false},
		"may be idle for ever": {1, 600, -1, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := cloudFleet(now, tt.low, nil, api.InstanceIdle, api.InstanceBusy)
			v.instances[0].IdleSince = new(now.Add(-time.Duration(tt.idleFor) * time.Second))
			v.instances[0].Wish = &store.Wish{IdleSeconds: tt.idleMost}
			woken := slices.Contains(decideFleet(v).wakes, store.Key{Kind: store.KindInstance, ID: "i0"})
			if woken != tt.want {
				t.Errorf("woken is %v, want %v", woken, tt.want)
			}
		})
	}
}
