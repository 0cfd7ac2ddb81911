package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }

// checkMachines compares what costs money with what the database knows: each
// machine is that of an instance which is not over, and nobody else's.
func (w *world) checkMachines() {
	if now := (seen{w.store.Revision(), w.cloud.fake.Calls(""), w.cloud.now}); now == w.compared {
		return
	} else {
		w.compared = now
	}
	known := map[string]store.Instance{}
	var rows []store.Instance
	err := w.store.Read(w.ctx(), func(tx *store.Tx) (err error) {
		rows, err = tx.Machines()
		return err
	})
	if err != nil {
		w.failf("list machines: %w", err)
	}
	for _, i := range rows {
		if i.Status != api.InstanceTerminated && !w.disowned(i) {
			known[i.Machine.Token] = i
		}
		w.watchIdle(i)
	}
	for _, m := range w.left() {
		i, found := known[m.Token]
		if w.lost[m.Token] = w.lost[m.Token] && !found; w.lost[m.Token] {
			continue
		}
		if !found {
			w.failf("machine %s (%s) costs money and the database knows nothing of it", m.ID, m.State)
		} else if i.Machine.ID != "" && i.Machine.ID != m.ID {
			w.failf("machine %s is known as %s", m.ID, i.Machine.ID)
		}
	}
	w.checkVolumes()
}

// disowned says that a server on a copied database gives up what the other one
// had asked for: if that comes to be, and the other one does not know it, it is
// reported as a stray.
func (w *world) disowned(i store.Instance) bool {
	return i.Status == api.InstancePending && foreign(&i, w.tag)
}

// seen is what a comparison looked at.
type seen struct {
	revision uint64
	calls    int
	at       time.Time
}

// left are the machines of this world's server that are not gone.
func (w *world) left() []backends.Machine {
	var out []backends.Machine
	for _, m := range w.cloud.fake.Left() {
		if w.tags[m.Tags[backends.TagServer]] {
			out = append(out, m)
		}
	}
	return out
}

// checkHeld looks at a world at rest: what the database believes to have is there.
func (w *world) checkHeld() {
	alive := map[string]bool{}
	for _, m := range w.left() {
		alive[m.Token] = m.State == backends.MachineRunning
	}
	for _, i := range w.instances() {
		if i.Machine == nil || i.Deleted {
			continue
		}
		switch i.Status {
		case api.InstanceTerminated:
		case api.InstanceIdle, api.InstanceBusy:
			if !alive[i.Machine.Token] {
				w.failf("%s is %s, and its machine is gone", i.Name, i.Status)
			}
		default:
			if !w.leftAlone(i.ID) {
				w.failf("%s rests in %s", i.Name, i.Status)
			}
		}
	}
}

// idleOver is how much longer than asked for a machine may be idle: it is
// looked at once more, and what ends it may fail.
const idleOver = time.Minute

// watchIdle remembers since when an instance is idle, as the database tells
// whoever looks.
func (w *world) watchIdle(i store.Instance) {
	if i.Status != api.InstanceIdle {
		delete(w.idle, i.ID)
	} else if _, known := w.idle[i.ID]; !known {
		w.idle[i.ID] = w.clock
	}
}

// checkIdle looks for machines that cost money and that nobody asked to keep.
func (w *world) checkIdle() {
	count, low := map[string]int{}, map[string]int{}
	list := w.instances()
	for _, i := range list {
		if i.Status != api.InstanceTerminated && i.Status != api.InstanceTerminating && !i.Deleted {
			count[i.FleetID]++
		}
	}
	err := w.store.Read(w.ctx(), func(tx *store.Tx) error {
		for id := range count {
			f, err := tx.Fleet(id)
			if err != nil {
				return err
			}
			if isCloud(&f) {
				low[id] = f.Spec.Configuration.Nodes.Min
			}
		}
		return nil
	})
	if err != nil {
		w.failf("read fleets: %w", err)
	}
	for _, i := range list {
		if i.Machine == nil || i.Status != api.InstanceIdle || i.Wish.IdleSeconds < 0 || count[i.FleetID] <= low[i.FleetID] {
			continue
		}
		if since := w.clock.Sub(w.idle[i.ID]); since > time.Duration(i.Wish.IdleSeconds)*time.Second+idleOver {
			w.failf("%s is idle for %s, allowed are %ds", i.Name, since, i.Wish.IdleSeconds)
		}
	}
}

// checkSizes looks for fleets that have more than they ever might.
func (w *world) checkSizes() {
	live := map[string]int{}
	for _, i := range w.instances() {
		if !i.Deleted && !ended(&i) {
			live[i.FleetID]++
		}
	}
	for id, n := range live {
		if most, known := w.most[id]; known && n > most {
			w.failf("a fleet has %d machines, it never might have more than %d", n, most)
		}
	}
}

// mayHave remembers the largest size that a fleet ever might have.
func (w *world) mayHave(f store.Fleet) {
	most := 1000
	if n := f.Spec.Configuration.Nodes; n.Max != nil {
		most = *n.Max
	}
	w.most[f.ID] = max(w.most[f.ID], most)
}

// checkPlaces looks whether jobs ran only where their runs allow it, and nodes
// of a run beside each other.
func (w *world) checkPlaces() {
	runs := map[string]store.Run{}
	var ids []string
	for _, r := range w.runs() {
		runs[r.ID] = r
		ids = append(ids, r.ID)
	}
	var jobs []store.Job
	err := w.store.Read(w.ctx(), func(tx *store.Tx) (err error) {
		jobs, err = tx.JobsByRuns(ids, 0)
		return err
	})
	if err != nil {
		w.failf("list jobs: %w", err)
	}
	where := map[string]string{}
	for _, j := range jobs {
		p := j.Provisioning
		if p == nil || p.Backend != fake.Type {
			continue
		}
		w.checkPlace(runs[j.RunID].Spec.Params(), j)
		beside := fmt.Sprint(j.RunID, j.ReplicaNum, j.SubmissionNum)
		zone := p.Region + deref(p.AvailabilityZone)
		if where[beside] != "" && where[beside] != zone {
			w.failf("nodes of %s are in %s and %s", j.RunName, where[beside], zone)
		}
		where[beside] = zone
	}
}

func (w *world) checkPlace(asked config.ProfileParams, j store.Job) {
	p, spot := j.Provisioning, j.Provisioning.InstanceType.Resources.Spot
	switch {
	case asked.Regions != nil && !slices.Contains(asked.Regions, p.Region):
		w.failf("%s was in region %s, asked for were %v", j.Spec.JobName, p.Region, asked.Regions)
	case asked.InstanceTypes != nil && !slices.Contains(asked.InstanceTypes, p.InstanceType.Name):
		w.failf("%s was on a %s, asked for were %v", j.Spec.JobName, p.InstanceType.Name, asked.InstanceTypes)
	case asked.MaxPrice != nil && p.Price > *asked.MaxPrice:
		w.failf("%s was on a machine for %v, asked for was %v", j.Spec.JobName, p.Price, *asked.MaxPrice)
	case deref(asked.SpotPolicy) == config.SpotPolicySpot && !spot:
		w.failf("%s was not on a spot machine", j.Spec.JobName)
	case spot && deref(asked.SpotPolicy) != config.SpotPolicySpot && deref(asked.SpotPolicy) != config.SpotPolicyAuto:
		w.failf("%s was on a spot machine, and did not ask for one", j.Spec.JobName)
	case spot && j.Reason != nil && *j.Reason == api.ReasonInstanceUnreachable:
		w.failf("%s lost its spot machine, and that is no interruption", j.Spec.JobName)
	}
}

// checkKey looks whether the server knows beforehand who answers at a machine.
func (w *world) checkKey(x *wanted) {
	h := x.host
	if h.machine == nil {
		return
	}
	for _, k := range x.target.HostKeys {
		if strings.Contains(h.userData, strings.TrimSpace(k)) {
			return
		}
	}
	w.failf("%s is connected to without a host key that it was made with: %q", h.name, x.target.HostKeys)
}
