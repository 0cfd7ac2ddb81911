// Package api serves the REST API of dstack 0.22.5 (shared spec: rest-api.md).
// Handlers are thin: one adapter decodes, authorises, calls and encodes. One
// file per resource.
package api

import (
	"context"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"dstack/controller/auth"
	"dstack/controller/engine/jobspec"
	"dstack/controller/logs"
	"dstack/controller/relay"
	"dstack/controller/snapshot"
	"dstack/controller/store"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

// LogStore is where the logs of jobs are read from.
type LogStore interface {
	Poll(ctx context.Context, k logs.Key, opts logs.PollOptions) (logs.Page, error)
	ReadAt(k logs.Key, offset int64, buf []byte) (int, error)
	Size(k logs.Key) (int64, error)
	// Events grows when Poll has more to give.
	Events(k logs.Key) (int64, error)
	Watch(k logs.Key) (woken <-chan struct{}, stop func())
	// Kept is where the part that ReadAt has begins.
	Kept(ctx context.Context, k logs.Key) (int64, error)
}

// Pulls knows how far image pulls are.
type Pulls interface {
	// Pulling is the latest progress of a job's image pull, if it is known.
	Pulling(jobID string) (hostapi.PullProgress, bool)
}

// Idle knows who is connected to jobs.
type Idle interface {
	// Inactive is for how long, in seconds, nobody has been connected to a
	// job of an instance, if it is known.
	Inactive(instanceID, jobID string) (secs int, known bool)
}

// Registries says whether image registries answer.
type Registries interface {
	// Reachable returns nil if the registry of an image answers. It takes a
	// second at most.
	Reachable(ctx context.Context, image string) error
}

// TemplatesRepos are the git repos with templates for the UI.
type TemplatesRepos interface {
	// Check says whether a repo can be read.
	Check(ctx context.Context, url string) error
	// List gives the valid templates of a repo.
	List(ctx context.Context, url string) []config.Template
}

// Deps is what the API needs.
type Deps struct {
	Store      *store.Store
	Logs       LogStore
	Engine     Engine
	Registries Registries
	Blobs      Blobs
	// UploadLimit is how many bytes an upload may have; 0 or less is no limit.
	UploadLimit int
	Policy      auth.Policy
	// ProjectQuota is how many projects a user who is no global admin may own.
	ProjectQuota   int
	TemplatesRepos TemplatesRepos
	Changes        *Changes
	// Limits are what runs are checked against.
	Limits RunLimits
	// Jobs shapes jobs, as in the engine.
	Jobs jobspec.Options
	// DefaultTemplates is the repo of projects without one of their own.
	DefaultTemplates string
	// SSHProxy is the service through which users reach jobs.
	SSHProxy SSHProxy
	Backends Backends
	// Accounts may be nil: then nothing is at any cloud.
	Accounts Accounts
	Sweeper  Sweeper
	// Stock is what the backends of projects offer; nil is nothing.
	Stock Stock
	// Hosts lead to jobs for the relay, which Relays count.
	Hosts  Hosts
	Relays *relay.Relays
	// GatewayReplicas is how many replicas a gateway may have; 0 means 9.
	GatewayReplicas int
	// LocalShared lets everybody use this machine, not only administrators.
	LocalShared bool
	// Prometheus counts requests and tells what is known, to those who have
	// PrometheusToken if that is not empty; nil turns it off.
	Prometheus      Prometheus
	PrometheusToken string
	// Replication is asked how it stands; nil: the database is not replicated.
	Replication func() *Replication
	// LogShipping is asked how the copying of logs stands; nil: they stay here.
	LogShipping func() *LogShipping
	// LogURL is where people see a log in a web page of its storage; empty, or no
	// function: nowhere.
	LogURL func(logs.Key) string
	Now    func() time.Time
	Log    zerolog.Logger
	// Stopping is closed when the server begins to stop: streams then end.
	Stopping <-chan struct{}
}

// API answers requests.
type API struct {
	deps Deps
	auth *auth.Authorizer
	// answers are those of steady endpoints, ended those of runs that ended.
	answers *snapshot.Cache[question, steadyAnswer]
	ended   *snapshot.Cache[endedKey, endedRun]
}

// New makes the handler of all routes.
func New(deps Deps) http.Handler {
	now := deps.Now
	deps.Now = func() time.Time { return now().UTC().Truncate(time.Microsecond) }
	a := &API{
		deps: deps, auth: auth.New(deps.Store),
		answers: snapshot.New[question, steadyAnswer](answersLimit), ended: snapshot.New[endedKey, endedRun](endedLimit),
	}
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.RedirectTrailingSlash = false
	e.HandleMethodNotAllowed = true
	e.Use(a.recovery)
	e.NoRoute(a.unknown)
	e.NoMethod(a.unknown)
	for _, r := range routes() {
		e.Handle(r.method, r.path, a.serve(r))
	}
	a.serveProxy(e)
	a.serveReference(e)
	serveSchemas(e)
	return e
}

// unknown answers what no route is for as 0.22.5 does, where every path can be
// read, or be missing, and only known ones can be called.
func (a *API) unknown(g *gin.Context) {
	if g.Request.Method == http.MethodGet || g.Request.Method == http.MethodHead {
		a.refuse(g, http.StatusNotFound, errorBody{Detail: "Not Found"})
		return
	}
	a.refuse(g, http.StatusMethodNotAllowed, errorBody{Detail: "Method Not Allowed"})
}

// recovery turns a panic into a 500 without details.
func (a *API) recovery(g *gin.Context) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint,err113 // net/http compares it so
				panic(p)
			}
			a.log(g).Error().Interface("panic", p).Bytes("stack", debug.Stack()).Msg("request crashed")
			g.Abort()
			if !g.Writer.Written() {
				g.Data(http.StatusInternalServerError, "text/plain; charset=utf-8", []byte("Internal Server Error"))
			}
		}
	}()
	g.Next()
}

// serve runs the checks of a request in their order and then its endpoint:
// version, token, project, role; the body is the endpoint's own.
func (a *API) serve(r route) gin.HandlerFunc {
	return func(g *gin.Context) {
		start := time.Now()
		c, err := a.admit(g, r)
		if err == nil {
			err = r.run(a, g, c)
		}
		if err != nil {
			a.fail(g, err)
		}
		if a.deps.Prometheus != nil {
			a.deps.Prometheus.Request(r.method, r.path, g.Writer.Status(), time.Since(start))
		}
		if e := a.deps.Log.Debug(); e.Enabled() {
			e.Str("route", r.method+" "+r.path).Str("project", c.Project.Name).Int("status", g.Writer.Status()).
				Str("user", c.User.Name).Dur("took", time.Since(start)).Msg("request")
		}
	}
}
