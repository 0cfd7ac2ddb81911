package shim

import (
	"time"

	"dstack/protocol/hostapi"
	"dstack/protocol/jobapi"
)

// measurement is what a task used when it was told.
type measurement struct {
	at    time.Time
	usage jobapi.Usage
}

// measure keeps a measurement until the stream takes it. An agent may be
// anybody's: what it tells too often is dropped, and only the newest are kept.
func (t *task) measure(u jobapi.Usage, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.measured) < hostapi.UsageEvery {
		return
	}
	t.measured = now
	if len(t.usage) >= hostapi.MaxUsage {
		t.usage = t.usage[1:]
	}
	t.usage = append(t.usage, measurement{now, u})
}

// takeUsage returns what was not told yet.
func (t *task) takeUsage(now time.Time) []hostapi.TaskUsage {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []hostapi.TaskUsage
	for _, m := range t.usage {
		out = append(out, hostapi.TaskUsage{TaskID: t.id, AgeMillis: now.Sub(m.at).Milliseconds(), Usage: m.usage})
	}
	t.usage = nil
	return out
}

// sendUsage sends what was measured since the last time. What is lost with
// the connection stays lost.
func (s *stream) sendUsage() error {
	for _, t := range s.m.all() {
		for _, u := range t.takeUsage(time.Now()) {
			if err := s.write(hostapi.Event{Usage: &u}); err != nil {
				return err
			}
		}
	}
	return nil
}
