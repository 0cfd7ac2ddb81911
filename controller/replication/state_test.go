package replication

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// TestStateUnderLoad: a server that is written to all the time catches up, too.
func TestStateUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &state{now: time.Now, first: make(chan struct{})}
		step := func(upload bool) {
			began := time.Now()
			s.committed()
			s.taken(began)
			time.Sleep(time.Second)
			s.committed()
			if upload {
				s.uploaded(zerolog.Nop(), s.takenUpTo())
			} else {
				s.failed(zerolog.Nop(), errNetwork)
			}
		}
		for range 20 {
			step(false)
		}
		if st := s.status(); !st.Failing || st.Lag != 20*time.Second || st.Failures != 20 {
			t.Errorf("during the outage: %+v", st)
		}
		step(true)
		if st := s.status(); st.Failing || st.Lag != time.Second {
			t.Errorf("after it: %+v", st)
		}
	})
}

// TestStateAfterStart: until its first upload nobody knows what a replica lacks.
func TestStateAfterStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &state{now: time.Now, first: make(chan struct{})}
		s.begun()
		time.Sleep(time.Second)
		if st := s.status(); st.Lag != time.Second || s.written() {
			t.Errorf("before: %+v, %v", st, s.written())
		}
		s.taken(time.Now())
		s.uploaded(zerolog.Nop(), s.takenUpTo())
		if st := s.status(); st.Lag != 0 {
			t.Errorf("after: %+v", st)
		}
	})
}
