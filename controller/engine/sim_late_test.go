package engine

import (
	"slices"
	"time"
)

// lateCall is a request that arrives at the cloud when nobody waits for its
// answer any more.
type lateCall struct {
	engine *Engine
	effect Effect
	until  time.Time
}

// mostLate is how long a request may be on its way: as long as a call may take.
const mostLate = time.Minute

// delays decides whether a request to the cloud is late: the server gives it
// up, or dies. It is worst for one that makes something.
func (w *world) delays(f Effect) bool {
	if w.cloud == nil || f.Kind != DoCreate && f.Kind != DoMake {
		return false
	}
	dies := w.cloud.calls+1 == w.cloud.lateNum
	if !dies && !w.fault(15) {
		return false
	}
	if dies {
		w.cloud.calls++
	}
	w.late = append(w.late, lateCall{w.engine, f, w.clock.Add(mostLate)})
	w.killed = dies || w.chance(2)
	return true
}

func (w *world) arriveLate(i int) {
	l := w.late[i]
	w.late = slices.Delete(w.late, i, i+1)
	if w.clock.After(l.until) {
		return
	}
	w.notef("a late request arrives")
	l.engine.Perform(w.ctx(), l.effect)
}
