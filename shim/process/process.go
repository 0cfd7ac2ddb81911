// Package process runs tasks as plain processes of a host without a Docker
// Engine: each in a session and a folder of its own, with an environment that
// holds nothing of the shim's, as a user of its own where the shim is root,
// and in a control group where the host allows it. It is no isolation.
package process

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
	"dstack/shim/gpu"
	"dstack/shim/wipe"
	"dstack/shim/workload"
)

// Names in a task's private folder.
const (
	pidFile  = "pid"
	errFile  = "launch.err"
	saidFile = "agent.out"
)

// firstOwner and owners are the range of user ids for tasks: one that no
// distribution, container engine or directory service hands out.
const (
	firstOwner = 1_900_000_000
	owners     = 100_000_000
)

// Config is what a runtime needs to know.
type Config struct {
	// Home is the shim's home.
	Home string
	// Base is where tasks have their folders when they run as users of their
	// own, who cannot reach into the shim's home.
	Base string
	// Agent and Shim are the paths of the agent's and the shim's binary.
	Agent, Shim string
	// PassEnv are NAME=value pairs for every task.
	PassEnv []string
	// Root says that tasks get users of their own.
	Root bool
	Log  zerolog.Logger
}

// Runtime is safe for concurrent use.
type Runtime struct {
	cfg    Config
	groups groups
}

// New makes a runtime.
func New(cfg Config) *Runtime {
	return &Runtime{cfg: cfg, groups: findGroups("/sys/fs/cgroup")}
}

// Kind says which runtime this is.
func (r *Runtime) Kind() hostapi.Runtime { return hostapi.Process }

// Engine says that there is no engine that could be missing.
func (r *Runtime) Engine() workload.Engine { return workload.Engine{Root: r.cfg.Home} }

// Run does nothing until ctx ends.
func (r *Runtime) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Pull has nothing to do.
func (r *Runtime) Pull(context.Context, hostapi.TaskSpec, func(hostapi.PullProgress)) (workload.Image, error) {
	return workload.Image{}, nil
}

// Prune has nothing to do.
func (r *Runtime) Prune(context.Context, func() (size, free int64), time.Time) error { return nil }

func failed(format string, args ...any) error {
	return &workload.StartError{Reason: "executor_error", Message: fmt.Sprintf(format, args...)}
}

// ownerOf is the user id of a task.
func ownerOf(id string) int {
	sum := sha256.Sum256([]byte(id))
	return firstOwner + int(binary.BigEndian.Uint32(sum[:])%owners)
}

// taskDir is the folder that holds all of a task's own files.
func (r *Runtime) taskDir(t workload.Task) string {
	if r.cfg.Root {
		return filepath.Join(r.cfg.Base, "tasks", t.ID)
	}
	return t.PrivateDir
}

// Prepare makes the task's folders and adapts the job to a host that is not
// its own. It may be called again.
func (r *Runtime) Prepare(_ context.Context, t workload.Task) (workload.Task, error) {
	if len(t.Spec.Mounts) > 0 {
		return t, failed("Mounts need containers: this host runs plain processes")
	}
	dir := r.taskDir(t)
	work := filepath.Join(dir, "work")
	t.RunDir = filepath.Join(dir, "run")
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return t, failed("The folder of the task could not be made: %v", err)
	}
	if r.cfg.Root {
		t.Owner = ownerOf(t.ID)
	}
	for _, d := range []string{dir, t.RunDir, work} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return t, failed("The folder of the task could not be made: %v", err)
		}
		if t.Owner != 0 {
			if err := os.Lchown(d, t.Owner, t.Owner); err != nil {
				return t, failed("The folder of the task could not be handed over: %v", err)
			}
		}
	}
	adapt(&t, work)
	return t, nil
}

// adapt changes what a job expects of a container to what a process has.
func adapt(t *workload.Task, work string) {
	job := &t.Spec.Job
	job.Isolated = false
	job.ImageUser = ""
	if t.Owner != 0 {
		// The agent runs as that user already and can become no other.
		job.User = fmt.Sprintf("%d:%d", t.Owner, t.Owner)
	} else {
		job.User = ""
	}
	if job.WorkingDir == "" {
		job.WorkingDir = work
	}
	if job.RepoDir == "" {
		job.RepoDir = work
	}
	if strings.HasPrefix(job.SSHListen, ":") {
		job.SSHListen = "127.0.0.1:0" // the host's interfaces are not the job's
	}
	env := map[string]string{"HOME": work}
	switch t.GPUVendor {
	case gpu.NVIDIA:
		env["CUDA_VISIBLE_DEVICES"] = strings.Join(t.GPUs, ",")
	case gpu.Intel:
		env["HABANA_VISIBLE_DEVICES"] = strings.Join(t.GPUs, ",")
	}
	for name, value := range job.Env {
		env[name] = value
	}
	job.Env = env
}

// Launch starts the task's agent. There is never a second one for a task: the
// launcher (see [Exec]) makes the file with its process id before it becomes
// the agent, and only one can make it. fresh says that the agent has read
// nothing yet; otherwise nothing is started.
func (r *Runtime) Launch(ctx context.Context, t workload.Task, fresh func() bool) (map[int]int, error) {
	if _, err := os.Stat(filepath.Join(t.PrivateDir, pidFile)); err == nil {
		return nil, nil
	}
	if !fresh() {
		return nil, failed("The process was started but its id was lost")
	}
	agent, err := r.agentFor(t)
	if err != nil {
		return nil, failed("The agent could not be put in place: %v", err)
	}
	group := r.groups.create(t.ID, t.Spec.CPUs, t.Spec.MemoryBytes)
	if err := r.start(t, agent, group); err != nil {
		return nil, failed("The agent could not be started: %v", err)
	}
	return nil, r.awaitLauncher(ctx, t)
}

func (r *Runtime) start(t workload.Task, agent string, group []string) (err error) {
	said, err := os.OpenFile(filepath.Join(t.PrivateDir, saidFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open file for what the agent says: %w", err)
	}
	defer func() { err = errors.Join(err, said.Close()) }()
	args := []string{"exec", t.PrivateDir, t.RunDir, fmt.Sprint(t.Owner), agent}
	cmd := exec.Command(r.cfg.Shim, append(args, group...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.RunDir, said, said
	cmd.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
		"HOME=" + filepath.Join(filepath.Dir(t.RunDir), "work"),
	}, r.cfg.PassEnv...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start launcher: %w", err)
	}
	// It outlives this shim; whoever waits for the task reaps it.
	if err := cmd.Process.Release(); err != nil {
		return fmt.Errorf("release launcher: %w", err)
	}
	return nil
}

// launchLimit is how long the launcher may take to become the agent.
const launchLimit = 10 * time.Second

// awaitLauncher waits until the launcher made the file with its id, or said
// why it could not.
func (r *Runtime) awaitLauncher(ctx context.Context, t workload.Task) error {
	ctx, cancel := context.WithTimeout(ctx, launchLimit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := readIdentity(t.PrivateDir); err == nil {
			return nil
		}
		if b, err := os.ReadFile(filepath.Join(t.PrivateDir, errFile)); err == nil && len(b) > 0 {
			return failed("The agent could not be started: %s", b)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return failed("The agent could not be started: the launcher did not answer")
		}
	}
}

// agentFor is the path of an agent that the task's user can execute: a copy
// beside the tasks' folders, since the shim's own may lie in a closed folder.
func (r *Runtime) agentFor(t workload.Task) (string, error) {
	if t.Owner == 0 {
		return r.cfg.Agent, nil
	}
	info, err := os.Stat(r.cfg.Agent)
	if err != nil {
		return "", fmt.Errorf("find agent: %w", err)
	}
	path := filepath.Join(r.cfg.Base, fmt.Sprintf("%s-%d-%d", hostapi.AgentName, info.Size(), info.ModTime().UnixNano()))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := copyFile(path+"."+t.ID, r.cfg.Agent); err != nil {
		return "", err
	}
	if err := os.Rename(path+"."+t.ID, path); err != nil {
		return "", fmt.Errorf("put agent in place: %w", err)
	}
	return path, nil
}

func copyFile(to, from string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("open agent: %w", err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("create copy of agent: %w", err)
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if _, err := io.Copy(dst, src); err != nil {
		return fmt.Errorf("copy agent: %w", err)
	}
	return nil
}

// Wait returns when the task's agent has ended, and sees to it that nothing
// of the task is left running.
func (r *Runtime) Wait(ctx context.Context, t workload.Task) (workload.Exit, error) {
	id, err := readIdentity(t.PrivateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return workload.Exit{Missing: true, Code: -1}, nil
	}
	if err != nil {
		return workload.Exit{}, err
	}
	code, err := id.wait(ctx)
	if err != nil {
		return workload.Exit{}, err
	}
	exit := workload.Exit{Code: code, OOM: r.groups.oomKilled(t.ID), At: time.Now()}
	return exit, r.Kill(ctx, t)
}

// Kill ends all processes of a task at once.
func (r *Runtime) Kill(ctx context.Context, t workload.Task) error {
	id, err := readIdentity(t.PrivateDir)
	if err != nil {
		id = identity{}
	}
	for round := time.Millisecond; ; round = min(2*round, 100*time.Millisecond) {
		r.groups.kill(t.ID)
		left := killAll(os.DirFS("/"), target{agent: id, owner: t.Owner, jobID: t.ID})
		if left == 0 {
			return nil
		}
		select {
		case <-time.After(round):
		case <-ctx.Done():
			return fmt.Errorf("kill processes of task, %d left: %w", left, context.Cause(ctx))
		}
	}
}

// Tail is what the launcher or the agent said last.
func (r *Runtime) Tail(_ context.Context, t workload.Task) string {
	var out strings.Builder
	for _, name := range []string{errFile, saidFile} {
		f, err := os.Open(filepath.Join(t.PrivateDir, name))
		if err != nil {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(f, 2048))
		if errors.Join(err, f.Close()) == nil {
			out.Write(b)
		}
	}
	return strings.TrimSpace(out.String())
}

// Remove ends what is left of a task and removes its files; repeatable.
func (r *Runtime) Remove(ctx context.Context, t workload.Task) error {
	if err := r.Kill(ctx, t); err != nil {
		return err
	}
	r.groups.remove(t.ID)
	if r.cfg.Root {
		if err := wipe.All(r.taskDir(t)); err != nil {
			return fmt.Errorf("remove folder of task: %w", err)
		}
	}
	return nil
}

// Sweep removes the folders of tasks that are not to be kept.
func (r *Runtime) Sweep(ctx context.Context, keep func(id string) bool) error {
	entries, err := os.ReadDir(filepath.Join(r.cfg.Base, "tasks"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list folders of tasks: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !keep(e.Name()) {
			t := workload.Task{ID: e.Name(), Owner: ownerOf(e.Name())}
			errs = append(errs, r.Remove(ctx, t))
		}
	}
	return errors.Join(errs...)
}
