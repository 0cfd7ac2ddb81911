package api

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"dstack/controller/store"
)

// health is the answer of /healthcheck.
type health struct {
	Status string `json:"status"`
}

// healthcheck says that the server runs, once the database answers.
func healthcheck(a *API, g *gin.Context, _ call) error {
	err := a.deps.Store.Read(g.Request.Context(), func(tx *store.Tx) error {
		_, err := tx.CountProjects(store.ProjectFilter{})
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	return a.answer(g, http.StatusOK, health{Status: "running"})
}
