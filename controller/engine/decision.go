package engine

import (
	"slices"
	"strings"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// decision is what a pass over one resource wants to happen. The rows in it
// are those of the view, changed in place.
type decision struct {
	runs      []*store.Run
	jobs      []*store.Job
	instances []*store.Instance
	fleets    []*store.Fleet
	volumes   []*store.Volume
	// attachments are written, goneAttachments deleted, each together with its
	// volume.
	attachments     []*store.VolumeAttachment
	goneAttachments []*store.VolumeAttachment
	gateways        []*store.Gateway
	// goneGateways are the ids of gateways whose rows are deleted.
	goneGateways []string
	newJobs      []*store.Job
	// newInstances are nodes of cloud fleets.
	newInstances []*store.Instance
	// oldJobs are the ids of submissions that are deleted.
	oldJobs []string
	// events get their id and time when they are stored.
	events []store.Event
	wakes  []store.Key
	// moves are the changes of the status of runs, for who counts them.
	moves []runMove
	// released is the project in which capacity became free; what waits for
	// it is woken, by priority and age.
	released string
	// effects start after the commit.
	effects []Effect
	// next is when to look again without being woken; zero for never.
	next time.Time
	// final says that the resource needs no more work.
	final bool
}

// runMove is a change of the status of a run.
type runMove struct {
	run      *store.Run
	from, to api.RunStatus
}

func save[T any](list *[]*T, row *T) {
	if !slices.Contains(*list, row) {
		*list = append(*list, row)
	}
}

func (d *decision) saveRun(r *store.Run)           { save(&d.runs, r) }
func (d *decision) saveInstance(i *store.Instance) { save(&d.instances, i) }
func (d *decision) saveFleet(f *store.Fleet)       { save(&d.fleets, f) }

// saveJob keeps a changed job, unless it is a new one and kept already.
func (d *decision) saveJob(j *store.Job) {
	if !slices.Contains(d.newJobs, j) {
		save(&d.jobs, j)
	}
}

func (d *decision) wake(kind store.Kind, id string) {
	k := store.Key{Kind: kind, ID: id}
	if !slices.Contains(d.wakes, k) {
		d.wakes = append(d.wakes, k)
	}
}

// at asks for another look at t, or earlier.
func (d *decision) at(t time.Time) {
	if d.next.IsZero() || t.Before(d.next) {
		d.next = t
	}
}

func (d *decision) do(f Effect) { d.effects = append(d.effects, f) }

func (d *decision) event(message string, targets ...store.EventTarget) {
	d.events = append(d.events, newEvent(message, nil, targets...))
}

func newEvent(message string, actor *string, targets ...store.EventTarget) store.Event {
	message = strings.TrimSuffix(strings.ReplaceAll(message, "\n", " "), ".")
	return store.Event{Message: message, ActorID: actor, Targets: targets}
}

func upper[S ~string](s S) string { return strings.ToUpper(string(s)) }

// changed is the text of a change of status; the reason is left out if it is
// empty, and so is its message.
func changed[S, R ~string](what string, from, to S, reason R, message *string) string {
	text := what + " status changed " + upper(from) + " -> " + upper(to)
	if reason == "" {
		return text
	}
	text += ". Termination reason: " + upper(reason)
	if message != nil && *message != "" {
		text += " (" + *message + ")"
	}
	return text
}

func runTarget(r *store.Run) store.EventTarget {
	return store.EventTarget{Type: "run", ProjectID: &r.ProjectID, ID: r.ID, Name: r.Name, RunID: &r.ID}
}

func jobTarget(j *store.Job) store.EventTarget {
	return store.EventTarget{Type: "job", ProjectID: &j.ProjectID, ID: j.ID, Name: j.Spec.JobName, RunID: &j.RunID}
}

func instanceTarget(i *store.Instance) store.EventTarget {
	return store.EventTarget{Type: "instance", ProjectID: &i.ProjectID, ID: i.ID, Name: i.Name, FleetID: &i.FleetID}
}

func fleetTarget(f *store.Fleet) store.EventTarget {
	return store.EventTarget{Type: "fleet", ProjectID: &f.ProjectID, ID: f.ID, Name: f.Name, FleetID: &f.ID}
}
