package api

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"dstack/controller/auth"
)

// maxRequestKey bounds the header Idempotency-Key in bytes.
const maxRequestKey = 255

// call is who asks for what: the outcome of the checks before an endpoint.
type call struct {
	auth.Caller
	version clientVersion
	// requestKey is the caller's own name for the request, if it gave one:
	// asked again, it is to have no further effect.
	requestKey *string
}

// admit runs the checks before an endpoint in the order of rest-api.md 1:
// version, token, project, role.
func (a *API) admit(g *gin.Context, r route) (call, error) {
	if !strings.HasPrefix(r.path, "/api/") {
		return call{}, nil
	}
	version, err := checkVersion(g.GetHeader(versionHeader))
	if err != nil {
		return call{}, err
	}
	level, _ := auth.LevelOf(r.path)
	caller, err := a.auth.Check(g.Request.Context(), auth.Request{
		Level: level, Authorization: g.GetHeader("Authorization"), Project: g.Param("project_name"),
	})
	switch {
	case errors.Is(err, auth.ErrNotAuthenticated):
		return call{}, &Error{Status: http.StatusUnauthorized, Msg: "Not authenticated"}
	case errors.Is(err, auth.ErrInvalidToken):
		return call{}, forbidden("Invalid token")
	case errors.Is(err, auth.ErrNoProject):
		return call{}, &Error{Status: http.StatusNotFound, Msg: "Not found"}
	case errors.Is(err, auth.ErrDenied):
		return call{}, forbidden(msgAccessDenied)
	case err != nil:
		return call{}, err //nolint:wrapcheck // says what it was doing
	}
	c := call{Caller: caller, version: version}
	if key := g.GetHeader("Idempotency-Key"); key != "" && len(key) <= maxRequestKey {
		c.requestKey = &key
	}
	return c, nil
}
