package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"dstack/shim/workload"
)

// Launch starts a task's container, making it first, and says which ports of
// the host lead to it. There is never a second container for a task: one that
// was made before is found by its name, and one that was ever started is left
// as it is. fresh says that nothing of the job can have run yet; otherwise
// nothing is made or started. Only a fresh one that failed to start is ever
// started again or made once more.
func (r *Runtime) Launch(ctx context.Context, t workload.Task, fresh func() bool) (map[int]int, error) {
	s := start{task: t, display: true, losses: r.losses()}
	for {
		var ports map[int]int
		begun := false
		err := r.retry(ctx, func() (err error) {
			begun = !fresh()
			ports, err = r.launch(ctx, t, !begun, s.display)
			return err
		})
		if err == nil || ctx.Err() != nil || begun {
			return ports, err
		}
		if !fresh() {
			continue // it has begun, though the engine said that it failed to start
		}
		if again, clearErr := r.clearWay(ctx, &s, err); clearErr != nil {
			return nil, clearErr
		} else if !again {
			return nil, err
		}
	}
}

// start is what was tried to start a task.
type start struct {
	task workload.Task
	// display says that NVIDIA's display part is given to the container.
	display bool
	// losses is how often the engine had been lost when the start began.
	losses int
	// remade says that the container was made once more, freed how often what
	// an engine left was killed.
	remade bool
	freed  int
}

// clearWay removes what kept a container from starting, as far as that is
// known, and says whether to try again.
func (r *Runtime) clearWay(ctx context.Context, s *start, failure error) (again bool, err error) {
	switch text := failure.Error(); {
	case s.display && len(s.task.GPUs) > 0 && strings.Contains(text, "/dev/nvidia-modeset"):
		s.display = false // some drivers come without the display part
	case strings.Contains(text, "id already in use") && s.freed < maxFreed:
		// The engine died after it had told containerd to start the container,
		// and before it wrote that down. Engines before 24 cannot end that.
		s.freed++
		err := r.killLeft(ctx, s.task)
		return err == nil && sleep(ctx, firstTry), err // containerd has to notice
	case !s.remade && (r.losses() != s.losses || strings.Contains(text, "file exists")):
		// The engine died in the middle of a start and cannot start that
		// container again: what it left is in the way.
		s.remade = true
	default:
		return false, nil
	}
	return true, r.Remove(ctx, s.task)
}

// maxFreed bounds how often the start of one container is tried in the place
// of one that an engine left.
const maxFreed = 50

// killLeft kills the processes of a task's container, those too that an engine
// that was killed had started and does not know.
func (r *Runtime) killLeft(ctx context.Context, t workload.Task) error {
	var id string
	err := r.retry(ctx, func() error {
		found, err := r.cli.ContainerInspect(ctx, containerName(t))
		id = found.ID
		return err
	})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("find container that was left: %w", err)
	}
	for _, pid := range processesOf(os.DirFS("/proc"), id) {
		r.cfg.Log.Info().Str("task", t.ID).Str("container", id).Int("pid", pid).Msg("process of container is killed")
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	return nil
}

func (r *Runtime) launch(ctx context.Context, t workload.Task, fresh, display bool) (map[int]int, error) {
	name := containerName(t)
	started := false
	create := func() error {
		q := newRequest(t, r.cfg, thisHost(), display)
		if err := r.keepAway(ctx, t, &q); err != nil {
			return err
		}
		_, err := r.cli.ContainerCreate(ctx, &q.config, &q.hostCfg, noNetworks, nil, name)
		return err
	}
	var err error = errdefs.ErrConflict
	if fresh {
		err = create()
	}
	if errdefs.IsConflict(err) {
		found, inspectErr := r.cli.ContainerInspect(ctx, name)
		switch {
		case errdefs.IsNotFound(inspectErr):
			return nil, failed("executor_error", "The container was removed by somebody else")
		case inspectErr != nil:
			return nil, inspectErr
		case found.Config == nil || found.Config.Labels[labelID] != t.ID:
			return nil, failed("creating_container_error", "createContainer error: the name %s is taken by a container of somebody else", name)
		}
		started, err = found.State.Status != container.StateCreated || everStarted(found.State), nil
	}
	if err != nil {
		return nil, r.createFailure(t, "createContainer", err)
	}
	// One that is not fresh has begun, though the engine, killed at that
	// moment, may not know it: Wait looks after it.
	if !started && fresh {
		if err := r.cli.ContainerStart(ctx, name, container.StartOptions{}); err != nil {
			return nil, r.createFailure(t, "startContainer", err)
		}
	}
	if t.Spec.NetworkMode == "host" || t.Spec.Job.SSHListen == "" {
		return nil, nil
	}
	now, err := r.cli.ContainerInspect(ctx, name)
	if err != nil {
		return nil, err
	}
	return hostPorts(now.NetworkSettings), nil
}

func (r *Runtime) createFailure(t workload.Task, step string, err error) error {
	if _, known := errors.AsType[*workload.StartError](err); known || gone(err) {
		return err
	}
	text := err.Error()
	switch {
	case len(t.GPUs) > 0 && strings.Contains(text, "could not select device driver"):
		text = "the host lacks the nvidia-container-toolkit: install it and restart Docker (" + text + ")"
	case len(t.GPUs) > 0 && strings.Contains(text, "runtime name: habana"):
		text = "the host lacks the habana-container-runtime: install it, add it to Docker's daemon.json and restart Docker (" + text + ")"
	case strings.Contains(text, "exec format error"):
		text = "the agent or the image is for another architecture than this host (" + text + ")"
	}
	return failed("creating_container_error", "%s error: %s", step, text)
}

func everStarted(s *container.State) bool {
	return s.Running || !parseTime(s.StartedAt).IsZero()
}

func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 {
		return time.Time{}
	}
	return t
}
