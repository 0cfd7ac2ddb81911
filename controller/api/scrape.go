package api

import (
	"bytes"
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// Prometheus counts requests and tells what is known of the server.
type Prometheus interface {
	// Request counts an answered request to a route.
	Request(method, route string, status int, took time.Duration)
	// Write writes all that is known now in the text format.
	Write(ctx context.Context, w io.Writer) error
}

// textFormat is the content type of Prometheus' text format.
const textFormat = "text/plain; version=0.0.4; charset=utf-8"

// scrape answers Prometheus (spec: server-operations.md 8).
func scrape(a *API, g *gin.Context, _ call) error {
	if a.deps.Prometheus == nil {
		return &Error{Status: http.StatusNotFound, Msg: "Not found"}
	}
	if want := a.deps.PrometheusToken; want != "" {
		scheme, token, _ := strings.Cut(g.GetHeader("Authorization"), " ")
		switch token = strings.TrimSpace(token); {
		case !strings.EqualFold(scheme, "bearer") || token == "":
			return forbidden(msgAccessDenied)
		case subtle.ConstantTimeCompare([]byte(token), []byte(want)) != 1:
			return forbidden("Invalid token")
		}
	}
	var body bytes.Buffer
	if err := a.deps.Prometheus.Write(g.Request.Context(), &body); err != nil {
		return fmt.Errorf("tell metrics: %w", err)
	}
	g.Data(http.StatusOK, textFormat, body.Bytes())
	return nil
}
