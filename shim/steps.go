package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"dstack/protocol/hostapi"
	"dstack/shim/agentlink"
	"dstack/shim/workload"
)

// errStopped is why a step before the launch was given up.
var errStopped = errors.New("the task is to be stopped")

// untilStop is a context that ends also when a stop is asked for.
func (t *task) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	exited := make(chan struct{})
	go func() { // ends with the returned function
		defer close(exited)
		select {
		case <-t.stopping:
			cancel(errStopped)
		case <-done:
		}
	}()
	return ctx, func() {
		close(done)
		<-exited
		cancel(nil)
	}
}

// prepare takes GPUs, mounts volumes, and makes folders.
func (t *task) prepare(ctx context.Context) error {
	ctx, cancel := t.untilStop(ctx)
	defer cancel()
	if err := t.m.refuse(); err != nil {
		return err
	}
	rec := t.record()
	w := rec.workload(t.dir)
	gpus, err := t.m.gpus.Take(t.id, rec.Spec.GPUs)
	if err != nil {
		return &workload.StartError{Reason: reasonExecutor, Message: err.Error()}
	}
	w.GPUs, w.GPUVendor = gpus, t.m.gpuVendor()
	mounts, err := t.mount(ctx)
	if err != nil {
		return err
	}
	w.Spec.Mounts = slices.Concat(w.Spec.Mounts, mounts)
	if w, err = t.m.runtime.Prepare(ctx, w); err != nil {
		return fmt.Errorf("prepare task: %w", err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("prepare task: %w", context.Cause(ctx))
	}
	return t.update(func(r *record) {
		r.Spec, r.RunDir, r.Owner, r.GPUs, r.GPUVendor = w.Spec, w.RunDir, w.Owner, w.GPUs, w.GPUVendor
		r.Task.State = hostapi.TaskPulling
	})
}

// pullImage gets the image and completes the job by what the image says, up
// to the file that the agent reads.
func (t *task) pullImage(ctx context.Context) error {
	ctx, cancel := t.untilStop(ctx)
	defer cancel()
	rec := t.record()
	if err := t.m.reconcileKeys(rec.Spec.HostUser); err != nil {
		return &workload.StartError{Reason: reasonExecutor, Message: fmt.Sprintf("The SSH keys could not be installed on the host: %v", err)}
	}
	img, err := t.m.runtime.Pull(ctx, rec.Spec, t.setPull)
	if err != nil {
		return fmt.Errorf("pull image: %w", err)
	}
	job := rec.Spec.Job
	if len(job.Commands) == 0 {
		job.Commands = append(append([]string(nil), img.Entrypoint...), img.Cmd...)
	}
	if len(job.Commands) == 0 {
		return &workload.StartError{Reason: reasonContainer, Message: "Could not determine what command to run. " +
			"Please specify either `commands` or `entrypoint` in your run configuration"}
	}
	if job.ImageUser == "" {
		job.ImageUser = img.User
	}
	if ctx.Err() != nil {
		return fmt.Errorf("pull image: %w", context.Cause(ctx))
	}
	folder, err := agentlink.OpenFolder(rec.RunDir)
	if err != nil {
		return fmt.Errorf("hand over job: %w", err)
	}
	if err = t.handOver(folder, rec); err == nil {
		err = folder.WriteSpec(job, rec.Owner)
	}
	if err := errors.Join(err, folder.Close()); err != nil {
		return fmt.Errorf("hand over job: %w", err)
	}
	boot, now := t.m.cfg.BootID, time.Now()
	return t.update(func(r *record) {
		if r.Stop != nil {
			return
		}
		r.Task.State, r.Boot, r.Launched, r.Task.Message = hostapi.TaskCreating, boot, now, img.Note
		// The agent has them, and they hold credentials.
		r.Spec.Job.Repo, r.Spec.Job.Files, r.Spec.Job.ClusterKey = nil, nil, ""
	})
}

// pullEvery is how often the progress of a pull is told.
const pullEvery = 250 * time.Millisecond

// setPull takes the progress of a pull; the stream fetches it.
func (t *task) setPull(p hostapi.PullProgress) {
	t.mu.Lock()
	t.pull, t.dirty = &p, true
	t.mu.Unlock()
	t.m.wakeSoon()
}

// takePull returns progress that was not told yet.
func (t *task) takePull() *hostapi.PullProgress {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.dirty || t.rec.Task.State != hostapi.TaskPulling {
		return nil
	}
	t.dirty = false
	return t.pull
}

// launch starts the workload, or finds it started, and sees it through.
func (t *task) launch(ctx context.Context) error {
	rec := t.record()
	if _, err := os.Stat(rec.RunDir); err != nil {
		return &workload.StartError{Reason: reasonExecutor, Message: fmt.Sprintf("The folder of the task is gone: %v", err)}
	}
	if boot := t.m.cfg.BootID; rec.Boot != boot && t.fresh() {
		// The host went down before anything ran: this boot is the one that counts.
		if err := t.update(func(r *record) { r.Boot = boot }); err != nil {
			return err
		}
	}
	if t.fresh() { // a reboot in between took the mounts
		if _, err := t.mount(ctx); err != nil {
			return err
		}
	}
	ports, err := t.m.runtime.Launch(ctx, rec.workload(t.dir), t.fresh)
	if err != nil {
		return fmt.Errorf("launch task: %w", err)
	}
	t.mu.Lock()
	// It is on the disk with the next change, and found again without.
	t.rec.Task.Ports = ports
	t.mu.Unlock()
	t.m.reconcileKeysLogged(rec.Spec.HostUser)
	return t.watch(ctx)
}

// fresh says that no agent has read the job yet.
func (t *task) fresh() bool {
	folder, err := agentlink.OpenFolder(t.record().RunDir)
	if err != nil {
		return false
	}
	fresh := folder.HasSpec()
	return folder.Close() == nil && fresh
}
