package engine

import (
	"context"
	"errors"
	"slices"

	"dstack/controller/store"
	"dstack/protocol/hostapi"
)

// TaskChanged stores an event of a host. A repeat changes nothing.
func (e *Engine) TaskChanged(ctx context.Context, instanceID string, seq uint64, task hostapi.Task) error {
	task.Pull = nil
	return e.write(ctx, "store event of task", func(tx *store.Tx) error {
		inst, err := tx.Instance(instanceID)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil || seq <= inst.Seq {
			return err
		}
		inst.Seq = seq
		job, err := tx.Job(task.ID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			// Nobody here owns it.
			if !slices.Contains(inst.Orphans, task.ID) {
				inst.Orphans = append(slices.Clone(inst.Orphans), task.ID)
				if err := tx.Wake(e.now(), store.Key{Kind: store.KindInstance, ID: inst.ID}); err != nil {
					return err
				}
			}
		case err != nil:
			return err
		default:
			if err := e.takeTask(tx, inst, job, task); err != nil {
				return err
			}
		}
		return tx.UpdateInstance(&inst)
	})
}

func (e *Engine) takeTask(tx *store.Tx, inst store.Instance, job store.Job, task hostapi.Task) error {
	if job.InstanceID == nil || *job.InstanceID != inst.ID ||
		job.Task != nil && job.Task.State == hostapi.TaskTerminated {
		return nil
	}
	// Only the first sign, the start and the end are news for the job.
	news := job.Task == nil || task.State == hostapi.TaskRunning || task.State == hostapi.TaskTerminated
	job.Task = &task
	if err := tx.UpdateJob(&job); err != nil || !news {
		return err
	}
	return tx.Wake(e.now(), store.Key{Kind: store.KindJob, ID: job.ID})
}

// maxPulls bounds what is kept of pulls, whatever a host may send; what is
// forgotten comes back with the next progress.
const maxPulls = 10_000

// PullProgress keeps the progress of a pull in memory.
func (e *Engine) PullProgress(jobID string, p hostapi.PullProgress) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.pulls) >= maxPulls {
		clear(e.pulls)
	}
	e.pulls[jobID] = p
}

// Pulling is the progress of the image pull of a job, if it is known.
func (e *Engine) Pulling(jobID string) (hostapi.PullProgress, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ok := e.pulls[jobID]
	return p, ok
}
