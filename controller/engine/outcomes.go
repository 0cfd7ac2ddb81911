package engine

import (
	"context"
	"fmt"
	"slices"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/hostapi"
)

// started stores what the host answered to StartTask. A final state is left
// to its event, which comes when the log is complete.
func (e *Engine) started(ctx context.Context, f Effect, task hostapi.Task, refused *hostapi.Error) error {
	task = acknowledged(f.TaskID, task)
	if refused != nil {
		task = hostapi.Task{ID: f.TaskID, State: hostapi.TaskTerminated, Message: "The host refused the job: " + refused.Message}
		task.Reason = string(api.ReasonCreatingContainer)
		switch refused.Code {
		case hostapi.CodeGone:
			task.Reason = string(api.ReasonExecutorError)
		case hostapi.CodeNotFound: // what it needs is not there; the host was not asked
			task.Reason, task.Message = string(api.ReasonExecutorError), refused.Message
		}
	}
	return e.write(ctx, "store answer of start", func(tx *store.Tx) error {
		job, err := tx.Job(f.TaskID)
		if err != nil {
			return err
		}
		if job.Task != nil || job.InstanceID == nil || *job.InstanceID != f.InstanceID {
			return nil
		}
		job.Task = &task
		if err := tx.UpdateJob(&job); err != nil {
			return err
		}
		return tx.Wake(e.now(), store.Key{Kind: store.KindJob, ID: job.ID})
	})
}

// acknowledged is the state of a task of which is only known that it exists.
func acknowledged(id string, t hostapi.Task) hostapi.Task {
	if t.State == hostapi.TaskTerminated || t.State == "" {
		return hostapi.Task{ID: id, State: hostapi.TaskPreparing}
	}
	t.ID, t.Pull = id, nil
	return t
}

// removed stores that a task is gone from its host.
func (e *Engine) removed(ctx context.Context, f Effect) error {
	return e.write(ctx, "store removal of task", func(tx *store.Tx) error {
		inst, err := tx.Instance(f.InstanceID)
		if err != nil {
			return err
		}
		i := slices.Index(inst.Orphans, f.TaskID)
		if i < 0 {
			return nil
		}
		inst.Orphans = slices.Delete(slices.Clone(inst.Orphans), i, i+1)
		if err := tx.UpdateInstance(&inst); err != nil {
			return err
		}
		wakes := []store.Key{{Kind: store.KindInstance, ID: inst.ID}}
		held, err := tx.AttachmentsOf(inst.ID)
		if err != nil {
			return err
		}
		for _, a := range held {
			wakes = append(wakes, store.Key{Kind: store.KindVolume, ID: a.VolumeID})
		}
		if len(inst.Orphans) == 0 {
			jobs, err := tx.JobsOnInstance(inst.ID)
			if err != nil {
				return err
			}
			for _, j := range jobs {
				wakes = append(wakes, store.Key{Kind: store.KindJob, ID: j.ID})
			}
		}
		return tx.Wake(e.now(), wakes...)
	})
}

// uninstalled stores that nothing of ours is on the host, or why it may be.
func (e *Engine) uninstalled(ctx context.Context, f Effect, failure error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // the server stops; the next one does it again
	}
	return e.write(ctx, "store uninstallation", func(tx *store.Tx) error {
		inst, err := tx.Instance(f.InstanceID)
		if err != nil || inst.Uninstalled {
			return err
		}
		inst.Uninstalled = true
		if failure != nil {
			text := fmt.Sprintf("dstack could not be removed from the host: %v", failure)
			if inst.ReasonMessage != nil {
				text = *inst.ReasonMessage + ". " + text
			}
			inst.ReasonMessage = &text
		}
		if err := tx.UpdateInstance(&inst); err != nil {
			return err
		}
		return tx.Wake(e.now(), f.Key)
	})
}
