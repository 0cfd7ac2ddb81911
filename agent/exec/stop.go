package exec

import "time"

// Stage is how hard a job is being stopped.
type Stage int

// Stages of a stop, in order.
const (
	None      Stage = iota
	Interrupt       // the terminal's interrupt character
	Hangup          // HUP and CONT to every process of the session
	Kill            // KILL to every process of the session
)

// Schedule says how long after the request the later stages of a stop come.
// Interrupt comes at once.
type Schedule struct{ Hangup, Kill time.Duration }

// DefaultSchedule is that of dstack 0.22.5.
func DefaultSchedule() Schedule {
	return Schedule{Hangup: 5 * time.Second, Kill: 10 * time.Second}
}

// WithGrace returns the schedule with KILL after grace, if that is later.
func (s Schedule) WithGrace(grace time.Duration) Schedule {
	s.Kill = max(s.Kill, grace)
	return s
}

// At returns the stage that a stop has reached after elapsed, and how long
// after the request the next one comes; 0 after the last.
func (s Schedule) At(elapsed time.Duration) (now Stage, next time.Duration) {
	switch {
	case elapsed >= s.Kill:
		return Kill, 0
	case elapsed >= s.Hangup:
		return Hangup, s.Kill
	default:
		return Interrupt, min(s.Hangup, s.Kill)
	}
}
