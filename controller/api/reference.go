package api

import (
	"fmt"
	"net/http"
	"reflect"
	"sync"

	"github.com/gin-gonic/gin"

	"dstack/controller/api/openapi"
	"dstack/controller/auth"
	"dstack/protocol/version"
)

// Document describes all endpoints as OpenAPI.
func Document() ([]byte, error) {
	var described []openapi.Route
	for _, r := range routes() {
		level, known := auth.LevelOf(r.path)
		described = append(described, openapi.Route{
			Method: r.method, Path: r.path, Shape: r.shape, Open: known && level == auth.Open || r.method == http.MethodGet && r.path == "/healthcheck",
		})
	}
	for _, r := range proxyRoutes() {
		for _, m := range r.methods {
			described = append(described, openapi.Route{Method: m, Path: r.path, Shape: r.shape, Open: r.path == proxyServices})
		}
	}
	document, err := openapi.Document(version.Compatible, described)
	if err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	return document, nil
}

// serveReference serves the document and the pages that show it, to everybody.
func (a *API) serveReference(e *gin.Engine) {
	document := sync.OnceValues(Document)
	e.GET("/openapi.json", func(g *gin.Context) {
		body, err := document()
		if err != nil {
			a.fail(g, err)
			return
		}
		g.Data(http.StatusOK, jsonType, body)
	})
	for _, path := range []string{"/api/docs", "/redoc"} {
		e.GET(path, func(g *gin.Context) {
			g.Header("Content-Security-Policy", openapi.PagePolicy)
			g.Data(http.StatusOK, "text/html; charset=utf-8", openapi.Page)
		})
	}
}

// repoParameter names the repo of an upload.
func repoParameter() openapi.Parameter {
	return openapi.Parameter{Name: "repo_id", Type: reflect.TypeFor[string](), Required: true}
}
