package api

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"dstack/controller/store"
)

// health is the answer of /healthcheck.
type health struct {
	Status      string       `json:"status"`
	Replication *Replication `json:"replication,omitempty"` // ours: only with a replica
	Logs        *LogShipping `json:"logs,omitempty"`        // ours: only with a storage of logs
}

// Replication is how the replication of the database stands.
type Replication struct {
	// LagSeconds is how old the oldest change is that the replica lacks.
	LagSeconds float64 `json:"lag_seconds"`
	// Failing says that changes do not reach the replica now.
	Failing bool `json:"failing"`
}

// LogShipping is how the copying of logs to their storage stands.
type LogShipping struct {
	// LagBytes wait on the disk, the oldest of them for LagSeconds.
	LagBytes   int64   `json:"lag_bytes"`
	LagSeconds float64 `json:"lag_seconds"`
	// Failing says that some don't reach the storage now.
	Failing bool `json:"failing"`
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
	answer := health{Status: "running"}
	if a.deps.Replication != nil {
		answer.Replication = a.deps.Replication()
	}
	if a.deps.LogShipping != nil {
		answer.Logs = a.deps.LogShipping()
	}
	return a.answer(g, http.StatusOK, answer)
}
