// Package agent runs one job inside its container, or as a plain process of
// a host, and tells its shim about it. See [jobapi].
package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"dstack/agent/control"
	"dstack/agent/devenv"
	"dstack/agent/exec"
	"dstack/agent/metrics"
	"dstack/agent/ptylog"
	"dstack/agent/reap"
	"dstack/agent/serversock"
	"dstack/agent/sshd"
	"dstack/agent/state"
	"dstack/protocol/jobapi"
)

// Config says how to run a job. Default fills in all but Dir.
type Config struct {
	// Dir is the task's folder, absolute.
	Dir string
	// Root is the file system that /etc and /dstack are of.
	Root string
	// Schedule is when the stages of a stop come.
	Schedule exec.Schedule
	// Drain is how long output is awaited from processes that the job's main
	// process left behind.
	Drain time.Duration
	// ServerLimit is how long a job that wants access to its server waits for it.
	ServerLimit time.Duration
	// Measure is how often is measured what the job uses.
	Measure time.Duration
	// Connected is told how many are logged in over SSH, when that changes.
	Connected func(n int) `json:"-"`
}

// measureEvery is how often 0.22.5's server asks for it.
const measureEvery = 10 * time.Second

// Default returns the configuration for the task's folder dir.
func Default(dir string) Config {
	return Config{Dir: dir, Root: "/", Schedule: exec.DefaultSchedule(), Drain: 250 * time.Millisecond, Measure: measureEvery, ServerLimit: serverLimit}
}

// Run runs the job that [jobapi.SpecFile] describes, to its end, and returns
// the exit code for this process: the job's own, or 1. How the job ended is
// in [jobapi.StateFile] by then. An error means that not even that worked.
// Nothing else in the process may wait for child processes.
func Run(ctx context.Context, c Config) (int, error) {
	diagnostics, err := os.OpenFile(filepath.Join(c.Dir, jobapi.DiagnosticsLog),
		os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 1, fmt.Errorf("open diagnostics log: %w", err)
	}
	logger := zerolog.New(diagnostics).With().Timestamp().Logger()
	status, err := run(ctx, c, logger)
	logger.Info().Err(err).Str("state", string(status.State)).Str("reason", status.Reason).Msg("agent ends")
	return exitCode(status), errors.Join(err, diagnostics.Close())
}

// exitCode is what the agent's own process ends with.
func exitCode(s jobapi.Status) int {
	switch {
	case s.State == jobapi.Done:
		return 0
	case s.ExitStatus != nil && *s.ExitStatus > 0:
		return *s.ExitStatus
	}
	return 1
}

func run(ctx context.Context, c Config, logger zerolog.Logger) (jobapi.Status, error) {
	keeper := state.New(c.Dir)
	spec, err := takeSpec(c.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return startedAgain(c.Dir, keeper)
	}
	if err != nil {
		s := failed(reasonExecutor, "Failed to read the job (%v)", err)
		s.At = time.Now().UTC()
		return s, keeper.Set(s)
	}
	if d := spec.DevEnvironment; d != nil {
		if spec.Commands, err = devEnvironment(*d, spec.Commands); err != nil {
			s := failed(reasonExecutor, "Failed to prepare the development environment (%v)", err)
			s.At = time.Now().UTC()
			return s, keeper.Set(s)
		}
	}
	log, err := ptylog.Create(c.Dir, spec.LogQuotaHour, time.Now)
	if err == nil {
		err = keeper.Reserve()
	}
	if err != nil {
		s := failed(reasonExecutor, "Failed to create the job's log (%v)", err)
		s.At = time.Now().UTC()
		return s, keeper.Set(s)
	}
	if spec.Isolated {
		// The job's user has no business in here.
		if err := os.Chmod(c.Dir, 0o700); err != nil {
			logger.Warn().Err(err).Msg("task folder not protected")
		}
	}
	j := &job{config: c, spec: &spec, logger: logger, keeper: keeper, log: log, reaper: reap.New(), orders: newMailbox(), warned: make(chan struct{}, 1)}
	j.meter = metrics.New(j.measured())
	status, err := j.serve(ctx)
	return status, errors.Join(err, log.Close())
}

// devEnvironment is the command of a development environment: this program.
func devEnvironment(d jobapi.DevEnvironment, commands []string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return devenv.Wrap(self, d, commands)
}

// startedAgain is for an agent whose folder was used before: a job never
// runs a second time.
func startedAgain(dir string, keeper *state.Keeper) (jobapi.Status, error) {
	s, err := state.Load(dir)
	if err == nil && s.State.Ended() {
		return s, nil
	}
	s = failed(reasonExecutor, "The agent was started again after it had been killed, or without a job")
	s.At = time.Now().UTC()
	return s, keeper.Set(s)
}

// job is a job with everything that belongs to it.
type job struct {
	config Config
	spec   *jobapi.Spec
	logger zerolog.Logger
	keeper *state.Keeper
	log    *ptylog.Log
	reaper *reap.Reaper
	meter  *metrics.Meter
	orders *mailbox
	// warned holds a token while the job is to be told that its host goes.
	warned chan struct{}
	// control serves the shim, and the log to users.
	control *control.Server
	// ssh is nil until users can log in, at sshPort.
	ssh     atomic.Pointer[sshd.Server]
	sshPort int
	// background starts what goes on until the agent ends.
	background func(func(context.Context) error)
	// creds is the file in which the job finds what opens its repo, if any.
	creds string
	// server is the socket at which the job reaches its server; nil without,
	// or if that failed with serverErr.
	server    *serversock.Socket
	serverErr error
}

// serve runs the job and, around it, the control socket, signals and the reaper.
func (j *job) serve(ctx context.Context) (jobapi.Status, error) {
	var last jobapi.Status
	listener, err := control.Listen(j.config.Dir)
	if err != nil {
		last = failed(reasonExecutor, "Failed to listen for the shim (%v)", err)
		return last, j.end(&last)
	}
	j.control = control.New(j.keeper, j.log, j.meter, func(r jobapi.StopRequest) {
		j.orders.update(func(o *order) *order { return o.merge(r, j.config.Schedule) })
	}, j.logger)

	j.control.Handle("POST /v1/warn", http.HandlerFunc(j.warn))
	if j.spec.ServerAccess {
		if j.serverErr = j.openServer(); j.serverErr == nil {
			j.control.Handle("POST /v1/server", j.server)
		}
	}

	// Before the job starts: a signal that this process was started with as
	// ignored would be ignored by the job, too, and HUP is how a stop goes on.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT,
		syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	g, ctx := errgroup.WithContext(ctx)
	linger, release := context.WithCancel(ctx)
	defer release()
	running, ended := context.WithCancel(linger)
	j.background = func(run func(context.Context) error) { g.Go(func() error { return run(linger) }) }
	g.Go(func() error {
		defer release()
		return j.control.Run(running, linger, listener, j.expected)
	})
	if j.server != nil {
		g.Go(func() error { return j.server.Run(running) })
	}
	g.Go(func() error { return j.reaper.Run(linger) })
	g.Go(func() error { return j.obeySignals(running, linger, signals, release) })
	var endErr error // does not cut the others short: they tell the shim how it ended
	g.Go(func() error {
		defer ended()
		last = j.run(ctx)
		endErr = j.end(&last)
		return nil
	})
	err = g.Wait()
	return last, errors.Join(err, endErr)
}

// obeySignals turns signals into orders while the job runs; later they cut
// short the wait for readers of the log. The rest ends nothing.
func (j *job) obeySignals(running, linger context.Context, signals <-chan os.Signal, release func()) error {
	for {
		select {
		case <-linger.Done():
			return nil
		case s := <-signals:
			stop := s == syscall.SIGTERM || s == syscall.SIGINT || s == syscall.SIGQUIT
			j.logger.Info().Stringer("signal", s).Bool("stop", stop).Msg("signal received")
			switch {
			case stop && running.Err() != nil:
				release()
			case stop:
				j.orders.update(func(o *order) *order {
					if o != nil {
						return o
					}
					return signalled(j.config.Schedule, s)
				})
			}
		}
	}
}

// warn lets the job know that its host goes away; one that does not run yet is
// told when it does.
func (j *job) warn(w http.ResponseWriter, _ *http.Request) {
	select {
	case j.warned <- struct{}{}:
	default:
	}
	w.WriteHeader(http.StatusAccepted)
}

// end completes the log, then makes s the job's final state.
func (j *job) end(s *jobapi.Status) error {
	if err := j.log.Finish(); err != nil {
		j.logger.Error().Err(err).Msg("log not durable")
		if s.State == jobapi.Done {
			*s = failed(reasonExecutor, "Failed to write the job's log (%v)", err)
		}
	}
	return j.set(*s)
}

// set makes s the state, with the job's user and directory as known before.
func (j *job) set(s jobapi.Status) error {
	before, _ := j.keeper.Get()
	if s.Username == "" {
		s.Username, s.WorkingDir = before.Username, before.WorkingDir
	}
	s.SSHPort = j.sshPort
	s.At = time.Now().UTC()
	return j.keeper.Set(s)
}

// mailbox holds the order to stop the job; who waits for it is woken by each change.
type mailbox struct {
	mu    sync.Mutex
	order *order
	wake  chan struct{}
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

func (m *mailbox) update(change func(*order) *order) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.order = change(m.order)
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// get returns the order, nil if there is none.
func (m *mailbox) get() *order {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.order
}
