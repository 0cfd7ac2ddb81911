package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"

	"dstack/shim/agentlink"
	"dstack/shim/workload"
)

// Prepare makes what a task needs of the host besides its image, and says
// where its shared folder is. It may be called again.
func (r *Runtime) Prepare(_ context.Context, t workload.Task) (workload.Task, error) {
	t.RunDir = filepath.Join(t.PrivateDir, "run")
	if err := os.MkdirAll(t.RunDir, 0o755); err != nil {
		return t, failed("executor_error", "The folder of the task could not be made: %v", err)
	}
	t.Spec.Job.DeviceGroups = deviceGroups(t, thisHost())
	if err := makeMounts(t.Spec.Mounts); err != nil {
		return t, failed("executor_error", "prepareInstanceMountPoints error: %v", err)
	}
	return t, nil
}

// Wait returns when the task's container has ended. It outlasts restarts of
// the engine.
func (r *Runtime) Wait(ctx context.Context, t workload.Task) (workload.Exit, error) {
	name := containerName(t)
	lost, wasRestoring := r.losses(), r.Engine().LiveRestore
	var exit workload.Exit
	err := r.retry(ctx, func() error {
		info, err := r.cli.ContainerInspect(ctx, name)
		if err != nil {
			return err
		}
		if info.State.Status == container.StateCreated && !everStarted(info.State) {
			exit = workload.Exit{NeverStarted: true, Code: -1}
			return waitForAgent(ctx, t)
		}
		if info.State.Running {
			if err := r.waitStopped(ctx, name); err != nil {
				return err
			}
			if info, err = r.cli.ContainerInspect(ctx, name); err != nil {
				return err
			}
			if info.State.Running { // the engine answered before it knew
				return fmt.Errorf("container still runs: %w", errdefs.ErrUnavailable)
			}
		}
		exit = workload.Exit{Code: info.State.ExitCode, OOM: info.State.OOMKilled, At: parseTime(info.State.FinishedAt)}
		if !wasRestoring && !r.Engine().LiveRestore {
			exit.EngineRestarted = r.losses() != lost || engineStart().After(parseTime(info.State.StartedAt))
		}
		return nil
	})
	if errdefs.IsNotFound(err) {
		return workload.Exit{Missing: true, Code: -1}, nil
	}
	if err != nil {
		return exit, fmt.Errorf("wait for container: %w", err)
	}
	return exit, nil
}

// Limits of how long an agent that the engine does not know is awaited.
const (
	agentEvery  = 200 * time.Millisecond
	agentMisses = 10
)

// waitForAgent returns when the task's agent does not answer any more. It is
// for a container that the engine started but forgot, because it was killed
// before it wrote that down: it runs, and cannot be waited for.
func waitForAgent(ctx context.Context, t workload.Task) error {
	for misses := 0; misses < agentMisses; {
		misses++
		if agentlink.Answers(ctx, t.RunDir) {
			misses = 0
		}
		if !sleep(ctx, agentEvery) {
			return context.Cause(ctx)
		}
	}
	return nil
}

func (r *Runtime) waitStopped(ctx context.Context, name string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended, errs := r.cli.ContainerWait(ctx, name, container.WaitConditionNotRunning)
	select {
	case <-ended:
		return nil
	case err := <-errs:
		return err
	}
}

// Kill ends a container at once; one that does not run is no error.
func (r *Runtime) Kill(ctx context.Context, t workload.Task) error {
	err := r.retry(ctx, func() error { return r.cli.ContainerKill(ctx, containerName(t), "KILL") })
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		return fmt.Errorf("kill container: %w", err)
	}
	return nil
}

// Tail is the last words of a container whose agent could not speak.
func (r *Runtime) Tail(ctx context.Context, t workload.Task) string {
	body, err := r.cli.ContainerLogs(ctx, containerName(t), container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: "5"})
	if err != nil {
		return ""
	}
	var out strings.Builder
	limited := &cut{left: 2048, to: &out}
	if _, err := stdcopy.StdCopy(limited, limited, body); errors.Join(err, body.Close()) != nil {
		return strings.TrimSpace(out.String())
	}
	return strings.TrimSpace(out.String())
}

// cut passes on the first bytes and swallows the rest.
type cut struct {
	left int
	to   *strings.Builder
}

func (c *cut) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.to.Write(p[:n])
	c.left -= n
	return len(p), nil
}

// Remove removes a task's container with its anonymous volumes; repeatable.
func (r *Runtime) Remove(ctx context.Context, t workload.Task) error {
	if r.losses() > 0 { // what an engine left in the middle of a start would stay
		if err := r.killLeft(ctx, t); err != nil {
			return err
		}
	}
	return r.remove(ctx, containerName(t))
}

func (r *Runtime) remove(ctx context.Context, name string) error {
	for {
		err := r.retry(ctx, func() error {
			return r.cli.ContainerRemove(ctx, name, container.RemoveOptions{Force: true, RemoveVolumes: true})
		})
		switch {
		case err == nil || errdefs.IsNotFound(err):
			return nil
		case errdefs.IsConflict(err): // "removal is already in progress"
			if !sleep(ctx, firstTry) {
				return fmt.Errorf("remove container: %w", err)
			}
		default:
			return fmt.Errorf("remove container: %w", err)
		}
	}
}

// Sweep removes the containers of this shim whose task is not one of keep.
func (r *Runtime) Sweep(ctx context.Context, keep func(id string) bool) error {
	var found []container.Summary
	err := r.retry(ctx, func() (err error) {
		found, err = r.cli.ContainerList(ctx, container.ListOptions{
			All: true, Filters: filters.NewArgs(filters.Arg("label", labelHost+"="+r.cfg.HostID)),
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var errs []error
	for _, c := range found {
		if !keep(c.Labels[labelID]) {
			r.cfg.Log.Info().Str("task", c.Labels[labelID]).Str("container", c.ID).Msg("left-over container removed")
			errs = append(errs, r.remove(ctx, c.ID))
		}
	}
	return errors.Join(errs...)
}
