package replication

import (
	"sync"
	"time"

	"github.com/rs/zerolog"

	"dstack/controller/objects"
)

// Status is how the replication stands.
type Status struct {
	// Lag is how old the oldest commit is that the replica does not have.
	Lag time.Duration
	// Failing says that an attempt to take or upload changes failed, or that the
	// replica was far behind, and that it has not caught up since.
	Failing bool
	// Uploads counts the successful ones, Failures the others.
	Uploads, Failures int64
}

// state keeps count of what the replica has.
type state struct {
	now func() time.Time

	mu       sync.Mutex
	pending  time.Time // the oldest commit that it may lack; zero: none
	newest   time.Time // the last commit
	held     time.Time // all commits before this are in files beside the database
	failing  time.Time // since when; zero: not
	uploads  int64
	first    chan struct{} // closed after the first upload
	failures int64
}

func (s *state) committed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = s.now()
	if s.pending.IsZero() {
		s.pending = s.newest
	}
}

// begun notes that changes of an earlier server may be on their way.
func (s *state) begun() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending.IsZero() {
		s.pending = s.now()
	}
}

// written says whether there was a commit.
func (s *state) written() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.newest.IsZero()
}

func (s *state) taken(began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = began
}

func (s *state) takenUpTo() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// uploaded notes that the replica has all commits before upTo.
func (s *state) uploaded(log zerolog.Logger, upTo time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uploads++; s.uploads == 1 {
		close(s.first)
	}
	switch {
	case s.newest.Before(upTo):
		s.pending = time.Time{}
	case s.pending.Before(upTo):
		s.pending = upTo
	}
	// Under load there is always a commit that the replica does not have yet.
	if !s.failing.IsZero() && (s.pending.IsZero() || s.now().Sub(s.pending) < slow/2) {
		log.Info().Dur("after", s.now().Sub(s.failing)).Msg("The replica has caught up")
		s.failing = time.Time{}
	}
}

// failed notes a failure, and says so the first time.
func (s *state) failed(log zerolog.Logger, err error) {
	s.mu.Lock()
	s.failures++
	s.mu.Unlock()
	s.behind(log, err)
}

// behind notes that changes don't reach the replica, and says so the first time.
func (s *state) behind(log zerolog.Logger, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing.IsZero() {
		s.failing = s.now()
		log.Warn().Str(zerolog.ErrorFieldName, objects.Discreet(err.Error())).Msg("Changes don't reach the replica; the server goes on and uploads them later")
	}
}

func (s *state) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Failing: !s.failing.IsZero(), Uploads: s.uploads, Failures: s.failures}
	if !s.pending.IsZero() {
		st.Lag = s.now().Sub(s.pending)
	}
	return st
}

// Status says how the replication stands.
func (r *Replica) Status() Status { return r.state.status() }
