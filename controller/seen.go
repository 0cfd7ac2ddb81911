package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dstack/controller/engine"
	"dstack/controller/logs"
	"dstack/controller/metrics"
	"dstack/controller/store"
	"dstack/protocol/hostapi"
)

// logSink stores what hosts send of the logs of jobs. It knows the place of a
// log by the job's id; a job never moves. Only the host that has the job may
// write there: hosts are whatever a member of a project calls so.
type logSink struct {
	store *store.Store
	logs  *logs.Store
	now   func() time.Time

	mu     sync.Mutex
	places map[string]place
}

// place is where a log lies, and the instance that it comes from.
type place struct {
	key      logs.Key
	instance string
}

// maxPlaces bounds the memory of logSink; what is forgotten is looked up again.
const maxPlaces = 10_000

// key finds the place of a job's log; false if the instance has no such job.
func (l *logSink) key(ctx context.Context, instanceID, jobID string) (logs.Key, bool, error) {
	l.mu.Lock()
	p, ok := l.places[jobID]
	l.mu.Unlock()
	if ok {
		return p.key, p.instance == instanceID, nil
	}
	found := false
	err := l.store.Read(ctx, func(tx *store.Tx) error {
		found = false
		job, err := tx.Job(jobID)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil || job.UsedInstanceID == nil {
			return err //nolint:wrapcheck // wrapped below
		}
		project, err := tx.Project(job.ProjectID)
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		p = place{logs.Key{Project: project.Name, Run: job.RunName, JobID: job.ID}, *job.UsedInstanceID}
		found = true
		return nil
	})
	if err != nil || !found {
		if err != nil {
			err = fmt.Errorf("find log of job %s: %w", jobID, err)
		}
		return logs.Key{}, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.places) >= maxPlaces {
		clear(l.places)
	}
	l.places[jobID] = p
	return p.key, p.instance == instanceID, nil
}

// Append implements [hosts.LogSink].
func (l *logSink) Append(ctx context.Context, instanceID, jobID string, offset int64, at time.Time, data []byte) (int64, error) {
	k, known, err := l.key(ctx, instanceID, jobID)
	if err != nil {
		return 0, err
	}
	if !known {
		return offset + int64(len(data)), nil
	}
	return l.logs.Append(ctx, k, offset, at, data) //nolint:wrapcheck // says what it was doing
}

// diagnose keeps the log of a job's agent. It is told from its beginning
// each time; what is stored already is left as it is.
func (l *logSink) diagnose(ctx context.Context, instanceID, jobID, text string) error {
	k, known, err := l.key(ctx, instanceID, jobID)
	if err != nil || !known {
		return err
	}
	_, err = l.logs.Append(ctx, k.Diagnostics(), 0, l.now(), []byte(text))
	return err //nolint:wrapcheck // says what it was doing
}

// Size implements [hosts.LogSink].
func (l *logSink) Size(ctx context.Context, instanceID, jobID string) (int64, error) {
	k, known, err := l.key(ctx, instanceID, jobID)
	if err != nil || !known {
		return 0, err
	}
	return l.logs.Size(k) //nolint:wrapcheck // says what it was doing
}

// owns says whether a job is, or was, one of the instance.
func (l *logSink) owns(ctx context.Context, instanceID, jobID string) (bool, error) {
	_, known, err := l.key(ctx, instanceID, jobID)
	return known, err
}

// sync makes a job's log durable.
func (l *logSink) sync(ctx context.Context, instanceID, jobID string) error {
	k, known, err := l.key(ctx, instanceID, jobID)
	if err != nil || !known {
		return err
	}
	return l.logs.Sync(k) //nolint:wrapcheck // says what it was doing
}

// observer hands what is seen on hosts to the engine; a job's end only once
// its log would survive a loss of power.
type observer struct {
	*engine.Engine
	logs *logSink
	*metrics.Collector
}

// TaskUsed implements [hosts.Observer].
func (o *observer) TaskUsed(instanceID string, u hostapi.TaskUsage) {
	o.Collector.TaskUsed(instanceID, u)
	o.Engine.TaskUsed(instanceID, u)
}

// TaskChanged implements [hosts.Observer]. What the agent said of itself goes
// to the logs, not to the rows.
func (o *observer) TaskChanged(ctx context.Context, instanceID string, seq uint64, task hostapi.Task) error {
	if task.Diagnostics != "" {
		if err := o.logs.diagnose(ctx, instanceID, task.ID, task.Diagnostics); err != nil {
			return err
		}
		task.Diagnostics = ""
	}
	if task.State == hostapi.TaskTerminated {
		if err := o.logs.sync(ctx, instanceID, task.ID); err != nil {
			return err
		}
	}
	if err := o.Engine.TaskChanged(ctx, instanceID, seq, task); err != nil {
		return fmt.Errorf("take change of job %s: %w", task.ID, err)
	}
	return nil
}
