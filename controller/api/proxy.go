package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"dstack/controller/api/openapi"
	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/api"
)

// The proxy in this server (spec: services-and-gateways.md 5 and 6) knows who
// may use it and what there is; requests to replicas come later.
const (
	proxyServices = "/proxy/services/:project_name/:run_name"
	proxyModels   = "/proxy/models/:project_name"
)

// noProxyYet says how a service is reached meanwhile.
func noProxyYet(r *store.Run) string {
	port := r.Spec.Configuration.Service.Port.ContainerPort
	return fmt.Sprintf("This build of the server cannot send requests to services yet. Reach the service from your machine: "+
		"`dstack attach %s`, or `dstack port-forward %s %d`", r.Name, r.Name, port)
}

// proxyRoute is one route of the proxy; who may call it is in [auth.LevelOf],
// too.
type proxyRoute struct {
	methods []string
	path    string
	handle  func(*API, *gin.Context)
	shape   openapi.Shape
}

func proxyRoutes() []proxyRoute {
	methods := []string{
		http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodHead,
	}
	return []proxyRoute{
		{methods, proxyServices, (*API).addSlash, openapi.Shape{Type: openapi.Anything}},
		{append(methods, http.MethodOptions), proxyServices + "/*path", (*API).proxyService, openapi.Shape{Type: openapi.Anything}},
		{[]string{http.MethodGet}, proxyModels + "/models", (*API).proxiedModels, shapeOf[noBody, api.Models]()},
		{[]string{http.MethodPost}, proxyModels + "/chat/completions", (*API).proxyChat, shapeOf[api.ChatRequest, api.ChatResponse]()},
	}
}

// serveProxy registers the routes of the proxy.
func (a *API) serveProxy(e *gin.Engine) {
	for _, r := range proxyRoutes() {
		for _, m := range r.methods {
			e.Handle(m, r.path, func(g *gin.Context) { r.handle(a, g) })
		}
	}
}

// addSlash sends to the root of a service.
func (*API) addSlash(g *gin.Context) {
	scheme := "http"
	if g.Request.TLS != nil {
		scheme = "https"
	}
	to := *g.Request.URL
	to.Scheme, to.Host, to.Path = scheme, g.Request.Host, to.Path+"/"
	g.Header("Location", to.String())
	g.Status(http.StatusPermanentRedirect)
}

// proxyService answers for a service of a project.
func (a *API) proxyService(g *gin.Context) {
	project, name := g.Param("project_name"), g.Param("run_name")
	if g.GetHeader("Upgrade") != "" {
		a.refuse(g, http.StatusBadRequest, errorBody{Detail: "Upgrading connections is not supported"})
		return
	}
	runs, err := a.proxiedRuns(g.Request.Context(), project)
	if err != nil {
		a.fail(g, err)
		return
	}
	for i := range runs {
		if runs[i].Name != name {
			continue
		}
		if runs[i].Spec.Configuration.Service.Auth && !a.mayProxy(g, project) {
			return
		}
		a.refuse(g, http.StatusNotImplemented, errorBody{Detail: noProxyYet(&runs[i])})
		return
	}
	a.refuse(g, http.StatusNotFound, errorBody{Detail: "Service " + project + "/" + name + " not found"})
}

// mayProxy says whether the caller is a member of the project; if not, the
// request is answered.
func (a *API) mayProxy(g *gin.Context, project string) bool {
	_, err := a.auth.Check(g.Request.Context(), auth.Request{
		Level: auth.Member, Authorization: g.GetHeader("Authorization"), Project: project,
	})
	switch {
	case err == nil:
		return true
	case errors.Is(err, auth.ErrNotAuthenticated), errors.Is(err, auth.ErrInvalidToken), errors.Is(err, auth.ErrNoProject), errors.Is(err, auth.ErrDenied):
		a.refuse(g, http.StatusForbidden, errorBody{Detail: "Unauthenticated or unauthorized to access project " + project})
	default:
		a.fail(g, err)
	}
	return false
}

// proxiedRuns are the running services of a project that have no gateway, the
// newest first.
func (a *API) proxiedRuns(ctx context.Context, project string) ([]store.Run, error) {
	var out []store.Run
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		p, err := tx.ProjectByName(project)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return err //nolint:wrapcheck // a request to the proxy failed
		}
		rows, err := tx.Runs(store.RunFilter{ProjectIDs: []string{p.ID}, OnlyActive: true})
		for _, r := range rows {
			if r.Status == api.RunRunning && r.Service != nil && r.GatewayID == nil && r.Spec.Configuration.Service != nil {
				out = append(out, r)
			}
		}
		return err //nolint:wrapcheck // a request to the proxy failed
	})
	return out, err //nolint:wrapcheck // a request to the proxy failed
}

func (a *API) proxiedModels(g *gin.Context) {
	project := g.Param("project_name")
	if !a.mayProxy(g, project) {
		return
	}
	runs, err := a.proxiedRuns(g.Request.Context(), project)
	if err != nil {
		a.fail(g, err)
		return
	}
	out := api.Models{Object: "list", Data: []api.Model{}}
	for i := range runs {
		if m := runs[i].Service.Model; m != nil {
			out.Data = append(out.Data, api.Model{ID: m.Name, Object: "model", Created: runs[i].SubmittedAt.Unix(), OwnedBy: project})
		}
	}
	if err := a.answer(g, http.StatusOK, out); err != nil {
		a.fail(g, err)
	}
}

// proxyChat answers for a model of a project.
func (a *API) proxyChat(g *gin.Context) {
	project := g.Param("project_name")
	if !a.mayProxy(g, project) {
		return
	}
	in, err := input[api.ChatRequest](g)
	if err != nil {
		a.fail(g, err)
		return
	}
	runs, err := a.proxiedRuns(g.Request.Context(), project)
	if err != nil {
		a.fail(g, err)
		return
	}
	for i := range runs {
		if m := runs[i].Service.Model; m != nil && m.Name == in.Model {
			a.refuse(g, http.StatusNotImplemented, errorBody{Detail: noProxyYet(&runs[i])})
			return
		}
	}
	a.refuse(g, http.StatusNotFound, errorBody{Detail: "Model " + in.Model + " not found in project " + project})
}
