package shim

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"dstack/protocol/hostapi"
	"dstack/shim/agentlink"
	"dstack/shim/workload"
)

// beforeEnd is how long before a machine goes its jobs are stopped: the stop
// sequence takes 10 s, the rest is for the log.
const beforeEnd = 30 * time.Second

// noticed is what the cloud said of the machine.
type noticed struct {
	// interrupted is closed once the machine is known to go; end is set by then,
	// and stays whatever the cloud says later.
	interrupted chan struct{}
	end         *hostapi.Notice
	// advice is what it said before.
	advice *hostapi.Notice
}

// take keeps a notice.
func (n *noticed) take(said hostapi.Notice) {
	if said.Kind != hostapi.NoticeInterruption {
		n.advice = &said
		return
	}
	first := n.end == nil
	n.end = &said
	if first {
		close(n.interrupted)
	}
}

// Noticed takes what the cloud announced about this machine. The jobs that run
// are told, and stopped shortly before the end; others do not begin.
func (m *Manager) Noticed(n hostapi.Notice) {
	m.cfg.Log.Warn().Str("notice", n.Kind).Time("ends", n.Ends).Msg("the cloud gave notice")
	m.mu.Lock()
	m.noticed.take(n)
	m.mu.Unlock()
	m.facts.changed.send()
	if n.Kind != hostapi.NoticeInterruption {
		return
	}
	for _, t := range m.all() {
		if t.record().Task.State != hostapi.TaskRunning {
			t.stopInterrupted(n)
		}
	}
}

// notice is the gravest that the cloud announced, nil if nothing.
func (m *Manager) notice() *hostapi.Notice {
	m.mu.Lock()
	defer m.mu.Unlock()
	return cmp.Or(m.noticed.end, m.noticed.advice)
}

// interruption is the notice that the machine goes, nil if it stays.
func (m *Manager) interruption() *hostapi.Notice {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.noticed.end
}

// taken says that the cloud takes the machine, for the user.
func taken(n hostapi.Notice) string {
	if n.Ends.IsZero() {
		return "The cloud takes the spot machine back"
	}
	return "The cloud takes the spot machine back at " + n.Ends.UTC().Format("15:04:05 MST")
}

// refuse is why a task does not begin on a machine that goes.
func (m *Manager) refuse() error {
	if n := m.interruption(); n != nil {
		return &workload.StartError{Reason: reasonInterrupted, Message: taken(*n)}
	}
	return nil
}

// warnWhenNoticed tells the job that its machine goes, and stops it shortly
// before.
func (t *task) warnWhenNoticed(ctx context.Context, agent *agentlink.Client) {
	select {
	case <-t.m.noticed.interrupted:
	case <-t.stopping:
		return
	case <-ctx.Done():
		return
	}
	for told := false; ctx.Err() == nil; {
		n := *t.m.interruption()
		// First on the disk: the job may end before the answer comes. After a
		// crash it is told again.
		if err := t.update(func(r *record) { r.Warned = taken(n) }); err != nil {
			t.log.Error().Err(err).Msg("notice not kept")
		}
		told = told || t.warn(ctx, agent)
		left := time.Until(n.Ends.Add(-beforeEnd))
		if left <= 0 || t.record().Task.State != hostapi.TaskRunning {
			t.stopInterrupted(n)
			return
		}
		wait := min(left, time.Second) // the time may be changed
		if !told {
			wait = min(left, callAgain)
		}
		sleep(ctx, wait)
	}
}

func (t *task) warn(ctx context.Context, agent *agentlink.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	err := agent.Warn(ctx)
	if err != nil {
		t.log.Debug().Err(err).Msg("job not warned")
	}
	return err == nil
}

func (t *task) stopInterrupted(n hostapi.Notice) {
	stop := hostapi.StopTask{Grace: int(agentGrace / time.Second), Reason: reasonInterrupted, Message: taken(n)}
	if err := t.askStop(stop, time.Now()); err != nil {
		t.log.Error().Err(err).Msg("task not stopped")
	}
}

// blameNotice is the verdict on a job that ended by itself after it was told
// that its machine goes: what it saved it saved, but it was not done.
func blameNotice(warned string, v verdict) verdict {
	switch v.reason {
	case reasonDone, reasonExited, reasonExecutor:
	default:
		return v // it would have ended anyway
	}
	message := warned + ", and the job ended"
	if v.status != nil {
		message += fmt.Sprintf(" with exit status %d", *v.status)
	}
	return verdict{reason: reasonInterrupted, message: message, status: v.status}
}
