// Package docker runs tasks as containers of the host's Docker Engine.
package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
	"dstack/shim/metadata"
	"dstack/shim/workload"
)

// Labels of our containers.
const (
	labelTask = "ai.dstack.shim.is-task"
	labelID   = "ai.dstack.shim.task-id"
	// labelHost tells apart several shims that use one engine.
	labelHost = "ai.dstack.shim.host-id"
)

// Config is what a runtime needs to know.
type Config struct {
	// HostID names the shim's installation; its containers carry it.
	HostID string
	// Agent is the path of the agent's binary on the host.
	Agent string
	// PassEnv are NAME=value pairs for every container.
	PassEnv []string
	// ImagesFile is where the last use of each image is kept.
	ImagesFile string
	Log        zerolog.Logger
	// Changed is called when the engine's state changed; it does not block.
	Changed func()
	// Preparing says that the host is still being set up: an engine that is
	// missing may come. Nil is never.
	Preparing func() bool
	// Hold says that the engine is not to be used meanwhile: who sets the host
	// up starts it again, and containers would die with it.
	Hold bool
	// Guard keeps tasks away from the cloud's metadata service; nil where there
	// is none to keep them from.
	Guard Guard
}

// Guard keeps containers away from the cloud's metadata service.
type Guard interface {
	// Keep returns the parent of the control groups that are kept away.
	Keep(ctx context.Context, e metadata.Engine) (parent string, err error)
}

func (c Config) preparing() bool { return c.Preparing != nil && c.Preparing() }

// Runtime is safe for concurrent use.
type Runtime struct {
	cfg    Config
	cli    *client.Client
	images *images

	mu     sync.Mutex
	engine workload.Engine
	groups metadata.Engine
	up     chan struct{} // closed while the engine is reachable
	lost   int           // how often the engine was lost
}

// New makes a runtime for the engine that DOCKER_HOST names, by default the
// host's own. It does not connect: see [Runtime.Connect].
func New(cfg Config) (*Runtime, error) {
	cli, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("make client of the Docker Engine: %w", err)
	}
	im, err := loadImages(cfg.ImagesFile)
	if err != nil {
		return nil, err
	}
	r := &Runtime{cfg: cfg, cli: cli, images: im, up: make(chan struct{})}
	r.engine.Problem = r.noDocker(workload.ErrEngineDown)
	return r, nil
}

// Kind says which runtime this is.
func (r *Runtime) Kind() hostapi.Runtime { return hostapi.Docker }

// reachable says whether an engine answers now.
func (r *Runtime) reachable(ctx context.Context) bool {
	_, err := r.cli.Ping(ctx)
	return err == nil
}

// Engine is the state of the engine as seen last.
func (r *Runtime) Engine() workload.Engine {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.engine
}

// noDocker says that no engine answers. One that is not even installed does
// not come back by itself.
func (r *Runtime) noDocker(err error) *hostapi.Problem {
	where := r.cli.DaemonHost()
	if r.cfg.preparing() {
		return &hostapi.Problem{
			Code:    "no_docker",
			Message: "The host is still being set up by cloud-init, and its Docker Engine is not ready",
			Remedy:  "Wait; /var/log/cloud-init-output.log on the host says what it does",
		}
	}
	if _, missing := exec.LookPath("dockerd"); missing != nil && strings.HasPrefix(where, "unix://") {
		return &hostapi.Problem{
			Code:    "no_docker",
			Message: fmt.Sprintf("The host has no Docker Engine: no dockerd, and nothing answers at %s", where),
			Remedy: "Install it (https://docs.docker.com/engine/install) and apply the fleet again, " +
				"or set DSTACK_SHIM_RUNTIME=process in the fleet's env to run jobs as plain processes, without isolation",
			Permanent: true,
		}
	}
	return &hostapi.Problem{
		Code:    "no_docker",
		Message: fmt.Sprintf("The Docker Engine cannot be reached at %s: %v", where, err),
		Remedy:  "Install it (https://docs.docker.com/engine/install) or start it with `systemctl start docker`; it is tried again all the time",
	}
}

// Limits of how often an engine that is away is tried.
const (
	firstTry = 100 * time.Millisecond
	lastTry  = 2 * time.Second
)

// Run watches whether the engine is there until ctx ends.
func (r *Runtime) Run(ctx context.Context) error {
	wait := firstTry
	for ctx.Err() == nil {
		if r.Engine().Problem == nil || r.Connect(ctx) {
			wait = firstTry
			r.setDown(r.follow(ctx))
			continue
		}
		if !sleep(ctx, wait) {
			break
		}
		if wait = min(2*wait, lastTry); r.cfg.Hold && r.cfg.preparing() {
			wait = firstTry // a look at a file, and a job waits
		}
	}
	return r.cli.Close()
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Connect tries to reach the engine once and says whether it is there. It is
// for the time before [Runtime.Run], which goes on from there.
func (r *Runtime) Connect(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if r.cfg.Hold && r.cfg.preparing() {
		r.setDown(workload.ErrEngineDown)
		return false
	}
	info, err := r.cli.Info(ctx)
	if err != nil {
		r.setDown(err)
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.engine = workload.Engine{Version: info.ServerVersion, LiveRestore: info.LiveRestoreEnabled, Root: info.DockerRootDir}
	r.groups = metadata.Engine{Driver: info.CgroupDriver, Version: info.CgroupVersion}
	close(r.up)
	r.cfg.Log.Info().Str("version", info.ServerVersion).Bool("live_restore", info.LiveRestoreEnabled).Msg("docker engine reached")
	r.cfg.Changed()
	return true
}

// follow returns when the engine goes away: its stream of events, asked for
// something that never happens, then ends.
func (r *Runtime) follow(ctx context.Context) error {
	never := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("label", labelHost+"=-"))
	messages, errs := r.cli.Events(ctx, events.ListOptions{Filters: never})
	for {
		select {
		case <-messages:
		case err := <-errs:
			return err
		}
	}
}

func (r *Runtime) setDown(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.engine.Problem == nil {
		r.lost++
		r.up = make(chan struct{})
		r.cfg.Log.Warn().Err(err).Msg("docker engine lost")
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("it went away")
	}
	problem := r.noDocker(err)
	changed := r.engine.Problem == nil || *r.engine.Problem != *problem
	r.engine.Problem = problem
	if changed {
		r.cfg.Changed()
	}
}

// awaitUp waits until the engine is reachable.
func (r *Runtime) awaitUp(ctx context.Context) error {
	r.mu.Lock()
	up := r.up
	r.mu.Unlock()
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the Docker Engine: %w", context.Cause(ctx))
	}
}

func (r *Runtime) losses() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// gone says whether a call failed because the engine is not there, so that
// it may be made again.
func gone(err error) bool {
	if err == nil {
		return false
	}
	if client.IsErrConnectionFailed(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	return errdefs.IsUnavailable(err) || isNetwork(err)
}

// retry makes a call again as long as the engine is away.
func (r *Runtime) retry(ctx context.Context, call func() error) error {
	for {
		lost := r.losses()
		err := call()
		if ctx.Err() != nil || !gone(err) {
			return err
		}
		r.cfg.Log.Debug().Err(err).Msg("docker call interrupted")
		// The watch may not have noticed yet that the engine is gone.
		for r.losses() == lost && r.Engine().Problem == nil {
			if !sleep(ctx, firstTry) {
				return err
			}
			if r.reachable(ctx) {
				break
			}
		}
		if err := r.awaitUp(ctx); err != nil {
			return fmt.Errorf("%w: %w", workload.ErrEngineDown, err)
		}
	}
}
