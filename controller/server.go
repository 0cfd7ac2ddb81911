// Package controller is the server: it wires the store, the engine, the
// hosts and the API together and owns their lifetimes.
package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"dstack/controller/api"
	"dstack/controller/archives"
	"dstack/controller/auth"
	"dstack/controller/backends"
	"dstack/controller/catalog"
	"dstack/controller/clouds"
	"dstack/controller/engine"
	"dstack/controller/engine/jobspec"
	"dstack/controller/hosts"
	"dstack/controller/logs"
	"dstack/controller/logs/ship"
	"dstack/controller/metrics"
	"dstack/controller/objects"
	"dstack/controller/prometheus"
	"dstack/controller/relay"
	"dstack/controller/replication"
	"dstack/controller/store"
	"dstack/controller/sweep"
	"dstack/controller/templates"
)

// The server stops in this order: no new requests and no new lines on
// streams (requestGrace), then the engine with what it has in flight, then
// the connections to hosts, then logs and database. Jobs go on. Whatever
// takes longer than stopLimit in all is left to the end of the process.
const (
	requestGrace = 2 * time.Second
	stopLimit    = 5 * time.Second
)

// relaysPerUser is how many connections to jobs a user may have through this
// server at once: each command and each `ssh` without ControlMaster is one.
const relaysPerUser = 128

// Server is a started server: its data is open, its port is taken, and
// nothing runs yet.
type Server struct {
	cfg      Config
	log      zerolog.Logger
	listener net.Listener
	jobs     *jobListener
	store    *store.Store
	replica  *replication.Replica // nil: none
	logs     *logs.Store
	logsTo   logStorage      // nil: logs stay on the disk
	shipper  *ship.Shipper   // nil: the same
	logsLost atomic.Int64    // bytes removed before they were shipped
	bucket   *objects.Bucket // of archives; nil: none
	files    *archives.Store
	clouds   *clouds.Clouds
	catalog  *catalog.Catalog
	engine   *engine.Engine
	pool     *hosts.Pool
	metrics  *metrics.Collector
	relays   *relay.Relays
	handler  http.Handler
	stopping chan struct{}
	admin    store.User
	id       string // of this database among all servers
	// tag is what machines of clouds carry; sweeper finds those that nobody knows.
	tag string
	// copied is when the database came here from elsewhere; zero if it did not.
	copied  time.Time
	sweeper *sweep.Sweeper
}

// Run starts a server and serves until ctx ends. Every error is one sentence
// for the user, and then nothing runs.
func Run(ctx context.Context, cfg Config) error {
	s, err := New(ctx, cfg)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// New takes the port, opens the data and prepares everything. On an error
// nothing stays open. Run must follow.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.Settings.Validate(); err != nil {
		return nil, err
	}
	level, err := cfg.Settings.level()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: newLogger(cfg.Out, cfg.Settings.LogFormat, level, cfg.Now),
		stopping: make(chan struct{}), jobs: newJobListener(),
		catalog: catalog.New(cfg.Settings.Catalog, &http.Client{}, cfg.Now),
	}
	if err := s.openBucket(ctx); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	// Before anything that lies here, so that a second server changes nothing.
	if err := s.joinReplica(ctx); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	if s.listener, err = listen(ctx, &cfg.Settings); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

// open opens what lies in the server's folder and wires the parts.
func (s *Server) open(ctx context.Context) error {
	file, policy, err := s.readConfig()
	if err != nil {
		return err
	}
	if err := s.openLogStorage(ctx); err != nil {
		return err
	}
	changes := api.NewChanges()
	if err := s.openStore(ctx, file, changes); err != nil {
		return err
	}
	s.logo()
	s.warnOfVariables()
	s.reportConfig(file)
	if err := s.seed(ctx, file.projectNames()); err != nil {
		return err
	}
	if err := s.tagMachines(ctx); err != nil {
		return err
	}
	s.openLogs()
	exporter := s.exporter()
	s.openClouds(exporter) //nolint:contextcheck // offers arrive in the market's own time, not during this call
	s.syncBackends(ctx, file)
	s.files = archives.New(filepath.Join(s.cfg.Settings.Dir, "data", "files"), s.bucket, s.id)
	jobs := s.jobOptions()
	host := &lateHosts{}
	payload, err := hosts.Embedded()
	if err != nil {
		return fmt.Errorf("read the built-in shim: %w", err)
	}
	s.engine = engine.New(engine.Config{
		Clouds: s.clouds, ServerID: s.tag, CopiedAt: s.copied, NewHostKey: newHostKey, BootLimit: time.Duration(s.cfg.Settings.BootLimit) * time.Second,
		Store: s.store, Hosts: host, Now: s.cfg.Now, NewID: uuid.NewString, Log: s.log,
		Jobs: jobs, LocalShared: s.cfg.Settings.LocalShared, Replica: uuid.NewString(),
		Stats: exporter, MostTries: s.cfg.Settings.OffersTried,
		ShimFor: shimDownload(s.cfg.Settings.ShimURL, payload.ShimDigest),
	})
	s.sweeper = s.newSweeper()
	sink := &logSink{store: s.store, logs: s.logs, now: s.cfg.Now, places: map[string]place{}}
	s.metrics = metrics.New(metrics.Options{
		Store: s.store, Owns: sink.owns, Now: s.cfg.Now, Log: s.log,
		RunningTTL: s.cfg.Settings.Metrics.RunningTTL, FinishedTTL: s.cfg.Settings.Metrics.FinishedTTL,
	})
	s.pool = hosts.New(hosts.Options{
		Observer: &observer{Engine: s.engine, Collector: s.metrics, logs: sink}, Logs: sink, Payload: payload,
		Blobs: s.files, Jobs: s.jobs.deliver, ServerID: s.hostsName(), LocalDir: s.localDir(), Log: s.log,
	})
	host.Pool = s.pool
	s.relays = relay.New(relaysPerUser)
	s.handler = api.New(api.Deps{ //nolint:contextcheck // each request has its own
		Store: s.store, Logs: s.logs, Engine: s.engine, Registries: newRegistries(jobs.Registry, s.cfg.Now), Policy: policy,
		ProjectQuota: s.cfg.Settings.ProjectQuota, TemplatesRepos: templates.New(filepath.Join(s.cfg.Settings.Dir, "data", "templates-repos"), s.cfg.Now, s.log),
		DefaultTemplates: s.cfg.Settings.TemplatesRepo, SSHProxy: s.cfg.Settings.SSHProxy,
		Changes: changes, Limits: s.cfg.Settings.Runs, Jobs: jobs, LocalShared: s.cfg.Settings.LocalShared, Now: s.cfg.Now, Log: s.log,
		Prometheus: s.scraped(exporter), PrometheusToken: s.cfg.Settings.Metrics.PrometheusToken, Replication: s.replication(),
		LogShipping: s.logShipping(), LogURL: s.logURL(),
		GatewayReplicas: s.cfg.Settings.GatewayReplicas, Backends: s.backends(), Sweeper: s.sweeper, Stock: s.clouds, Accounts: s.clouds,
		Stopping: s.stopping, Hosts: s.pool, Relays: s.relays, Blobs: s.files, UploadLimit: s.cfg.Settings.UploadLimit,
	})
	return nil
}

// openClouds makes the accounts of projects. Nobody asks for offers before the
// engine is there, so none arrive.
func (s *Server) openClouds(exporter *prometheus.Exporter) {
	s.clouds = clouds.New(clouds.Options{
		Store: s.store, Drivers: s.drivers(), Now: s.cfg.Now, Log: s.log,
		Report: func(c backends.Call, took time.Duration, kind backends.Kind) {
			exporter.CloudCall(c.Backend, c.Op, string(kind), took)
		},
		Arrived: func(projectID string) { s.engine.OffersArrived(projectID) },
	})
}

// lateHosts breaks the circle: the engine needs the pool, and the pool
// reports to the engine. It is filled before anything runs.
type lateHosts struct{ *hosts.Pool }

func (s *Server) jobOptions() jobspec.Options {
	o := s.cfg.Settings.Jobs
	o.NetworkMode, o.LogQuotaHour = s.cfg.Settings.JobNetworkMode, int64(s.cfg.Settings.LogQuota)
	o.OnlyProxy = s.cfg.Settings.OnlySSHProxy && s.cfg.Settings.SSHProxy.Active()
	if s.cfg.Settings.OnlySSHProxy && !o.OnlyProxy {
		s.log.Warn().Msg("DSTACK_SERVER_SSHPROXY_ENFORCED is ignored: it needs DSTACK_SSHPROXY_API_TOKEN and DSTACK_SERVER_SSHPROXY_ADDRESS")
	}
	return o
}

// Run serves until ctx ends or a part fails.
func (s *Server) Run(ctx context.Context) error {
	defer func() {
		if err := s.close(ctx); err != nil {
			s.log.Error().Err(err).Msg("data could not be closed")
		}
	}()
	if err := s.prepare(ctx); err != nil {
		return errors.Join(err, s.listener.Close())
	}
	// The parts end in order, so none of them lives in ctx itself.
	life := context.WithoutCancel(ctx)
	engineCtx, stopEngine := context.WithCancel(life)
	defer stopEngine()
	poolCtx, stopPool := context.WithCancel(life)
	defer stopPool()
	server := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: nil, BaseContext: func(net.Listener) context.Context { return life },
	}
	g, failed := errgroup.WithContext(ctx)
	copyCtx, stopCopying := context.WithCancel(life)
	defer stopCopying()
	var engineDone, poolDone sync.WaitGroup
	s.start(g, &poolDone, "hosts", func() error { return s.pool.Run(poolCtx) })
	s.start(g, &engineDone, "engine", func() error { return s.engine.Run(engineCtx) })
	g.Go(func() error { return s.replicate(copyCtx) })
	s.settleReplica(failed)
	g.Go(func() error { return s.housekeeping(failed) })
	g.Go(func() error { return s.retainLogs(failed) })
	g.Go(func() error { return s.shipLogs(copyCtx) })
	if !s.cfg.Settings.NoBackground {
		g.Go(func() error { return s.sweeper.Run(failed) })
	}
	g.Go(func() error { return s.metrics.Run(failed) })
	g.Go(func() error {
		if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve requests: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := server.Serve(s.jobs); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve jobs: %w", err)
		}
		return nil
	})
	s.announce()
	g.Go(func() error {
		<-failed.Done()
		s.log.Info().Msg("The server stops; running jobs go on")
		close(s.stopping)
		stop, cancel := context.WithTimeout(life, requestGrace)
		defer cancel()
		if err := server.Shutdown(stop); err != nil {
			// Requests that outlast the grace are cut.
			_ = server.Close()
		}
		s.relays.Close() // server knows nothing of them any more
		stopEngine()
		engineDone.Wait()
		stopPool()
		poolDone.Wait()
		stopCopying() // now nothing is added to the database or a log any more
		return nil
	})
	return within(stopLimit, failed, g.Wait)
}

// start runs a part unless the server only answers requests.
func (s *Server) start(g *errgroup.Group, done *sync.WaitGroup, name string, run func() error) {
	if s.cfg.Settings.NoBackground {
		return
	}
	done.Add(1)
	g.Go(func() error {
		defer done.Done()
		if err := run(); err != nil {
			return fmt.Errorf("run %s: %w", name, err)
		}
		return nil
	})
}

// within waits for wait, but after ctx ended at most for limit.
func within(limit time.Duration, ctx context.Context, wait func() error) error { //nolint:revive // reads as it runs
	done := make(chan error, 1)
	go func() { done <- wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("the server did not stop within %s", limit)
	}
}

// close closes what is open; it may be called when only a part is.
func (s *Server) close(ctx context.Context) error {
	var errs []error
	if s.listener != nil {
		if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close port: %w", err))
		}
	}
	if s.clouds != nil {
		s.clouds.Close()
	}
	if s.logs != nil {
		errs = append(errs, s.logs.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.bucket != nil {
		s.bucket.Close()
	}
	errs = append(errs, s.closeReplica(ctx))
	return errors.Join(errs...)
}

// seed creates the admin and the projects that are missing.
func (s *Server) seed(ctx context.Context, projects []string) error {
	seeded, err := auth.Seed(ctx, s.store, s.cfg.Settings.AdminToken, s.now(), projects...)
	if err != nil {
		return fmt.Errorf("prepare the database: %w", err)
	}
	s.admin = seeded.Admin
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		var err error
		s.id, err = tx.ServerID(uuid.NewString())
		return err
	})
	if err != nil {
		return fmt.Errorf("prepare the database: %w", err)
	}
	if !seeded.Created && s.cfg.Settings.AdminToken != "" && s.cfg.Settings.AdminToken != s.admin.Token {
		s.log.Warn().Msg("The given admin token is not used: user admin exists already and keeps its token")
	}
	return nil
}

func (s *Server) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }
