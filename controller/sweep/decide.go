package sweep

import (
	"cmp"
	"slices"
	"time"

	"dstack/controller/backends"
	"dstack/controller/store"
)

// How much a sweep ends by itself of what nobody knows, at most.
const (
	mostEnded = 2
	// mostShare is one in so many of the machines that the database knows.
	mostShare = 10
)

// MinAge is how old a machine is left to become: longer than the longest call
// that makes one, with what the clocks may differ.
const MinAge = 15 * time.Minute

// Key names a machine among all accounts: several projects may use one.
type Key struct{ Backend, ID string }

// Machine is one that carries a tag of this server.
type Machine struct {
	backends.Machine

	Backend string
	// ProjectID and Project are one of those whose account it is in.
	ProjectID, Project string
	// Server is the value of its tag.
	Server string
	// Price is in USD an hour; 0 if it is not known.
	Price float64
}

// Key is the machine's.
func (m *Machine) Key() Key { return Key{m.Backend, m.ID} }

// Known is a machine that an instance of a project has, or may have, or a volume
// of a project.
type Known struct{ ProjectID, Backend, ID, Token string }

// Blind is a time of which the database may lack what happened.
type Blind struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Look is what a sweep saw. The clouds were asked before the database was
// read: so what is unknown was not made meanwhile.
type Look struct {
	Now time.Time
	// Server is the tag that machines get now.
	Server   string
	Machines []Machine
	// Asked are the accounts that were asked; Silent are those of them of which
	// not every region answered: they may have more.
	Asked, Silent []store.Slot
	Known         []Known
	// Remains are volumes and addresses, Volumes those that the database knows,
	// Mute the accounts of which not all remains came.
	Remains []Remain
	Volumes []Known
	Mute    []store.Slot
	// GivenUp are tokens that the database knows to be of no use any more.
	GivenUp map[string]bool
	// Strays are those of earlier sweeps.
	Strays map[Key]Earlier
	Blind  []Blind
}

// Earlier is what is known of a stray from earlier sweeps.
type Earlier struct {
	// Kind is empty for a machine.
	Kind string
	// ProjectID is the one whose account it was found in.
	ProjectID string
	Hold      Hold
	// Confirmed says that an administrator wants it to end.
	Confirmed bool
}

// Hold is why a machine that nobody knows is not ended.
type Hold string

// Reasons to hold, the stronger first.
const (
	HoldNot Hold = ""
	// HoldFormer: it carries the tag that the database had before it was
	// restored or copied.
	HoldFormer Hold = "former tag"
	// HoldBlind: it is of a time that the database knows nothing about.
	HoldBlind Hold = "restored database"
	// HoldAge: the cloud does not say how old it is.
	HoldAge Hold = "unknown age"
	// HoldMany: it is one of too many.
	HoldMany Hold = "too many"
	// HoldPartial: its account did not answer whole, so it may be one of too many.
	HoldPartial Hold = "incomplete list"
	// HoldOthers: others are held, so something is wrong.
	HoldOthers Hold = "others are held"
	// HoldData: a volume has what somebody may need, so only a person has it
	// deleted.
	HoldData Hold = "data"
)

// Stray is a machine that nobody knows, and what becomes of it.
type Stray struct {
	Machine

	Hold Hold
}

// Decide finds the machines that nobody knows, and says which of them are to
// be ended: those without a reason to hold.
//
// An account that did not answer holds its own strays and no others. It must
// not hide any either: those that it was known to have count as if it had
// shown them, and what it has of the known machines does not raise the limit.
func Decide(l Look) []Stray {
	var out []Stray
	seen := map[Key]bool{}
	open, held := l.unseen()
	var judged []int // of out: those that only the count can hold
	for _, m := range l.found() {
		if m.State == backends.MachineGone || seen[m.Key()] || l.knows(&m) {
			continue
		}
		seen[m.Key()] = true
		s := Stray{Machine: m}
		before, old := l.Strays[m.Key()]
		switch {
		case before.Confirmed, l.GivenUp[m.Token] && m.Token != "":
			out = append(out, s)
			continue
		case !old && !m.CreatedAt.IsZero() && l.Now.Before(m.CreatedAt.Add(MinAge)):
			continue
		}
		switch s.Hold = l.hold(&m, before.Hold); s.Hold {
		case HoldNot:
			open++
			judged = append(judged, len(out))
		case HoldPartial:
			open++
		default:
			held = true
		}
		out = append(out, s)
	}
	for _, i := range judged {
		switch {
		case held:
			out[i].Hold = HoldOthers
		case open > mostEnded || open*mostShare > l.known():
			out[i].Hold = HoldMany
		}
	}
	slices.SortFunc(out, func(a, b Stray) int { return cmp.Or(cmp.Compare(a.Backend, b.Backend), cmp.Compare(a.ID, b.ID)) })
	return out
}

// unseen counts the strays that silent accounts were known to have and do not
// show now, and says whether one of them is held for what it is.
func (l *Look) unseen() (open int, held bool) {
	shown := map[Key]bool{}
	for i := range l.Machines {
		shown[l.Machines[i].Key()] = true
	}
	for k, before := range l.Strays {
		if before.Kind != "" || shown[k] || before.Confirmed || !l.silent(before.ProjectID, k.Backend) {
			continue
		}
		open++
		held = held || before.Hold.ofItself()
	}
	return open, held
}

// found are the machines, those of accounts that answered first: an account
// that two projects share is judged by the answer that is whole.
func (l *Look) found() []Machine {
	out := slices.Clone(l.Machines)
	silent := func(m Machine) int {
		if l.silent(m.ProjectID, m.Backend) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(out, func(a, b Machine) int { return cmp.Compare(silent(a), silent(b)) })
	return out
}

// known counts the known machines of the accounts that answered.
func (l *Look) known() int {
	n := 0
	for _, k := range l.Known {
		if !l.silent(k.ProjectID, k.Backend) {
			n++
		}
	}
	return n
}

// silent says whether an account did not answer whole.
func (l *Look) silent(projectID, backend string) bool { return has(l.Silent, projectID, backend) }

// answered says whether the account did in which a stray was found.
func (l *Look) answered(x store.Stray) bool {
	if x.Found.Kind != "" && has(l.Mute, x.ProjectID, x.Backend) {
		return false
	}
	return has(l.Asked, x.ProjectID, x.Backend) && !l.silent(x.ProjectID, x.Backend)
}

func has(list []store.Slot, projectID, backend string) bool {
	return slices.ContainsFunc(list, func(s store.Slot) bool { return s.ProjectID == projectID && s.Backend == backend })
}

// knows says whether an instance has the machine.
func (l *Look) knows(m *Machine) bool {
	return slices.ContainsFunc(l.Known, func(k Known) bool {
		return k.Backend == m.Backend && (k.ID != "" && k.ID == m.ID || k.Token != "" && k.Token == m.Token)
	})
}

// hold judges a machine alone. What was lost of a database does not come back.
func (l *Look) hold(m *Machine, before Hold) Hold {
	switch {
	case before == HoldFormer, before == HoldBlind:
		return before
	case m.Server != l.Server:
		return HoldFormer
	case m.CreatedAt.IsZero():
		return HoldAge
	case slices.ContainsFunc(l.Blind, func(b Blind) bool { return b.has(m.CreatedAt) }):
		return HoldBlind
	case l.silent(m.ProjectID, m.Backend):
		return HoldPartial
	}
	return HoldNot
}

// ofItself says that a reason to hold is the machine's own: it shows that the
// database lacks something, whatever else was found.
func (h Hold) ofItself() bool { return h == HoldFormer || h == HoldBlind || h == HoldAge }

// has says whether a time is in the blind one, as far as clocks can tell.
func (b Blind) has(t time.Time) bool {
	return !t.Before(b.From.Add(-MinAge)) && !t.After(b.To.Add(MinAge))
}

// Sentence says why a machine is held, as the end of a sentence.
func (h Hold) Sentence() string {
	switch h {
	case HoldFormer:
		return "the database was restored or copied, and it may belong to the server that goes on with the original"
	case HoldBlind:
		return "the database was set back to an earlier state, and it may have been made after that"
	case HoldAge:
		return "the cloud does not say how old it is"
	case HoldMany:
		return "more such machines were found than are ended without asking"
	case HoldPartial:
		return "not every region of its account answered, so there may be more of them"
	case HoldOthers:
		return "there are others that may be somebody's"
	case HoldData:
		return "it has data that somebody may need"
	case HoldNot:
	}
	return ""
}
